/**
 * The log's rules once more, written the plainest way, for tests: what recovery must find after some
 * records, and random records that are allowed next.
 */
import { crc32 } from "node:zlib";
import { assert, unreachable } from "#shared/assert.ts";
import {
  type GroupId,
  type LogIndex,
  type ReplicaId,
  type Term,
  toGroupId,
  toLogIndex,
  toReplicaId,
  toTerm,
} from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { type Entry, EntryKind, type HardState } from "#storage-node/raft/types.ts";
import { snapshot } from "./test-support.ts";
import type { RecoveredGroup, WalRecord } from "./types.ts";

/** Immutable: every step makes a new one. */
export type LogState = ReadonlyMap<GroupId, RecoveredGroup>;

const NO_HARD_STATE: HardState = {
  term: toTerm(0),
  vote: 0 as ReplicaId,
  commit: toLogIndex(0),
};
/** Replica ids are drawn from so many that a group gets none twice. */
const REPLICAS = 2 ** 31;

/** `state` after one append of `records`. */
export function afterRecords(state: LogState, records: readonly WalRecord[]): LogState {
  const next = new Map(state);
  for (const record of records) {
    const { group: id } = record;
    const group = next.get(id);
    if (record.kind === "removeGroup") next.delete(id);
    else if (record.kind === "snapshotMeta") {
      const { replica, start, configuration } = record;
      const hardState = group?.hardState ?? NO_HARD_STATE;
      next.set(id, { replica, hardState, start, configuration, entries: [] });
    } else {
      assert(group !== undefined, "a group begins with a snapshot");
      next.set(id, afterRecord(group, record));
    }
  }
  return next;
}

type WithinGroup = Exclude<WalRecord, { kind: "removeGroup" | "snapshotMeta" }>;

function afterRecord(group: RecoveredGroup, record: WithinGroup): RecoveredGroup {
  const { entries } = group;
  switch (record.kind) {
    case "entries":
      return { ...group, entries: [...entries, ...record.entries] };
    case "hardState":
      return { ...group, hardState: record.hardState };
    case "truncateSuffix":
      return { ...group, entries: entries.filter(({ index }) => index < record.from) };
    case "compactPrefix": {
      const { start } = record;
      return { ...group, start, entries: entries.filter(({ index }) => index > start.index) };
    }
    default:
      return unreachable(record);
  }
}

/** Two states are equal exactly if their descriptions are. */
export function describeState(state: LogState): string {
  const groups = [...state].sort(([a], [b]) => a - b);
  return groups
    .map(([id, { replica, hardState, start, configuration, entries }]) => {
      const list = entries.map(
        ({ index, term, kind, data }) => `${index}@${term}/${kind}:${data.length}:${crc32(data)}`,
      );
      return JSON.stringify([id, replica, hardState, start, configuration, list.join(" ")]);
    })
    .join("\n");
}

export type RandomRecordsOptions = {
  readonly random: Random;
  readonly groups: number;
  /** Most entries are small; every eighth has up to this size. */
  readonly entrySizeBytesMax: number;
};

/** What a node might append in `state`: the records of one or two groups. */
export function randomRecords(state: LogState, options: RandomRecordsOptions): WalRecord[] {
  const { random, groups } = options;
  const first = random.below(groups);
  const records = recordsOfGroup(state, toGroupId(first), options);
  if (groups > 1 && random.below(3) === 0) {
    records.push(...recordsOfGroup(state, toGroupId((first + 1) % groups), options));
  }
  return records;
}

/**
 * A hard state that may be written lazily: nothing but the commit index moved. Undefined when the
 * group that was drawn is not there.
 */
export function randomCommit(
  state: LogState,
  { random, groups }: RandomRecordsOptions,
): Extract<WalRecord, { kind: "hardState" }> | undefined {
  const id = toGroupId(random.below(groups));
  const group = state.get(id);
  if (group === undefined) return undefined;
  const commit = toLogIndex(group.start.index + random.below(group.entries.length + 1));
  return { kind: "hardState", group: id, hardState: { ...group.hardState, commit } };
}

function recordsOfGroup(
  state: LogState,
  id: GroupId,
  { random, entrySizeBytesMax }: RandomRecordsOptions,
): WalRecord[] {
  const group = state.get(id);
  if (group === undefined) return [firstRecord(id, random)];
  const { replica, start, entries } = group;
  const last = start.index + entries.length;
  const size = (): number => random.below(random.below(8) === 0 ? entrySizeBytesMax : 200);
  const make = (index: number, term: number): Entry => ({
    index: toLogIndex(index),
    term: toTerm(term),
    kind: random.below(10) === 0 ? EntryKind.Configuration : EntryKind.Normal,
    data: random.fill(new Uint8Array(size())),
  });
  const hard = (term: number, commit: number): WalRecord => ({
    kind: "hardState",
    group: id,
    hardState: hardStateOf(term, random.below(4), commit),
  });
  const term = Math.max(1, group.hardState.term);
  const kind = random.below(12);
  if (kind <= 1 && last > start.index) {
    const index = start.index + 1 + random.below(last - start.index);
    const found = entries[index - start.index - 1]!;
    return [{ kind: "compactPrefix", group: id, start: { index: found.index, term: found.term } }];
  }
  if (kind === 2 && last > start.index) {
    const from = toLogIndex(start.index + 1 + random.below(last - start.index));
    const replacement = make(from, term + 1);
    return [
      { kind: "truncateSuffix", group: id, from },
      { kind: "entries", group: id, entries: [replacement] },
      hard(term + 1, start.index),
    ];
  }
  if (kind === 3 && random.below(4) === 0) {
    return [snapshot(last + random.below(5), term, id, replica)];
  }
  if (kind === 4) return [hard(term + random.below(2), last)];
  if (kind === 5 && random.below(3) === 0) {
    const removal: WalRecord = { kind: "removeGroup", group: id };
    return random.below(2) === 0 ? [removal] : [removal, firstRecord(id, random)];
  }
  const added = Array.from({ length: 1 + random.below(3) }, (_, i) => make(last + 1 + i, term));
  return [{ kind: "entries", group: id, entries: added }, hard(term, last)];
}

/** A replica that is new to this node: most begin empty. */
function firstRecord(id: GroupId, random: Random): WalRecord {
  const replica = toReplicaId(1 + random.below(REPLICAS));
  const index = random.below(4) === 0 ? random.below(50) : 0;
  return snapshot(index, index === 0 ? 0 : 1, id, replica);
}

const hardStateOf = (term: number, vote: number, commit: number): HardState => ({
  term: term as Term,
  vote: vote as ReplicaId,
  commit: commit as LogIndex,
});
