/** What transcripts cannot show well: forged messages, bounds, odd configurations. */
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import type { GroupId } from "#shared/ids.ts";
import { READS_PENDING_PER_GROUP_MAX } from "#shared/limits.ts";
import type { Raft } from "./raft.ts";
import {
  accepted,
  append,
  at,
  changeTo,
  configurationOf,
  entry,
  GROUP,
  inTerm,
  open,
  openAlone,
  replica,
  settle,
  voteReply,
} from "./testing/core.ts";
import { type Message, Role } from "./types.ts";

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

describe("Raft.step() of snapshots", () => {
  const snapshot = (index: number, term: number, voters = [1, 2, 3]): Message => ({
    kind: "snapshot",
    group: GROUP,
    from: replica(2),
    to: replica(1),
    term: inTerm(2),
    snapshotIndex: at(index),
    snapshotTerm: inTerm(term),
    configuration: configurationOf({ voters }),
  });

  it("replaces the log, and hands nothing out and does not stand until it is installed", () => {
    const raft = open();
    raft.step(snapshot(50, 2, [1, 2]));
    const ready = raft.ready();
    expect(ready).toMatchObject({
      reset: { start: { index: 50, term: 2 }, install: true },
      truncateFrom: undefined,
      entries: [],
      mustSync: true,
      hardState: { term: 2, commit: 50 },
      messagesAfterAppend: [{ kind: "appendReply", index: 50, rejected: false }],
    });
    expect(raft.configuration.voters).toEqual([1, 2]);
    raft.step(append(2, 2, [50, 2], [entry(51, 2)], 51));
    raft.appended(ready.ticket);
    const next = raft.ready();
    raft.appended(next.ticket);
    expect(raft.hasReady()).toBe(false);
    expect(raft.forgetLeader()).toBe(true);
    expect(raft.campaign()).toBe(false);
    raft.applied(at(50));
    expect(raft.ready().committed).toMatchObject([{ index: 51 }]);
  });

  it("ignores one that brings nothing, and acknowledges what is committed", () => {
    const raft = open({ hardState: { term: inTerm(1), vote: replica(0), commit: at(1) } });
    raft.step(snapshot(1, 1));
    const ready = raft.ready();
    expect(ready.reset).toBeUndefined();
    expect(ready.messagesAfterAppend).toMatchObject([{ index: 1, rejected: false }]);
  });

  it("keeps a log that holds the snapshot's last entry, and commits up to it", () => {
    const raft = open({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] });
    raft.step(snapshot(2, 1));
    expect(raft.ready().reset).toBeUndefined();
    expect([raft.commit, raft.lastIndex]).toEqual([2, 3]);
  });

  it("ignores one of a group that it is no member of", () => {
    const raft = open();
    raft.step(snapshot(50, 2, [2, 3]));
    expect(raft.ready().messagesAfterAppend).toEqual([]);
    expect(raft.lastIndex).toBe(1);
  });
});

describe("Raft that finds a snapshot in the engine and an older log", () => {
  it("drops the log, and takes part in no term that it may have voted in", () => {
    const raft = open({
      applied: { index: at(50), term: inTerm(4) },
      hardState: { term: inTerm(1), vote: replica(3), commit: at(1) },
    });
    expect(raft.ready()).toMatchObject({
      reset: { start: { index: 50, term: 4 }, install: false },
      hardState: { term: 4, vote: 0, commit: 50 },
    });
  });

  it("keeps its vote in a term that is on disk", () => {
    const raft = open({
      applied: { index: at(50), term: inTerm(4) },
      hardState: { term: inTerm(4), vote: replica(3), commit: at(1) },
    });
    expect(raft.ready().hardState).toMatchObject({ term: 4, vote: 3 });
  });
});

describe("Raft.step() of timeoutNow", () => {
  const timeoutNow = (from: number, term: number): Message => ({
    kind: "timeoutNow",
    group: GROUP,
    from: replica(from),
    to: replica(1),
    term: inTerm(term),
  });

  it("starts a forced campaign, if the leader says so", () => {
    const raft = open();
    raft.step(append(2, 2, [1, 1], []));
    raft.step(timeoutNow(3, 2));
    expect(raft.role).toBe(Role.Follower);
    raft.step(timeoutNow(2, 2));
    expect(raft.role).toBe(Role.Candidate);
    expect(raft.ready().messagesAfterAppend).toContainEqual(
      expect.objectContaining({ kind: "vote", term: 3, forced: true }),
    );
  });

  it("does nothing on a learner", () => {
    const raft = open({ configuration: configurationOf({ voters: [2, 3], learners: [1] }) });
    raft.step(append(2, 2, [1, 1], []));
    raft.step(timeoutNow(2, 2));
    expect(raft.role).toBe(Role.Follower);
  });
});

describe("Raft.readIndex() with rounds that groups share", () => {
  it("asks under the node's round, and under a higher one for reads that came later", () => {
    const readRounds = { current: 7 };
    const rounds = (raft: Raft): number[] =>
      raft
        .ready()
        .messagesNow.filter((message) => message.kind === "heartbeat" && message.to === 2)
        .map((message) => (message as Message & { readRound: number }).readRound);
    const groups = [1, 2].map((number) => {
      const raft = open({ group: number as GroupId, readRounds, preVote: false });
      raft.campaign();
      raft.appended(raft.ready().ticket);
      raft.step({ ...voteReply(2, 2), group: number as GroupId });
      raft.appended(raft.ready().ticket);
      raft.step({ ...accepted(2, 2, 2), group: number as GroupId });
      raft.ready();
      raft.readIndex(1);
      return raft;
    });
    expect(groups.map(rounds)).toEqual([[7], [7]]);
    groups[0]!.readIndex(2);
    expect(rounds(groups[0]!)).toEqual([8]);
    // The owner raises what the groups have left, so that no later pass uses a number again.
    readRounds.current++;
    groups[1]!.readIndex(3);
    expect(rounds(groups[1]!)).toEqual([9]);
  });
});

describe("Raft.step() of a heartbeat reply", () => {
  it("confirms no round that was not opened", () => {
    const raft = open({ preVote: false });
    raft.campaign();
    raft.appended(raft.ready().ticket);
    raft.step(voteReply(2, 2));
    raft.appended(raft.ready().ticket);
    raft.step(accepted(2, 2, 2));
    raft.ready();
    const reply = (readRound: number): Message => ({
      kind: "heartbeatReply",
      group: GROUP,
      from: replica(2),
      to: replica(1),
      term: inTerm(2),
      commit: at(2),
      readRound,
    });
    raft.step(reply(50));
    raft.readIndex(7);
    raft.ready();
    raft.step(reply(0));
    expect(raft.hasReady()).toBe(false);
    raft.step(reply(1));
    expect(raft.ready().reads).toEqual([{ token: 7, index: 2 }]);
    expect(raft.status().peers[0]).toMatchObject({ id: 2, commit: 2 });
  });
});

describe("Raft.campaign()", () => {
  it("refuses with a committed change of membership not yet applied", () => {
    const raft = openAlone({
      entries: [entry(1, 1), changeTo(2, 1, [1])],
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
