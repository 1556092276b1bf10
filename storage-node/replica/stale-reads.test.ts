import { describe, expect, it } from "vitest";
import type { ResultBody } from "#proto/codec/messages.ts";
import { ERRORS } from "#shared/errors.ts";
import type { ReplicaId } from "#shared/ids.ts";
import { READ_WAIT_MS_MAX } from "#shared/limits.ts";
import { TestGroup } from "./testing.ts";

const BOUND_MS = 1_000;

/** Member 1 leads three, and "key" is stored and applied everywhere. */
async function setUp(): Promise<TestGroup> {
  const group = await TestGroup.create(3);
  await group.elect(1);
  group.put(1, "key", 1);
  await group.stabilize();
  // Followers learn of the commit with the next heartbeat.
  group.member(1).replica.raft.tick();
  group.member(1).loop.markDirty(group.member(1).replica);
  await group.stabilize();
  return group;
}

/** As the node does it: at once if the replica is known to be fresh, else by a round. */
function staleGet(group: TestGroup, id: number): ResultBody[] {
  const { replica, loop, reader } = group.member(id);
  const answers: ResultBody[] = [];
  const get = { ...group.getOf("key"), maxStalenessMs: BOUND_MS };
  const reply = (body: ResultBody) => void answers.push(body);
  if (replica.isFresh(BOUND_MS, group.clock.monotonicMs())) {
    reader.serveOne(replica, get, reply);
  } else if (replica.read(get, reply)) loop.markDirty(replica);
  return answers;
}

const FOUND = { kind: "get", found: true };
const NOT_LEADER = { kind: "failure", code: ERRORS.NOT_LEADER.wire, notApplied: true };

describe("a stale read", () => {
  it("of a follower asks the leader first, and then nobody until the bound has passed", async () => {
    const group = await setUp();
    const first = staleGet(group, 2);
    await group.settle();
    expect(first).toEqual([]);
    expect(group.network.map(({ kind }) => kind)).toContain("readIndex");
    await group.stabilize();
    expect(first).toMatchObject([FOUND]);
    group.clock.advance(BOUND_MS);
    expect(staleGet(group, 2)).toMatchObject([FOUND]);
    group.clock.advance(1);
    expect(staleGet(group, 2)).toEqual([]);
  });

  it("counts from when the question left, not from when the answer came", async () => {
    const group = await setUp();
    const first = staleGet(group, 2);
    await group.settle();
    group.clock.advance(BOUND_MS + 1);
    await group.stabilize();
    // Its rows may be that old, and that is what the reader allowed when it asked.
    expect(first).toMatchObject([FOUND]);
    expect(staleGet(group, 2)).toEqual([]);
  });

  it("of a follower that is cut off is refused when its bound has passed", async () => {
    const group = await setUp();
    staleGet(group, 2);
    await group.stabilize();
    group.clock.advance(BOUND_MS + 1);
    const answers = staleGet(group, 2);
    await group.settle();
    group.network = [];
    const { replica, loop } = group.member(2);
    for (let tick = 0; tick < 40 && answers.length === 0; tick++) {
      replica.raft.tick();
      loop.markDirty(replica);
      await group.settle();
    }
    expect(answers).toMatchObject([NOT_LEADER]);
  });

  it("of a deposed leader is refused too: that it led once says nothing of now", async () => {
    const group = await setUp();
    group.clock.advance(BOUND_MS + 1);
    const answers = staleGet(group, 1);
    await group.settle();
    expect(answers).toEqual([]);
    // Nobody hears its round, and another one takes over.
    group.network = [];
    const { replica, loop } = group.member(1);
    replica.raft.transferLeadership(2 as ReplicaId);
    loop.markDirty(replica);
    for (let round = 0; round < 10; round++) {
      await group.syncAll();
      await group.deliver(({ kind }) => kind !== "heartbeat");
    }
    expect(answers).toMatchObject([NOT_LEADER]);
  });

  it("waits for what the round found to be applied here", async () => {
    const group = await setUp();
    // Member 2 does not hear of this write, member 3 makes the quorum.
    const written = group.put(1, "other", 2);
    for (let round = 0; round < 6; round++) {
      await group.syncAll([1, 3]);
      await group.deliver(({ to, from }) => to !== 2 && from !== 2);
    }
    expect(written).toMatchObject([{ kind: "write", applied: true }]);
    const answers = staleGet(group, 2);
    await group.settle();
    // The answer to its round arrives, the entries do not.
    for (let round = 0; round < 6; round++) {
      await group.deliver((message) => message.kind !== "append");
    }
    expect(answers).toEqual([]);
    const { replica } = group.member(2);
    group.clock.advance(READ_WAIT_MS_MAX);
    replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
    expect(answers).toEqual([]);
    // It holds a place in the stream's window, and may never come true.
    group.clock.advance(1);
    replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
    expect(answers).toMatchObject([{ ...NOT_LEADER, leaderNodeId: 1 }]);
    expect(replica.idle).toBe(true);
  });

  it("is not given up by a leader, which applies all that it has committed", async () => {
    const group = await TestGroup.create(1);
    await group.elect(1);
    const { replica, loop } = group.member(1);
    const written = group.put(1, "key", 1);
    await group.settle();
    const answers = group.get(1, "key");
    loop.markDirty(replica);
    await group.settle();
    group.clock.advance(2 * READ_WAIT_MS_MAX);
    replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
    await group.stabilize();
    expect(written).toMatchObject([{ kind: "write", applied: true }]);
    expect(answers).toMatchObject([{ kind: "get" }]);
  });
});

describe("a linearizable read", () => {
  it("of a follower is refused with the leader's node", async () => {
    const group = await setUp();
    const answers = group.get(2, "key");
    expect(answers).toMatchObject([{ ...NOT_LEADER, leaderNodeId: 1 }]);
  });
});

describe("a replica that leaves", () => {
  it("answers all who wait, writes that may be applied as unknown", async () => {
    const group = await setUp();
    const { replica } = group.member(1);
    const proposed = group.put(1, "proposed", 3);
    await group.settle();
    const pending = group.put(1, "pending", 4);
    const read = group.get(1, "key");
    replica.leave();
    expect(proposed).toMatchObject([{ kind: "failure", notApplied: false, leaderNodeId: 0 }]);
    expect(pending).toMatchObject([{ kind: "failure", notApplied: true }]);
    expect(read).toMatchObject([NOT_LEADER]);
    expect(group.put(1, "late", 5)).toMatchObject([NOT_LEADER]);
    expect(group.get(1, "key")).toMatchObject([NOT_LEADER]);
    expect(replica.idle).toBe(true);
  });
});
