/**
 * What the log knows of every group without its entries: its replica, hard state, start,
 * configuration, last index, and which segments hold its live entries.
 *
 * It moves in two steps. `admit` checks records when they are appended, against everything appended
 * before: a log that recovery would refuse must never reach the disk. `commit` takes effect when the
 * batch is durable, so that checkpoints and the removal of segments only rely on durable records.
 * Replay runs the same two steps, so what was accepted while writing is accepted while reading.
 *
 * Removal is safe because a segment begins with a checkpoint of all groups: older segments are
 * needed for nothing but entries, and `oldestSegment` names the first that has a live one.
 *
 * A removed group is forgotten here, and needs no segment, yet never comes back: segments go oldest
 * first and without a hole, so as long as one is left that names the group, in its checkpoint or in
 * a record, the later one with the removal is left as well, and replay comes by it. Where the oldest
 * segment that is left lies behind the removal, its checkpoint does not name the group. On the way to
 * the removal, replay may meet a group whose entries went with their segments; only what is missing at
 * the end counts. Whatever else would be said of a removed group, by a writer that does not know yet, is
 * refused: a group begins with a `snapshotMeta` and nothing else.
 */
import { assert, unreachable } from "#shared/assert.ts";
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type { Configuration, HardState, LogStart } from "#storage-node/raft/types.ts";
import { type CheckpointRecord, encodeRecord, recordSizeBytes } from "./records.ts";
import type { WalRecord } from "./types.ts";

/** Entries from `firstIndex` up to the next run's first are in segment `segment`. */
type Run = { readonly segment: number; readonly firstIndex: LogIndex };

type GroupState = {
  readonly replica: ReplicaId;
  hardState: HardState;
  start: LogStart;
  configuration: Configuration;
  lastIndex: LogIndex;
  /** Ascending in both fields. Covers the live entries. */
  runs: Run[];
};

type SnapshotMetaRecord = Extract<WalRecord, { kind: "snapshotMeta" }>;
type Admitted = { readonly replica: ReplicaId; start: LogIndex; last: LogIndex };

const NO_HARD_STATE: HardState = {
  term: 0 as Term,
  vote: 0 as ReplicaId,
  commit: 0 as LogIndex,
};

export class GroupTable {
  readonly #groups = new Map<GroupId, GroupState>();
  readonly #admitted = new Map<GroupId, Admitted>();
  #checkpointSizeBytes = 0;

  /** Size of the records that `encodeCheckpoint` writes. */
  get checkpointSizeBytes(): number {
    return this.#checkpointSizeBytes;
  }

  get groups(): ReadonlyMap<GroupId, Readonly<GroupState>> {
    return this.#groups;
  }

  /** @throws AssertionError when a record does not continue its group's log. */
  admit(records: readonly WalRecord[]): void {
    for (const record of records) {
      let group = this.#admitted.get(record.group);
      if (group === undefined) {
        assert(record.kind === "snapshotMeta", "a group begins with a snapshotMeta");
        group = { replica: record.replica, start: 0 as LogIndex, last: 0 as LogIndex };
        this.#admitted.set(record.group, group);
      }
      if (record.kind === "removeGroup") this.#admitted.delete(record.group);
      else admitRecord(group, record);
    }
  }

  /** Makes admitted records, now durable in `segment`, take effect. */
  commit(records: readonly WalRecord[], segment: number): void {
    for (const record of records) {
      if (record.kind === "snapshotMeta") this.#restart(record);
      else this.#commitRecord(record, segment);
    }
  }

