/**
 * Opens a data directory and starts the node in it, in the only safe order: lock, engine, log,
 * groups. What was opened is closed in the opposite order, also when a later step fails.
 */
import type { Clock } from "#shared/clock.ts";
import type { NodeId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { openDataDirectory } from "./data-directory.ts";
import type { Engine } from "./engine/engine.ts";
import { type EngineKind, openEngine } from "./engine/open.ts";
import { type SnapshotParts, StorageNode } from "./node.ts";
import { DiskGuard, type FreeSpaceProbe } from "./replica/disk-guard.ts";
import { openGroups } from "./replica/open-groups.ts";
import { recoverInstallations } from "./snapshot/install.ts";
import type { Staging } from "./snapshot/staged-file.ts";
import type { Transport } from "./transport/transport.ts";
import { nodeFileSystem } from "./wal/file-system.ts";
import type { Wal } from "./wal/types.ts";
import { openWal } from "./wal/wal.ts";

export type OpenNodeOptions = {
  readonly dataDirectory: string;
  readonly nodeId: NodeId;
  /** Must be that of the data directory; undefined takes what is there, or draws a new one. */
  readonly clusterId: string | undefined;
  readonly engine: EngineKind;
  readonly walSegmentSizeBytes: number;
  readonly diskReserveBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport;
  /** Of all snapshots that the node sends together. */
  readonly snapshotBytesPerSecond?: number | undefined;
  readonly freeSpace: FreeSpaceProbe;
  /** The node can no longer vouch for its data: the process must end at once. */
  readonly onFatal: (error: unknown) => void;
  /** A snapshot on its way has failed; it is tried again. */
  readonly onTransferError?: ((error: unknown) => void) | undefined;
  readonly onWritable: (writable: boolean, freeBytes: number) => void;
};

export type OpenNode = {
  readonly node: StorageNode;
  /** Closes the node as `StorageNode.close` does, then gives up the directory. Idempotent. */
  close(timeoutMs: number): Promise<void>;
};

/**
 * @throws KvError DATA_CORRUPT when log or engine are damaged or do not belong together,
 * INVALID_ARGUMENT when the directory is another node's, UNAVAILABLE when another process is using
 * it or the disk fails, STORAGE_FULL when a new log finds no space
 */
export async function openStorageNode(options: OpenNodeOptions): Promise<OpenNode> {
  const { nodeId, clock, random, transport, onFatal } = options;
  const directory = await openDataDirectory({
    path: options.dataDirectory,
    nodeId,
    clusterId: options.clusterId,
    engine: options.engine,
    clock,
    random,
  });
  let engine: Engine | undefined;
  let wal: Wal | undefined;
  try {
    engine = await openEngine({ kind: options.engine, directory: directory.enginePath });
    wal = await openWal({
      directory: directory.walPath,
      nodeId,
      segmentSizeBytes: options.walSegmentSizeBytes,
      fs: nodeFileSystem(),
      clock,
      random,
      onFatal,
    });
    const fs = nodeFileSystem();
    const staging = { fs, directory: directory.snapshotsPath };
    const { groups } = wal.recovery;
    const installed = await recoverInstallations({ ...staging, engine, groups });
    const replicas = await openGroups({ wal, engine, random, installed });
    const diskGuard = new DiskGuard({
      path: options.dataDirectory,
      reserveBytes: options.diskReserveBytes,
      clock,
      probe: options.freeSpace,
      onChange: options.onWritable,
    });
    const node = await StorageNode.start({
      nodeId,
      clusterId: directory.identity.clusterId,
      engine,
      wal,
      replicas,
      transport,
      clock,
      // What the memory engine holds can come back from the log only.
      mayCompactLog: options.engine !== "memory",
      diskGuard,
      snapshots: options.engine === "memory" ? undefined : snapshotParts(options, staging),
      onFatal,
    });
    return {
      node,
      close: async (timeoutMs) => {
        await node.close(timeoutMs);
        await directory.close();
      },
    };
  } catch (error) {
    await wal?.close();
    await engine?.close();
    await directory.close();
    throw error;
  }
}

function snapshotParts(options: OpenNodeOptions, staging: Staging): SnapshotParts {
  const { random, diskReserveBytes, snapshotBytesPerSecond, onTransferError } = options;
  return {
    ...staging,
    random,
    reserveBytes: diskReserveBytes,
    bytesPerSecond: snapshotBytesPerSecond,
    onTransferError,
  };
}
