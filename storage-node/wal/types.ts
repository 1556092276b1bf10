/**
 * The write-ahead log's contract: one append-only log of all Raft groups of a node.
 *
 * Batches become durable in the order in which they were appended (never reordered), each as a
 * whole or not at all. The bytes on disk are described in docs/formats/wal.md.
 */

import type { Clock } from "#shared/clock.ts";
import type { KvError } from "#shared/errors.ts";
import type { GroupId, LogIndex, NodeId, ReplicaId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { Configuration, Entry, HardState, LogStart } from "#storage-node/raft/types.ts";
import type { WalFigures } from "./figures.ts";
import type { WalFileSystem } from "./file-system.ts";

export type WalRecord =
  /** Consecutive entries that continue the group's log exactly. */
  | { readonly kind: "entries"; readonly group: GroupId; readonly entries: readonly Entry[] }
  | { readonly kind: "hardState"; readonly group: GroupId; readonly hardState: HardState }
  /** Drops all entries of the group with an index of `from` or above. */
  | { readonly kind: "truncateSuffix"; readonly group: GroupId; readonly from: LogIndex }
  /** Entries up to and with `start.index` are in the engine, flushed, and no longer needed. */
  | { readonly kind: "compactPrefix"; readonly group: GroupId; readonly start: LogStart }
  /**
   * The group's log now begins after this snapshot; all its entries are dropped. The first record of
   * a group is one, and so is the first after a `removeGroup`: it says which replica of the group
   * this node holds, and that changes only by a removal. A new learner begins at 0, without members.
   */
  | {
      readonly kind: "snapshotMeta";
      readonly group: GroupId;
      readonly replica: ReplicaId;
      readonly start: LogStart;
      readonly configuration: Configuration;
    }
  /** This node's replica of the group is no more: all that the log says of it is dropped. */
  | { readonly kind: "removeGroup"; readonly group: GroupId };

/** What recovery found of one group. */
export type RecoveredGroup = {
  /** This node's own replica of the group. */
  readonly replica: ReplicaId;
  readonly hardState: HardState;
  readonly start: LogStart;
  /**
   * As of the last `snapshotMeta`. Later configurations are in `entries`, or, when those were
   * compacted, in the engine.
   */
  readonly configuration: Configuration;
  /** Consecutive, from `start.index + 1`. */
  readonly entries: readonly Entry[];
};

export type WalRecovery = {
  readonly groups: ReadonlyMap<GroupId, RecoveredGroup>;
  /** There was no log in the directory. Wrong if the engine beside it is not empty. */
  readonly created: boolean;
  /** A torn last batch was cut. It cannot have been acknowledged unless the disk lied. */
  readonly tornTail: boolean;
  readonly segments: number;
  readonly bytes: number;
};

export type WalOptions = {
  /** Made if missing; holds nothing but the log. One process at a time (see data-directory.ts). */
  readonly directory: string;
  readonly nodeId: NodeId;
  /** Of each segment file; from `WAL_SEGMENT_SIZE_BYTES_MIN`. May differ from the last run's. */
  readonly segmentSizeBytes: number;
  readonly fs: WalFileSystem;
  readonly clock: Clock;
  readonly random: Random;
  /** Called at most once. The process must end: see `Wal.append`. */
  readonly onFatal: (error: KvError) => void;
};

export interface Wal {
  readonly recovery: WalRecovery;
  /**
   * Queues `records` as part of the next batch; `onDurable` runs after the `fdatasync` that covers
   * them. All that is queued while a sync runs goes into one write and one sync. The records'
   * buffers must not change until then. A failed write or sync calls the `onFatal` that `openWal`
   * was given, once, and no `onDurable` ever again.
   *
   * The records of one call are never torn apart: after a crash all or none of them are there.
   * Without records nothing is written, and `onDurable` runs once all earlier appends are durable
   * (in a microtask if they are already).
   */
  append(records: readonly WalRecord[], onDurable: () => void): void;
  /**
   * Records that need not survive a crash by themselves (a commit index that moved): they ride in
   * front of the next `append`, or are written without a sync once the log is idle.
   */
  appendLazily(records: readonly Extract<WalRecord, { kind: "hardState" }>[]): void;
  /** A batch is being written or synced: what is appended now waits for the next one. */
  readonly busy: boolean;
  /** Bytes that can still be appended without new disk space. Shrinks by what is queued. */
  readonly reservedBytes: number;
  /**
   * The disk had no room for the next segment. Proposals should be refused with STORAGE_FULL while
   * it is so; what is appended nevertheless goes into `reservedBytes`, then waits for space.
   */
  readonly spaceLow: boolean;
  /** Bytes of all segment files, the prepared one included. */
  readonly sizeBytes: number;
  readonly figures: WalFigures;
  /**
   * Drops segments that hold nothing needed after `compactPrefix` or `removeGroup` records became
   * durable, and answers how many.
   */
  removeObsoleteSegments(): Promise<number>;
  /** Waits for what is queued, seals the log, closes the files. Idempotent. */
  close(): Promise<void>;
}
