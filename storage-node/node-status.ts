/** What a storage node says of itself: for its log and operators, and for its report to the meta group. */
import type { NodeId } from "#shared/ids.ts";
import type { Engine } from "./engine/engine.ts";
import type { NodeFigures } from "./meta/member.ts";
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

export function reportOf({ engine, wal, diskGuard }: Parts, syncMicros: number): NodeFigures {
  const usedBytes = engine.stats().sizeBytes + wal.sizeBytes;
  return {
    usedBytes,
    // Unknown until the guard has looked once.
    capacityBytes: Number.isFinite(diskGuard.freeBytes) ? usedBytes + diskGuard.freeBytes : 0,
    syncMicros,
    writable: diskGuard.writable && !wal.spaceLow,
  };
}
