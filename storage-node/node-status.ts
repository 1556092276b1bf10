/** What a storage node says of itself: for its log and for operators. */
import type { NodeId } from "#shared/ids.ts";
import type { Engine } from "./engine/engine.ts";
import type { DiskGuard } from "./replica/disk-guard.ts";
import type { Replica } from "./replica/replica.ts";
import type { Wal } from "./wal/types.ts";

export type StorageNodeStatus = {
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly groups: number;
  readonly groupsLed: number;
  readonly writable: boolean;
  readonly engine: string;
  readonly logBytes: number;
  readonly recoveredTornTail: boolean;
};

type Parts = {
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly engine: Engine;
  readonly wal: Wal;
  readonly diskGuard: DiskGuard;
};

export function statusOf(
  { nodeId, clusterId, engine, wal, diskGuard }: Parts,
  replicas: readonly Replica[],
): StorageNodeStatus {
  return {
    ...{ nodeId, clusterId },
    groups: replicas.length,
    groupsLed: replicas.filter((replica) => replica.isLeader).length,
    writable: diskGuard.writable && !wal.spaceLow,
    engine: engine.name,
    logBytes: wal.sizeBytes,
    recoveredTornTail: wal.recovery.tornTail,
  };
}