  #restart({ group, replica, start, configuration }: SnapshotMetaRecord): void {
    const hardState = this.#groups.get(group)?.hardState ?? NO_HARD_STATE;
    this.#drop(group);
    this.#add(group, {
      replica,
      hardState,
      start,
      configuration,
      lastIndex: start.index,
      runs: [],
    });
  }

  #add(id: GroupId, group: GroupState): void {
    this.#groups.set(id, group);
    this.#checkpointSizeBytes += recordSizeBytes(checkpointOf(id, group));
  }

  #drop(id: GroupId): void {
    const group = this.#groups.get(id);
    if (group === undefined) return;
    this.#groups.delete(id);
    this.#checkpointSizeBytes -= recordSizeBytes(checkpointOf(id, group));
  }

  #commitRecord(record: Exclude<WalRecord, SnapshotMetaRecord>, segment: number): void {
    const group = this.#groups.get(record.group);
    assert(group !== undefined, "what is committed was admitted");
    switch (record.kind) {
      case "entries": {
        const first = record.entries[0]!.index;
        group.lastIndex = record.entries.at(-1)!.index;
        if (group.runs.at(-1)?.segment !== segment) group.runs.push({ segment, firstIndex: first });
        return;
      }
      case "hardState":
        group.hardState = record.hardState;
        return;
      case "truncateSuffix":
        if (record.from > group.lastIndex) return;
        group.lastIndex = (record.from - 1) as LogIndex;
        while (group.runs.length > 0 && group.runs.at(-1)!.firstIndex >= record.from) {
          group.runs.pop();
        }
        dropCompactedRuns(group);
        return;
      case "compactPrefix":
        group.start = record.start;
        dropCompactedRuns(group);
        return;
      case "removeGroup":
        this.#drop(record.group);
        return;
      default:
        unreachable(record);
    }
  }

  /** Takes over a group from the checkpoint of the oldest segment that is left. */
  restore(record: CheckpointRecord): void {
    const { group, replica, hardState, start, configuration, lastIndex } = record;
    assert(!this.#groups.has(record.group), "a checkpoint names a group once");
    assert(lastIndex >= start.index, "a group's log does not end before its start");
    this.#add(group, { replica, hardState, start, configuration, lastIndex, runs: [] });
    this.#admitted.set(group, { replica, start: start.index, last: lastIndex });
  }

  /** Writes one checkpoint record per group at `offset`, ordered by group; answers the end. */
  encodeCheckpoint(target: Uint8Array, offset: number): number {
    let position = offset;
    for (const id of [...this.#groups.keys()].sort((a, b) => a - b)) {
      position = encodeRecord(target, position, checkpointOf(id, this.#groups.get(id)!));
    }
    return position;
  }

  /** The first segment that holds a live entry; `current` when no older one does. */
  oldestSegment(current: number): number {
    let oldest = current;
    for (const { runs } of this.#groups.values()) {
      if (runs.length > 0 && runs[0]!.segment < oldest) oldest = runs[0]!.segment;
    }
    return oldest;
  }

  /** A group whose first live entry no run covers: the segment that held it is gone. */
  groupWithMissingEntries(): GroupId | undefined {
    for (const [id, { start, lastIndex, runs }] of this.#groups) {
      if (lastIndex === start.index) continue;
      if (runs.length === 0 || runs[0]!.firstIndex > start.index + 1) return id;
    }
    return undefined;
  }
}

function checkpointOf(group: GroupId, state: GroupState): CheckpointRecord {
  const { replica, hardState, start, configuration, lastIndex } = state;
  return { kind: "checkpoint", group, replica, hardState, start, lastIndex, configuration };
}

type RemoveGroupRecord = Extract<WalRecord, { kind: "removeGroup" }>;

function admitRecord(group: Admitted, record: Exclude<WalRecord, RemoveGroupRecord>): void {
  switch (record.kind) {
    case "entries":
      assert(record.entries.length > 0, "a record of entries has at least one");
      for (const entry of record.entries) {
        assert(entry.index === group.last + 1, "entries continue their group's log");
        group.last = entry.index;
      }
      return;
    case "hardState":
      return;
    case "truncateSuffix":
      assert(record.from > group.start, "compacted entries are never truncated");
      if (record.from <= group.last) group.last = (record.from - 1) as LogIndex;
      return;
    case "compactPrefix":
      assert(record.start.index >= group.start, "compaction never goes back");
      assert(record.start.index <= group.last, "compaction stays within the log");
      group.start = record.start.index;
      return;
    case "snapshotMeta":
      assert(record.replica > 0, "a replica has an id");
      assert(record.replica === group.replica, "only a removal makes room for another replica");
      assert(record.start.index >= group.start, "a snapshot never goes back");
      group.start = record.start.index;
      group.last = record.start.index;
      return;
    default:
      unreachable(record);
  }
}

function dropCompactedRuns(group: GroupState): void {
  const { runs, start } = group;
  if (group.lastIndex <= start.index) {
    runs.length = 0;
    return;
  }
  let dropped = 0;
  while (dropped + 1 < runs.length && runs[dropped + 1]!.firstIndex <= start.index + 1) dropped++;
  if (dropped > 0) runs.splice(0, dropped);
}
