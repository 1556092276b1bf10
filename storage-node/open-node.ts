/**
 * Opens a data directory and starts the node in it, in the only safe order: lock, identity, engine, log,
 * groups, membership. What was opened is closed in the opposite order, also when a later step fails.
 */
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { MetricFamily } from "#shared/runtime/metrics.ts";
import type { Tracing } from "#shared/tracing.ts";
import { type DataDirectory, type Identity, openDataDirectory } from "./data-directory.ts";
import type { Engine } from "./engine/engine.ts";
import { type EngineKind, openEngine } from "./engine/open.ts";
import type { ChangeLogRetention } from "./machine/journal-trim.ts";
import { checkFeatures, type SelfDescription } from "./meta/bootstrap.ts";
import { MemberHandler } from "./meta/cluster-handler.ts";
import { Coordinator } from "./meta/coordinator.ts";
import { DirectoryService, type DirectoryServiceOptions } from "./meta/directory-service.ts";
import { MapHolder } from "./meta/map-holder.ts";
import { Member } from "./meta/member.ts";
import { MetaStore } from "./meta/meta-store.ts";
import type { ClusterHandler, ClusterPeers, DirectoryHandler } from "./meta/peers.ts";
import { UsageSums } from "./meta/usage-sums.ts";
import { readNodeMetrics } from "./metrics/node-metrics.ts";
import { type SnapshotParts, StorageNode } from "./node.ts";
import { DiskGuard, type FreeSpaceProbe } from "./replica/disk-guard.ts";
import { openGroups, purgeLeftovers, replicaParts } from "./replica/open-groups.ts";
import { recoverInstallations } from "./snapshot/install.ts";
import type { Transport } from "./transport/transport.ts";
import { nodeFileSystem, type WalFileSystem } from "./wal/file-system.ts";
import { isSegmentName } from "./wal/recover.ts";
import type { Wal } from "./wal/types.ts";
import { openWal } from "./wal/wal.ts";

/** How a node takes part in its cluster. */
export type ClusterOptions = {
  readonly replicationFactor: number;
  readonly metaReplicas: number;
  readonly movesAtOnceMax: number;
  readonly rebuildAfterMs: number;
};

/** Where a node keeps what outlives it. */
export type NodeDisk = {
  readonly openDirectory: typeof openDataDirectory;
  readonly openEngine: typeof openEngine;
  /** Of the log, and of snapshots on their way. */
  readonly files: WalFileSystem;
};

export type OpenNodeOptions = {
  readonly dataDirectory: string;
  /** Must be that of the data directory. Undefined takes what is there. */
  readonly nodeId: NodeId | undefined;
  /** Must be that of the data directory. Undefined takes what is there. */
  readonly clusterId: string | undefined;
  readonly engine: EngineKind;
  readonly walSegmentSizeBytes: number;
  readonly diskReserveBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  /** Of all snapshots that the node sends together. */
  readonly snapshotBytesPerSecond?: number | undefined;
  readonly freeSpace: FreeSpaceProbe;
  /** How far change logs reach back. */
  readonly changeLog?: ChangeLogRetention | undefined;
  readonly softwareVersion: string;
  /** By default nothing is traced. */
  readonly tracing?: Tracing | undefined;
  readonly cluster: ClusterOptions;
  /** The machine's own by default; the simulator has others. */
  readonly disk?: NodeDisk;
  /** Gives an empty directory its node: founds a cluster or joins one. It must call `adopt`. */
  readonly becomeMember: (directory: DataDirectory) => Promise<void>;
  /** What the node says of itself, once the directory is open. */
  readonly describe: (directory: DataDirectory) => SelfDescription;
  /** The ways to other nodes, once it is known who this one is. They are closed with the node. */
  readonly connect: (identity: Identity) => {
    readonly transport: Transport;
    readonly peers: ClusterPeers;
  };
  /** The node can no longer vouch for its data: the process must end at once. */
  readonly onFatal: (error: unknown) => void;
  /** A snapshot on its way has failed; it is tried again. */
  readonly onTransferError?: ((error: unknown) => void) | undefined;
  readonly onWritable: (writable: boolean, freeBytes: number) => void;
  /** The planner of the cluster, which this node leads, has decided something. */
  readonly onPlan: (reasons: readonly string[]) => void;
  /** The meta group's leader cannot plan, and why; told when that changes. */
  readonly onPlanFailure?: ((error: unknown) => void) | undefined;
  readonly onRemoved: (detail: string) => void;
};

