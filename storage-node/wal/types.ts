/**
 * The write-ahead log's contract: one append-only log of all Raft groups of a node.
 *
 * Batches become durable in the order in which they were appended (never reordered), each as a
 * whole or not at all.
 */

import type { GroupId, LogIndex } from "#shared/ids.ts";
import type { Configuration, Entry, HardState, LogStart } from "#storage-node/raft/types.ts";

export type WalRecord =
  /** Consecutive entries that continue the group's log exactly. */
  | { readonly kind: "entries"; readonly group: GroupId; readonly entries: readonly Entry[] }
  | { readonly kind: "hardState"; readonly group: GroupId; readonly hardState: HardState }
  /** Drops all entries of the group with an index of `from` or above. */
  | { readonly kind: "truncateSuffix"; readonly group: GroupId; readonly from: LogIndex }
  /** Entries up to and with `start.index` are in the engine, flushed, and no longer needed. */
  | { readonly kind: "compactPrefix"; readonly group: GroupId; readonly start: LogStart }
  /** The group's log now begins after this snapshot; all its entries are dropped. */
  | {
      readonly kind: "snapshotMeta";
      readonly group: GroupId;
      readonly start: LogStart;
      readonly configuration: Configuration;
    };

/** What recovery found of one group. */
export type RecoveredGroup = {
  readonly hardState: HardState;
  readonly start: LogStart;
  /** Configuration at `start`; undefined when never recorded. */
  readonly configuration: Configuration | undefined;
  /** Consecutive, from `start.index + 1`. */
  readonly entries: readonly Entry[];
};

export type WalRecovery = {
  readonly groups: ReadonlyMap<GroupId, RecoveredGroup>;
  /** A torn last batch was cut. It cannot have been acknowledged unless the disk lied. */
  readonly tornTail: boolean;
  readonly segments: number;
  readonly bytes: number;
};

export interface Wal {
  readonly recovery: WalRecovery;
  /**
   * Queues `records` as part of the next batch; `onDurable` runs after the `fdatasync` that covers
   * them. All that is queued while a sync runs goes into one write and one sync. The records'
   * buffers must not change until then. A failed write or sync calls the `onFatal` that `openWal`
   * was given, once, and no `onDurable` ever again.
   */
  append(records: readonly WalRecord[], onDurable: () => void): void;
  /** A batch is being written or synced: what is appended now waits for the next one. */
  readonly busy: boolean;
  /** Bytes that can still be appended without new disk space. */
  readonly reservedBytes: number;
  /** Bytes of all segment files. */
  readonly sizeBytes: number;
  /** Drops segments that hold nothing needed after `compactPrefix` records became durable. */
  removeObsoleteSegments(): Promise<number>;
  /** Waits for what is queued, seals the log, closes the files, releases the lock. */
  close(): Promise<void>;
}
