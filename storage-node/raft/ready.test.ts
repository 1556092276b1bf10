/** The owner's side: what a Ready holds, and what a ticket vouches for. */
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { READY_COMMITTED_BYTES_MAX } from "#shared/limits.ts";
import { append, configurationOf, elected, entry, open, voteReply } from "./testing/core.ts";
import { Role } from "./types.ts";

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
    expect(first.ticket).toEqual({ index: 2, logTerm: 2, issueTerm: 3, commit: 0 });
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
