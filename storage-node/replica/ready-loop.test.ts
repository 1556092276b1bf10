import { afterEach, describe, expect, it } from "vitest";
import { ERRORS } from "#shared/errors.ts";
import { TestGroup } from "./testing.ts";

let group: TestGroup;

afterEach(() => {
  expect(group.fatal).toEqual([]);
});

/** Elects one of 2 and 3 while 1, the leader, is cut off; returns which. */
async function electWithout1(): Promise<number> {
  // As long as they may have heard from the leader they refuse to vote.
  for (const id of [2, 3]) {
    for (let tick = 0; tick < 10; tick++) group.member(id).replica.raft.tick();
  }
  group.member(2).replica.raft.campaign();
  group.member(2).loop.markDirty(group.member(2).replica);
  for (let round = 0; round < 8; round++) {
    await group.settle();
    await group.syncAll([2, 3]);
    await group.deliver(({ from, to }) => from !== 1 && to !== 1);
  }
  const winner = [2, 3].find((id) => group.member(id).replica.isLeader);
  expect(winner).toBeDefined();
  return winner!;
}

describe("ReadyLoop", () => {
  it("answers a write of a group of one only after its log batch is durable", async () => {
    group = await TestGroup.create(1);
    await group.elect(1);
    const answers = group.put(1, "a", 1);
    await group.settle();
    expect(group.member(1).wal.batches).toHaveLength(1);
    expect(answers).toEqual([]);
    await group.syncAll();
    expect(answers).toMatchObject([{ kind: "write", applied: true }]);
  });

  it("makes one entry of all writes that arrive while the log is being synced", async () => {
    group = await TestGroup.create(1);
    await group.elect(1);
    const first = group.put(1, "a", 1);
    await group.settle();
    const later = [group.put(1, "b", 2), group.put(1, "c", 3), group.put(1, "d", 4)];
    await group.settle();
    expect(group.member(1).wal.batches).toHaveLength(1);
    const lastIndex = group.member(1).replica.raft.lastIndex;
    group.member(1).wal.sync();
    await group.settle();
    expect(first).toHaveLength(1);
    expect(group.member(1).replica.raft.lastIndex).toBe(lastIndex + 1);
    await group.stabilize();
    for (const answers of later) expect(answers).toMatchObject([{ applied: true }]);
  });

  it("shows a disk that hangs as slow while it hangs, and not for long after", async () => {
    group = await TestGroup.create(1);
    await group.elect(1);
    const { loop, wal } = group.member(1);
    expect([loop.syncMicros, loop.stalledMs]).toEqual([0, 0]);
    group.put(1, "a", 1);
    await group.settle();
    expect(wal.batches).toHaveLength(1);
    group.clock.advance(5_000);
    expect(loop.stalledMs).toBe(5_000);
    const hanging = loop.syncMicros;
    expect(hanging).toBeGreaterThan(200_000);
    await group.syncAll();
    expect(loop.stalledMs).toBe(0);
    group.clock.advance(60_000);
    expect(loop.syncMicros).toBeLessThan(hanging / 10);
  });

  it("lets a follower acknowledge only what is durable there", async () => {
    group = await TestGroup.create(3);
    await group.elect(1);
    const answers = group.put(1, "a", 1);
    await group.settle();
    // The appends leave before the leader's own sync.
    expect(group.network.map(({ kind, to }) => [kind, to])).toEqual([
      ["append", 2],
      ["append", 3],
    ]);
    await group.deliver();
    expect(group.network.filter(({ kind }) => kind === "appendReply")).toEqual([]);
    await group.syncAll([2]);
    expect(group.network).toMatchObject([{ kind: "appendReply", from: 2, rejected: false }]);
    await group.deliver();
    // One follower and the leader's own copy, which is not durable yet, are no quorum.
    expect(answers).toEqual([]);
    await group.syncAll([1]);
    expect(answers).toMatchObject([{ applied: true }]);
  });

  it("commits with two followers before the leader's own sync, but applies after it", async () => {
    group = await TestGroup.create(3);
    await group.elect(1);
    const answers = group.put(1, "a", 1);
    await group.settle();
    await group.deliver();
    await group.syncAll([2, 3]);
    await group.deliver();
    expect(group.member(1).replica.raft.commit).toBe(group.member(1).replica.raft.lastIndex);
    expect(answers).toEqual([]);
    await group.syncAll([1]);
    expect(answers).toMatchObject([{ applied: true }]);
  });

  it("confirms reads by a round of heartbeats and refuses them from a follower", async () => {
    group = await TestGroup.create(3);
    await group.elect(1);
    group.put(1, "a", 1);
    await group.stabilize();
    const answers = group.get(1, "a");
    await group.settle();
    expect(answers).toEqual([]);
    await group.deliver();
    await group.deliver();
    expect(answers).toMatchObject([{ kind: "get", found: true, revision: 1 }]);
    expect(group.get(2, "a")).toMatchObject([{ kind: "failure", code: ERRORS.NOT_LEADER.wire }]);
  });

  it("keeps log time at what a read took for expired, when the clock steps back", async () => {
    group = await TestGroup.create(1);
    await group.elect(1);
    const { replica, reader } = group.member(1);
    group.put(1, "short", 1, 5_000);
    await group.stabilize();
    group.clock.jumpWall(6_000);
    const judgedAtMs = group.clock.nowMs();
    const answers: unknown[] = [];
    reader.serveOne(replica, group.getOf("short"), (body) => answers.push(body));
    group.clock.jumpWall(-6_000);
    expect(replica.logTimeMs(group.clock.nowMs())).toBe(judgedAtMs);
    // The expiry goes through the log first; nothing was said yet.
    expect(answers).toEqual([]);
  });

  it("never answers a read of a deposed leader", async () => {
    group = await TestGroup.create(3);
    await group.elect(1);
    group.put(1, "a", 1);
    await group.stabilize();
    const stale = group.get(1, "a");
    await group.settle();
    // The old leader is cut off while another is elected.
    group.network = [];
    await electWithout1();
    expect(stale).toEqual([]);
    for (let tick = 0; tick < 2; tick++) {
      for (const id of [2, 3]) {
        group.member(id).replica.raft.tick();
        group.member(id).loop.markDirty(group.member(id).replica);
      }
      await group.stabilize();
    }
    expect(group.member(1).replica.isLeader).toBe(false);
    expect(stale).toMatchObject([{ kind: "failure", code: ERRORS.NOT_LEADER.wire }]);
  });

  it("calls a proposed write's outcome unknown when leadership is lost", async () => {
    group = await TestGroup.create(3);
    await group.elect(1);
    const lost = group.put(1, "a", 1);
    await group.settle();
    group.network = [];
    await group.syncAll([1]);
    // Nobody answers: check-quorum makes the leader step down.
    const { replica, loop } = group.member(1);
    for (let tick = 0; tick < 60; tick++) {
      replica.raft.tick();
      loop.markDirty(replica);
      await group.settle();
      group.network = [];
    }
    expect(replica.isLeader).toBe(false);
    expect(lost).toMatchObject([
      { kind: "failure", code: ERRORS.NOT_LEADER.wire, notApplied: false },
    ]);
    expect(group.put(1, "b", 2)).toMatchObject([{ kind: "failure", notApplied: true }]);
  });

  it("calls a write unknown when another leader's entry took its place, and it is not there", async () => {
    group = await TestGroup.create(3);
    await group.elect(1);
    // Leader 1 proposes, alone; 2 takes over with another entry at the same index.
    const lost = group.put(1, "mine", 1);
    await group.settle();
    await group.syncAll([1]);
    group.network = [];
    const index = group.member(1).replica.raft.lastIndex;
    const winner = await electWithout1();
    await group.stabilize();
    group.member(winner).replica.raft.tick();
    group.member(winner).loop.markDirty(group.member(winner).replica);
    await group.stabilize();
    expect(group.member(1).replica.raft.termAt(index)).toBe(group.member(winner).replica.raft.term);
    // When it lost the lead, the old leader could not know yet what would become of the entry.
    expect(lost).toMatchObject([
      { kind: "failure", code: ERRORS.NOT_LEADER.wire, notApplied: false },
    ]);
    const found = group.get(winner, "mine");
    await group.stabilize();
    expect(found).toMatchObject([{ kind: "get", found: false }]);
  });
});
