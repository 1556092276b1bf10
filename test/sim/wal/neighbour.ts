/**
 * Another group of the node, whose records share batches and segments with the group of interest: it
 * makes segments begin and end often, and its replica is removed and created anew again and again.
 */
import { type GroupId, type LogIndex, type ReplicaId, toReplicaId, toTerm } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { EntryKind } from "#storage-node/raft/types.ts";
import type { RecoveredGroup, WalRecord } from "#storage-node/wal/types.ts";

const ENTRY_SIZE_BYTES_MAX = 1500;

/** Its replica on this node, and that one's log; undefined while there is none. */
export type Neighbour =
  | { readonly replica: ReplicaId; readonly start: number; readonly last: number }
  | undefined;

export function neighbourOf(found: RecoveredGroup | undefined): Neighbour {
  if (found === undefined) return undefined;
  const { replica, start, entries } = found;
  return { replica, start: start.index, last: start.index + entries.length };
}

/** What it may write next, and what it is then. */
export function nextOfNeighbour(
  group: GroupId,
  neighbour: Neighbour,
  random: Random,
): { readonly records: WalRecord[]; readonly neighbour: Neighbour } {
  const records: WalRecord[] = [];
  if (random.below(3) === 0) return { records, neighbour };
  let before = neighbour;
  if (before !== undefined && random.below(12) === 0) {
    records.push({ kind: "removeGroup", group });
    before = undefined;
    if (random.below(2) === 0) return { records, neighbour: undefined };
  }
  if (before === undefined) {
    const replica = toReplicaId(1 + random.below(2 ** 31));
    records.push(beginningOf(group, replica));
    before = { replica, start: 0, last: 0 };
  }
  const index = (before.last + 1) as LogIndex;
  const data = random.fill(new Uint8Array(random.below(ENTRY_SIZE_BYTES_MAX)));
  const term = toTerm(1);
  records.push({
    kind: "entries",
    group,
    entries: [{ index, term, kind: EntryKind.Normal, data }],
  });
  let { start } = before;
  if (random.below(4) === 0) {
    start += random.below(index - start + 1);
    const compacted = { index: start as LogIndex, term };
    records.push({ kind: "compactPrefix", group, start: compacted });
  }
  return { records, neighbour: { replica: before.replica, start, last: index } };
}

/** A replica that is created with an empty log. */
export function beginningOf(group: GroupId, replica: ReplicaId): WalRecord {
  const start = { index: 0 as LogIndex, term: toTerm(0) };
  return { kind: "snapshotMeta", group, replica, start, configuration: simpleConfiguration([]) };
}
