/** A bare `Raft` for tests, and the messages that others would send to it. */
import { assert } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { encodeConfiguration } from "#storage-node/raft/configuration.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import {
  type Configuration,
  type Entry,
  EntryKind,
  type Message,
  type RaftOptions,
  type Ready,
  Role,
} from "#storage-node/raft/types.ts";

export const GROUP = 7 as GroupId;
export const at = (index: number): LogIndex => index as LogIndex;
export const inTerm = (term: number): Term => term as Term;
export const replica = (id: number): ReplicaId => id as ReplicaId;

export const configurationOf = (
  parts: Partial<Record<keyof Configuration, unknown>>,
): Configuration =>
  ({
    voters: [],
    outgoing: [],
    learners: [],
    learnersNext: [],
    highestId: 99,
    ...parts,
  }) as Configuration;

export const entry = (index: number, term: number, kind: EntryKind = EntryKind.Normal): Entry => ({
  index: at(index),
  term: inTerm(term),
  kind,
  data: EMPTY_BYTES,
});

/** A configuration entry. */
export const changeTo = (index: number, term: number, voters: readonly number[]): Entry => ({
  ...entry(index, term, EntryKind.Configuration),
  data: encodeConfiguration(configurationOf({ voters })),
});

export const open = (overrides: Partial<RaftOptions> = {}): Raft =>
  new Raft({
    group: GROUP,
    id: replica(1),
    configuration: configurationOf({ voters: [1, 2, 3] }),
    hardState: { term: inTerm(1), vote: replica(0), commit: at(0) },
    start: { index: at(0), term: inTerm(0) },
    entries: [entry(1, 1)],
    applied: { index: at(0), term: inTerm(0) },
    random: new SeededRandom(1),
    electionTicks: { min: 10, max: 20 },
    heartbeatTicks: 1,
    inflightMessagesMax: 4,
    inflightBytesMax: 1 << 24,
    appendBytesMax: 1 << 20,
    uncommittedBytesMax: 1 << 26,
    ...overrides,
  });

export const openAlone = (overrides: Partial<RaftOptions> = {}): Raft =>
  open({ configuration: configurationOf({ voters: [1] }), ...overrides });

export const append = (
  from: number,
  term: number,
  previous: readonly [number, number],
  entries: readonly Entry[],
  commit = 0,
): Message => ({
  kind: "append",
  group: GROUP,
  from: replica(from),
  to: replica(1),
  term: inTerm(term),
  previousIndex: at(previous[0]),
  previousTerm: inTerm(previous[1]),
  entries,
  commit: at(commit),
});

export const voteReply = (from: number, term: number): Message => ({
  kind: "voteReply",
  group: GROUP,
  from: replica(from),
  to: replica(1),
  term: inTerm(term),
  granted: true,
  commit: at(0),
  commitTerm: inTerm(0),
});

export const accepted = (from: number, term: number, index: number): Message => ({
  kind: "appendReply",
  group: GROUP,
  from: replica(from),
  to: replica(1),
  term: inTerm(term),
  index: at(index),
  rejected: false,
  hintIndex: at(0),
  hintTerm: inTerm(0),
});

/** Does everything at once: writes are durable, entries applied. */
export function settle(raft: Raft): readonly Ready[] {
  const readies: Ready[] = [];
  while (raft.hasReady()) {
    const ready = raft.ready();
    readies.push(ready);
    if (ready.mustSync) raft.appended(ready.ticket);
    const last = ready.committed.at(-1);
    if (last !== undefined) raft.applied(last.index);
  }
  return readies;
}

export function elected(): Raft {
  const raft = openAlone();
  raft.campaign();
  settle(raft);
  assert(raft.role === Role.Leader, "a group of one elects itself");
  return raft;
}