export type OpenNode = {
  readonly node: StorageNode;
  readonly identity: Identity;
  readonly cluster: ClusterHandler;
  readonly directory: DirectoryHandler;
  /** Reads all figures. */
  metrics(): readonly MetricFamily[];
  /** Closes the node as `StorageNode.close` does, then gives up the directory. Idempotent. */
  close(timeoutMs: number): Promise<void>;
};

/**
 * @throws KvError CLUSTER_CONFLICT when this build is older than what the node's cluster uses,
 * DATA_CORRUPT when log or engine are damaged or do not belong together,
 * INVALID_ARGUMENT when the directory is another node's, UNAVAILABLE when another process is using
 * it or the disk fails, STORAGE_FULL when a new log finds no space
 */
export async function openStorageNode(options: OpenNodeOptions): Promise<OpenNode> {
  const { openDirectory } = diskOf(options);
  const directory = await openDirectory({
    path: options.dataDirectory,
    nodeId: options.nodeId,
    clusterId: options.clusterId,
    engine: options.engine,
    clock: options.clock,
    random: options.random,
  });
  try {
    if (directory.identity === undefined) await options.becomeMember(directory);
    const { identity } = directory;
    if (identity === undefined) {
      throw new KvError("UNAVAILABLE", "the node did not become a member of a cluster");
    }
    return await openMember(options, directory, identity);
  } catch (error) {
    await directory.close();
    throw error;
  }
}

const diskOf = ({ disk }: OpenNodeOptions): NodeDisk =>
  disk ?? { openDirectory: openDataDirectory, openEngine, files: nodeFileSystem() };

async function openMember(
  options: OpenNodeOptions,
  directory: DataDirectory,
  identity: Identity,
): Promise<OpenNode> {
  const { clock, random, onFatal } = options;
  const disk = diskOf(options);
  // Before anything is opened: what an older build would make of it is not known.
  checkFeatures(firstMap(directory));
  let engine: Engine | undefined;
  let wal: Wal | undefined;
  let connected: ReturnType<OpenNodeOptions["connect"]> | undefined;
  try {
    engine = await disk.openEngine({ kind: options.engine, directory: directory.enginePath });
    // Before it is opened, which would make a new one: the next start would take that for the node's.
    if (identity.initialized && !(await hasSegments(disk.files, directory.walPath))) {
      throw lostLog(directory);
    }
    wal = await openWal({
      directory: directory.walPath,
      nodeId: identity.nodeId,
      segmentSizeBytes: options.walSegmentSizeBytes,
      fs: disk.files,
      clock,
      random,
      onFatal,
    });
    const parts = replicaParts({ wal, engine, random });
    await purgeLeftovers(parts);
    const staging = { fs: disk.files, directory: directory.snapshotsPath };
    const installed = await recoverInstallations({
      ...staging,
      engine,
      groups: wal.recovery.groups,
    });
    const replicas = await openGroups(parts, installed);
    connected = options.connect(identity);
    return await start(options, directory, identity, {
      engine,
      wal,
      parts,
      replicas,
      ...connected,
    });
  } catch (error) {
    connected?.transport.close();
    connected?.peers.close();
    await wal?.close();
    await engine?.close();
    throw error;
  }
}

/** A directory that is missing has none. */
function hasSegments(files: WalFileSystem, directory: string): Promise<boolean> {
  return new Promise((resolve) => {
    files.list(directory, (error, names) => {
      // What else may be wrong with it, opening it will tell.
      resolve(error === null ? names.some(isSegmentName) : error.code !== "ENOENT");
    });
  });
}

const lostLog = ({ path, identity }: DataDirectory): KvError =>
  new KvError(
    "DATA_CORRUPT",
    `the log in ${path} is gone, and with it what node ${identity!.nodeId} has promised: restore the ` +
      "whole data directory from a backup, or let it join as a new node with an empty directory.",
  );

