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
import { EntryKind, type Message, Role } from "./types.ts";

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
