/** What transcripts cannot show well: tickets, identity of data, bounds, odd configurations. */
import { describe, expect, it } from "vitest";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { READS_PENDING_PER_GROUP_MAX, READY_COMMITTED_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { Raft } from "./raft.ts";
import {
  type Configuration,
  type Entry,
  EntryKind,
  type Message,
  type RaftOptions,
  type Ready,
  Role,
} from "./types.ts";

const GROUP = 7 as GroupId;
const at = (index: number): LogIndex => index as LogIndex;
const inTerm = (term: number): Term => term as Term;
const replica = (id: number): ReplicaId => id as ReplicaId;

const configurationOf = (parts: Partial<Record<keyof Configuration, unknown>>): Configuration =>
  ({
    voters: [],
    outgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
    ...parts,
  }) as Configuration;

const entry = (index: number, term: number, kind: EntryKind = EntryKind.Normal): Entry => ({
  index: at(index),
  term: inTerm(term),
  kind,
  data: EMPTY_BYTES,
});

const open = (overrides: Partial<RaftOptions> = {}): Raft =>
  new Raft({
    group: GROUP,
    id: replica(1),
    configuration: configurationOf({ voters: [1, 2, 3] }),
    hardState: { term: inTerm(1), vote: replica(0), commit: at(0) },
    start: { index: at(0), term: inTerm(0) },
    entries: [entry(1, 1)],
    applied: at(0),
    random: new SeededRandom(1),
    electionTicks: { min: 10, max: 20 },
    heartbeatTicks: 1,
    inflightMessagesMax: 4,
    inflightBytesMax: 1 << 24,
    appendBytesMax: 1 << 20,
    uncommittedBytesMax: 1 << 26,
    ...overrides,
  });

const openAlone = (overrides: Partial<RaftOptions> = {}): Raft =>
  open({ configuration: configurationOf({ voters: [1] }), ...overrides });

const append = (
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

const voteReply = (from: number, term: number): Message => ({
  kind: "voteReply",
  group: GROUP,
  from: replica(from),
  to: replica(1),
  term: inTerm(term),
  granted: true,
});

const accepted = (from: number, term: number, index: number): Message => ({
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
function settle(raft: Raft): readonly Ready[] {
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

function elected(overrides: Partial<RaftOptions> = {}): Raft {
  const raft = openAlone(overrides);
  raft.campaign();
  settle(raft);
  expect(raft.role).toBe(Role.Leader);
  return raft;
}

describe("Raft.appended()", () => {
  it("ignores a ticket of an earlier term although index and term fit (ABA)", () => {
    const raft = open();
    raft.step(append(2, 2, [1, 1], [entry(2, 2)]));
    const first = raft.ready();
    raft.step(append(3, 3, [1, 1], [entry(2, 3)]));
    const second = raft.ready();
    raft.step(append(2, 4, [1, 1], [entry(2, 2), entry(3, 4)], 2));
    const third = raft.ready();
    expect([first, second, third].map((ready) => ready.truncateFrom)).toEqual([undefined, 2, 2]);
    // The disk now holds 2@2 of the first batch, and is about to replace it.
    raft.appended(first.ticket);
    expect(raft.durableIndex).toBe(1);
    raft.appended(second.ticket);
    expect(raft.durableIndex).toBe(1);
    expect(raft.ready().committed.map((each) => each.index)).toEqual([]);
    raft.appended(third.ticket);
    expect(raft.durableIndex).toBe(3);
  });

  it("ignores a ticket whose entry was replaced within the term of its issue", () => {
    const raft = open();
    raft.step(append(2, 2, [1, 1], [entry(2, 2)]));
    // Term 3 is entered before the entry of term 2 is issued.
    raft.step(append(3, 3, [1, 1], []));
    const first = raft.ready();
    expect(first.ticket).toEqual({ index: 2, logTerm: 2, issueTerm: 3 });
    raft.step(append(3, 3, [1, 1], [entry(2, 3)]));
    const second = raft.ready();
    raft.appended(first.ticket);
    expect(raft.durableIndex).toBe(1);
    raft.appended(second.ticket);
    expect(raft.durableIndex).toBe(2);
  });

  it("a batch of the new term vouches for those whose tickets it made stale", () => {
    const raft = open();
    raft.step(append(2, 2, [1, 1], [entry(2, 2), entry(3, 2)]));
    const first = raft.ready();
    raft.step({ ...append(3, 3, [3, 2], []) });
    const second = raft.ready();
    expect(second.entries).toEqual([]);
    raft.appended(first.ticket);
    expect(raft.durableIndex).toBe(1);
    raft.appended(second.ticket);
    expect(raft.durableIndex).toBe(3);
  });

  it("counts the candidate's own vote only for a write", () => {
    const raft = open({ preVote: false, configuration: configurationOf({ voters: [1, 2] }) });
    raft.campaign();
    const vote = raft.ready();
    expect(vote.hardState).toEqual({ term: 2, vote: 1, commit: 0 });
    const nothing = raft.ready();
    expect(nothing.mustSync).toBe(false);
    raft.step(voteReply(2, 2));
    raft.appended(nothing.ticket);
    expect(raft.role).toBe(Role.Candidate);
    raft.appended(vote.ticket);
    expect(raft.role).toBe(Role.Leader);
  });

  it("keeps several outstanding batches apart", () => {
    const raft = elected();
    const tickets = ["a", "b", "c"].map((text) => {
      raft.propose(utf8(text));
      return raft.ready().ticket;
    });
    raft.appended(tickets[1]!);
    expect(raft.commit).toBe(tickets[1]!.index);
    raft.appended(tickets[0]!);
    expect(raft.commit).toBe(tickets[1]!.index);
    raft.appended(tickets[2]!);
    expect(raft.commit).toBe(raft.lastIndex);
  });
});

describe("Raft.step() of appends", () => {
  const diverged = (): Raft => open({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] });

  it("commits and acknowledges no further than the message proves", () => {
    const raft = diverged();
    raft.step(append(2, 2, [1, 1], [entry(2, 1)], 3));
    expect(raft.commit).toBe(2);
    const { messagesAfterAppend } = raft.ready();
    expect(messagesAfterAppend).toMatchObject([{ kind: "appendReply", index: 2, rejected: false }]);
    expect(raft.lastIndex).toBe(3);
  });

  it("accepts an append that begins below the commit index", () => {
    const raft = diverged();
    raft.step(append(2, 2, [3, 1], [], 3));
    raft.step(append(2, 2, [0, 0], [entry(1, 1), entry(2, 1)], 3));
    const replies = raft.ready().messagesAfterAppend;
    expect(replies).toMatchObject([{ index: 3 }, { index: 3 }]);
  });

  it("ignores messages for another group or replica", () => {
    const raft = open();
    raft.step({ ...append(2, 5, [1, 1], [entry(2, 5)]), group: 8 as GroupId });
    raft.step({ ...append(2, 5, [1, 1], [entry(2, 5)]), to: replica(9) });
    expect(raft.term).toBe(1);
    expect(raft.hasReady()).toBe(false);
  });

  it("stops when a heartbeat commits what this replica should have and has not", () => {
    const raft = open();
    const heartbeat: Message = {
      kind: "heartbeat",
      group: GROUP,
      from: replica(2),
      to: replica(1),
      term: inTerm(2),
      commit: at(5),
      readRound: 0,
    };
    expect(() => raft.step(heartbeat)).toThrow("beyond the log's end");
  });

  it("stops at a second leader of the same term", () => {
    const raft = open();
    raft.step(append(2, 2, [1, 1], []));
    expect(() => raft.step(append(3, 2, [1, 1], []))).toThrow("one leader at most");
  });
});

describe("Raft and what is not built yet", () => {
  const envelope = { group: GROUP, from: replica(2), to: replica(1), term: inTerm(2) };

  it("a snapshot message is a sign of life and changes no log", () => {
    const raft = open();
    raft.step({
      ...envelope,
      kind: "snapshot",
      snapshotIndex: at(50),
      snapshotTerm: inTerm(2),
      configuration: configurationOf({ voters: [2] }),
    });
    expect(raft.status()).toMatchObject({ leader: 2, term: 2, commit: 0, lastIndex: 1 });
  });

  it("timeoutNow starts no campaign", () => {
    const raft = open();
    raft.step({ ...envelope, kind: "timeoutNow" });
    expect(raft.role).toBe(Role.Follower);
    expect(settle(raft).flatMap((ready) => ready.messagesNow)).toEqual([]);
  });
});

describe("Raft.campaign()", () => {
  it("refuses with a committed change of membership not yet applied", () => {
    const raft = openAlone({
      entries: [entry(1, 1), entry(2, 1, EntryKind.Configuration)],
      hardState: { term: inTerm(1), vote: replica(0), commit: at(2) },
    });
    expect(raft.campaign()).toBe(false);
    settle(raft);
    expect(raft.campaign()).toBe(true);
  });

  it("refuses on a learner, which also never stands on a timeout", () => {
    const raft = open({ configuration: configurationOf({ voters: [2, 3], learners: [1] }) });
    expect(raft.campaign()).toBe(false);
    for (let i = 0; i < 100; i++) raft.tick();
    expect(raft.role).toBe(Role.Follower);
    expect(raft.hasReady()).toBe(false);
  });

  it("needs a majority of both halves of a joint configuration", () => {
    const configuration = configurationOf({ voters: [1, 2, 3], outgoing: [1, 4, 5] });
    const raft = open({ preVote: false, configuration });
    raft.campaign();
    const { messagesAfterAppend, ticket } = raft.ready();
    expect(messagesAfterAppend.map((message) => message.to)).toEqual([2, 3, 4, 5]);
    raft.appended(ticket);
    raft.step(voteReply(2, 2));
    raft.step(voteReply(3, 2));
    expect(raft.role).toBe(Role.Candidate);
    raft.step(voteReply(4, 2));
    expect(raft.role).toBe(Role.Leader);
  });
});

describe("Raft replication", () => {
  it("sends to learners, and does not count them", () => {
    const configuration = configurationOf({ voters: [1, 2], learners: [3] });
    const raft = open({ preVote: false, configuration });
    raft.campaign();
    raft.appended(raft.ready().ticket);
    raft.step(voteReply(2, 2));
    const ready = raft.ready();
    expect(ready.messagesNow.map((message) => message.to)).toEqual([2, 3]);
    raft.appended(ready.ticket);
    raft.step(accepted(3, 2, 2));
    expect(raft.commit).toBe(0);
    raft.step(accepted(2, 2, 2));
    expect(raft.commit).toBe(2);
  });

  it("commits in a joint configuration only with both majorities", () => {
    const configuration = configurationOf({ voters: [1, 2, 3], outgoing: [1, 4, 5] });
    const raft = open({ preVote: false, configuration });
    raft.campaign();
    raft.appended(raft.ready().ticket);
    for (const from of [2, 3, 4]) raft.step(voteReply(from, 2));
    raft.appended(raft.ready().ticket);
    raft.step(accepted(2, 2, 2));
    raft.step(accepted(3, 2, 2));
    expect(raft.commit).toBe(0);
    raft.step(accepted(5, 2, 2));
    expect(raft.commit).toBe(2);
  });

  it("all proposals between two Readys share one append, and the data is never copied", () => {
    const raft = open({ preVote: false });
    raft.campaign();
    raft.appended(raft.ready().ticket);
    raft.step(voteReply(2, 2));
    settle(raft);
    raft.step(accepted(2, 2, 2));
    settle(raft);
    const data = [utf8("a"), utf8("b"), utf8("c")];
    for (const each of data) raft.propose(each);
    const ready = raft.ready();
    const appends = ready.messagesNow.filter((message) => message.to === 2);
    expect(appends).toHaveLength(1);
    const sent = appends[0]!.kind === "append" ? appends[0]!.entries : [];
    expect(sent).toHaveLength(3);
    data.forEach((each, i) => {
      expect(sent[i]!.data).toBe(each);
      expect(ready.entries[i]).toBe(sent[i]);
    });
  });
});

describe("Raft.ready()", () => {
  it("is not needed by an idle leader that decides alone, however much time passes", () => {
    const raft = elected();
    for (let i = 0; i < 1000; i++) {
      raft.tick();
      expect(raft.hasReady()).toBe(false);
    }
    expect(raft.role).toBe(Role.Leader);
  });

  it("hands out everything once", () => {
    const raft = elected();
    raft.propose(utf8("a"));
    raft.readIndex(5);
    const ready = raft.ready();
    expect(ready.entries).toHaveLength(1);
    expect(ready.reads).toEqual([{ token: 5, index: 2 }]);
    expect(raft.hasReady()).toBe(false);
    expect(raft.ready()).toMatchObject({ entries: [], reads: [], committed: [], mustSync: false });
  });

  it("writes nothing for a commit index alone", () => {
    const raft = elected();
    raft.propose(utf8("a"));
    raft.appended(raft.ready().ticket);
    const ready = raft.ready();
    expect(ready.committed).toHaveLength(1);
    expect(ready.hardState).toBeUndefined();
  });

  it("bounds the bytes handed out for applying", () => {
    const raft = elected();
    const data = new Uint8Array(READY_COMMITTED_BYTES_MAX / 2);
    for (let i = 0; i < 4; i++) raft.propose(data);
    raft.appended(raft.ready().ticket);
    const counts: number[] = [];
    while (raft.hasReady()) counts.push(raft.ready().committed.length);
    expect(counts).toEqual([1, 1, 1, 1]);
  });
});

describe("Raft.readIndex()", () => {
  it("is bounded while no commit of the term has come", () => {
    const raft = openAlone();
    raft.campaign();
    raft.appended(raft.ready().ticket);
    expect(raft.role).toBe(Role.Leader);
    for (let token = 1; token <= READS_PENDING_PER_GROUP_MAX; token++) {
      expect(raft.readIndex(token).kind).toBe("pending");
    }
    expect(raft.readIndex(0).kind).toBe("full");
    const reads = settle(raft).flatMap((ready) => ready.reads);
    expect(reads).toHaveLength(READS_PENDING_PER_GROUP_MAX);
    expect(raft.readIndex(0).kind).toBe("pending");
  });

  it("a refused forwarded read is dropped", () => {
    const raft = open();
    raft.step(append(2, 2, [1, 1], []));
    expect(raft.readIndex(9).kind).toBe("pending");
    raft.step({
      kind: "readIndexReply",
      group: GROUP,
      from: replica(2),
      to: replica(1),
      term: inTerm(2),
      token: 9,
      index: at(0),
    });
    expect(raft.ready().droppedReads).toEqual([9]);
  });

  it("a replica that does not lead refuses a forwarded read", () => {
    const raft = open();
    raft.step({
      kind: "readIndex",
      group: GROUP,
      from: replica(2),
      to: replica(1),
      term: inTerm(1),
      token: 9,
      index: at(0),
    });
    expect(raft.ready().messagesNow).toMatchObject([
      { kind: "readIndexReply", token: 9, index: 0 },
    ]);
  });
});

describe("Raft construction", () => {
  it("refuses a log of a later term than the hard state", () => {
    expect(() => open({ entries: [entry(1, 2)] })).toThrow("later term");
  });

  it("refuses heartbeats slower than elections", () => {
    expect(() => open({ heartbeatTicks: 10 })).toThrow("heartbeats");
  });
});