type Opened = {
  readonly engine: Engine;
  readonly wal: Wal;
  readonly parts: ReturnType<typeof replicaParts>;
  readonly replicas: Awaited<ReturnType<typeof openGroups>>;
  readonly transport: Transport;
  readonly peers: ClusterPeers;
};

async function start(
  options: OpenNodeOptions,
  files: DataDirectory,
  identity: Identity,
  opened: Opened,
): Promise<OpenNode> {
  const { clock, onFatal, softwareVersion, onPlan, onPlanFailure } = options;
  const { transport, peers } = opened;
  const { nodeId } = identity;
  const maps = new MapHolder(firstMap(files), (map) => files.saveMap(map), onFatal);
  let member: Member | undefined;
  const onMetaApplied = (): void => member?.metaApplied();
  const node = await startNode(options, files, identity, { ...opened, onMetaApplied });
  try {
    const store = new MetaStore(node.meta, clock);
    const { founding } = files;
    const self = options.describe(files);
    const usage = new UsageSums(() => node.meta.term);
    const shared = { nodeId, store, maps, usage, clock, peers };
    const told = { onPlan, onPlanFailure };
    const coordinator = new Coordinator({ ...shared, ...options.cluster, ...told, founding });
    const directory = directoryOf(node, shared, onFatal);
    member = new Member({
      ...shared,
      directory,
      host: node.host,
      transport,
      coordinator,
      softwareVersion,
      self,
      figures: () => node.figures(),
      onRemoved: options.onRemoved,
      onFatal,
    });
    await member.start();
    await files.markInitialized();
    await node.soloGroupsServe();
    member.metaApplied();
    const stateHash = node.stateHash.bind(node);
    const ended = member;
    return {
      node,
      identity,
      cluster: new MemberHandler({ self, softwareVersion, nodeId, maps, coordinator, stateHash }),
      directory,
      metrics: () => readNodeMetrics(node.sources(), maps.current.version),
      close: async (timeoutMs) => {
        await ended.stop();
        await maps.close();
        await node.close(timeoutMs);
        peers.close();
        await files.close();
      },
    };
  } catch (error) {
    await member?.stop();
    await maps.close();
    await node.close(0);
    throw error;
  }
}

function startNode(
  options: OpenNodeOptions,
  files: DataDirectory,
  { nodeId, clusterId }: Identity,
  opened: Opened & { readonly onMetaApplied: () => void },
): Promise<StorageNode> {
  const { clock, onFatal } = options;
  const { engine, wal, parts, replicas, transport, onMetaApplied } = opened;
  return StorageNode.start({
    nodeId,
    clusterId,
    engine,
    wal,
    replicas,
    replicaParts: parts,
    transport,
    clock,
    tracing: options.tracing,
    // What the memory engine holds can come back from the log only.
    mayCompactLog: options.engine !== "memory",
    changeLog: options.changeLog,
    diskGuard: diskGuardOf(options),
    snapshots: options.engine === "memory" ? undefined : snapshotParts(options, files),
    onMetaApplied,
    onFatal,
  });
}

function directoryOf(
  node: StorageNode,
  shared: Pick<DirectoryServiceOptions, "maps" | "usage" | "clock">,
  onFatal: (error: unknown) => void,
): DirectoryService {
  const isWritable = (): boolean => node.status().writable;
  return new DirectoryService({ ...shared, group: node.meta, isWritable, onFatal });
}

function snapshotParts(options: OpenNodeOptions, directory: DataDirectory): SnapshotParts {
  const { random, diskReserveBytes, snapshotBytesPerSecond, onTransferError } = options;
  return {
    fs: diskOf(options).files,
    directory: directory.snapshotsPath,
    random,
    reserveBytes: diskReserveBytes,
    bytesPerSecond: snapshotBytesPerSecond,
    onTransferError,
  };
}

function diskGuardOf(options: OpenNodeOptions): DiskGuard {
  return new DiskGuard({
    path: options.dataDirectory,
    reserveBytes: options.diskReserveBytes,
    clock: options.clock,
    probe: options.freeSpace,
    onChange: options.onWritable,
  });
}

/** An identity is only written behind a map. */
function firstMap(directory: DataDirectory) {
  const { map, path } = directory;
  if (map === undefined) throw new KvError("DATA_CORRUPT", `the cluster map in ${path} is gone`);
  return map;
}
