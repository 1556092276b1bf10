/** Shared by the tests of this folder: short ways to make records and logs in memory. */
import { ManualClock } from "#shared/clock.ts";
import type { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  type LogIndex,
  type NodeId,
  type ReplicaId,
  type Term,
  toGroupId,
  toLogIndex,
  toNodeId,
  toReplicaId,
  toTerm,
} from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { type Entry, EntryKind } from "#storage-node/raft/types.ts";
import {
  MemoryFileSystem,
  type MemoryFileSystemOptions,
  type Operation,
  type Verdict,
} from "./memory-file-system.ts";
import type { Wal, WalRecord, WalRecovery } from "./types.ts";
import { openWal } from "./wal.ts";

export const DIRECTORY = "/data/wal";
export const NODE = toNodeId(7);
export const GROUP = toGroupId(3);
/** This node's replica of the group. */
export const REPLICA = toReplicaId(2);
/** Head, and room for a few small batches. */
export const SEGMENT_SIZE_BYTES = 8192;

export function entry(
  index: number,
  data: Uint8Array | string = `value ${index}`,
  term = 1,
): Entry {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  return { index: toLogIndex(index), term: toTerm(term), kind: EntryKind.Normal, data: bytes };
}

export const entries = (...list: Entry[]): WalRecord => ({
  kind: "entries",
  group: GROUP,
  entries: list,
});

export const hardState = (term: number, vote: number, commit: number) =>
  ({
    kind: "hardState",
    group: GROUP,
    hardState: { term: toTerm(term), vote: toReplicaId(vote), commit: toLogIndex(commit) },
  }) as const satisfies WalRecord;

export const truncate = (from: number): WalRecord => ({
  kind: "truncateSuffix",
  group: GROUP,
  from: from as LogIndex,
});

export const compact = (index: number, term = 1): WalRecord => ({
  kind: "compactPrefix",
  group: GROUP,
  start: { index: index as LogIndex, term: term as Term },
});

export const snapshot = (
  index: number,
  term = 1,
  group: GroupId = GROUP,
  replica: ReplicaId = REPLICA,
): Extract<WalRecord, { kind: "snapshotMeta" }> => ({
  kind: "snapshotMeta",
  group,
  replica,
  start: { index: index as LogIndex, term: term as Term },
  configuration: {
    voters: [1 as ReplicaId, 2 as ReplicaId],
    outgoing: [],
    learners: [9 as ReplicaId],
    learnersNext: [],
    highestId: 9 as ReplicaId,
  },
});

export const remove = (group: GroupId = GROUP): WalRecord => ({ kind: "removeGroup", group });

export type TestLog = {
  readonly wal: Wal;
  readonly fs: MemoryFileSystem;
  readonly clock: ManualClock;
  readonly fatal: KvError[];
};

export type TestLogOptions = {
  readonly fs?: MemoryFileSystem;
  readonly nodeId?: NodeId;
  readonly segmentSizeBytes?: number;
  /** Whether a log without `GROUP` gets it, with no entries. Default true. */
  readonly withGroup?: boolean;
};

export async function openTestLog(options: TestLogOptions = {}): Promise<TestLog> {
  const fs = options.fs ?? new MemoryFileSystem();
  const clock = new ManualClock();
  const fatal: KvError[] = [];
  const wal = await openWal({
    directory: DIRECTORY,
    nodeId: options.nodeId ?? NODE,
    segmentSizeBytes: options.segmentSizeBytes ?? SEGMENT_SIZE_BYTES,
    fs,
    clock,
    random: new SeededRandom(1),
    onFatal: (error) => fatal.push(error),
  });
  const isMissing = !wal.recovery.groups.has(GROUP);
  if (isMissing && (options.withGroup ?? true)) await appendDurably(wal, snapshot(0, 0));
  return { wal, fs, clock, fatal };
}

/** Appends and waits until durable. */
export function appendDurably(wal: Wal, ...records: WalRecord[]): Promise<void> {
  return new Promise((resolve) => wal.append(records, resolve));
}

/** Lets all that the memory file system was asked for, and what follows from it, happen. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 200; i++) await Promise.resolve();
}

export type WatchedDisk = {
  readonly fs: MemoryFileSystem;
  readonly operations: Operation[];
  /** Called for every operation; `count` is how many there were, this one included. */
  verdict: (operation: Operation, count: number) => Verdict;
};

/** A disk that records its operations, and lets a test change what they do. */
export function watchedDisk(options: MemoryFileSystemOptions = {}): WatchedDisk {
  const operations: Operation[] = [];
  const fs = new MemoryFileSystem({
    ...options,
    intercept: (operation): Verdict => {
      operations.push(operation);
      return disk.verdict(operation, operations.length);
    },
  });
  const disk: WatchedDisk = { fs, operations, verdict: () => undefined };
  return disk;
}

/** Recovered groups as plain text, for comparison. */
export function describeRecovery(recovery: WalRecovery): string {
  return JSON.stringify(
    [...recovery.groups].sort(([a], [b]) => a - b),
    (_key, value) => (value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value),
  );
}
