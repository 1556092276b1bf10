/** A leader whose followers answer heartbeats and store nothing: what it was asked is given up in time. */
import { beforeEach, describe, expect, it } from "vitest";
import { ERRORS } from "#shared/errors.ts";
import type { ReplicaId } from "#shared/ids.ts";
import { READ_WAIT_MS_MAX } from "#shared/limits.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { TestGroup } from "./testing.ts";

const WRITE_DEADLINE_MS = 10_000;

const failure = (code: "DEADLINE_EXCEEDED" | "UNAVAILABLE", notApplied: boolean) => ({
  ...{ kind: "failure", code: ERRORS[code].wire, notApplied },
});

/** Disks hang: nothing is acknowledged. */
const withoutAppends = ({ kind }: Message): boolean => kind !== "append";

let group: TestGroup;
beforeEach(async () => {
  group = await TestGroup.create(3);
  await group.elect(1);
});

/** Time passes, and everybody hears the leader. */
async function pass(ms: number): Promise<void> {
  group.clock.advance(ms);
  const { replica, loop } = group.member(1);
  replica.raft.tick();
  replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
  loop.markDirty(replica);
  await group.stabilize(withoutAppends);
}

describe("a write", () => {
  it("that is not committed by its deadline is answered as unknown, once", async () => {
    const answers = group.put(1, "key", 1);
    await group.stabilize(withoutAppends);
    await pass(WRITE_DEADLINE_MS);
    expect(answers).toEqual([]);
    await pass(1);
    expect(answers).toMatchObject([failure("DEADLINE_EXCEEDED", false)]);
    await pass(1);
    // It may be applied yet, and so may what comes behind it.
    const later = group.put(1, "key", 2);
    const { replica, loop } = group.member(1);
    replica.raft.reportUnreachable(2 as ReplicaId);
    loop.markDirty(replica);
    replica.raft.tick();
    await group.stabilize();
    expect(later).toMatchObject([{ kind: "write", applied: true }]);
    expect(answers).toHaveLength(1);
    expect(replica.idle).toBe(true);
    expect(group.fatal).toEqual([]);
  });

  it("that nobody has proposed by its deadline is refused", async () => {
    // The log is busy: what comes now gathers.
    const first = group.put(1, "key", 1);
    await group.settle();
    const second = group.put(1, "key", 2);
    await group.settle();
    const { replica } = group.member(1);
    group.clock.advance(WRITE_DEADLINE_MS + 1);
    replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
    expect(first).toMatchObject([failure("DEADLINE_EXCEEDED", false)]);
    expect(second).toMatchObject([failure("DEADLINE_EXCEEDED", true)]);
    expect(replica.hasGathered).toBe(false);
    await group.stabilize();
    expect(second).toHaveLength(1);
    expect(replica.idle).toBe(true);
  });
});

describe("a linearizable read", () => {
  it("that is not confirmed in time, since nothing is committed in the term, is refused", async () => {
    group = await TestGroup.create(3);
    const { replica, loop } = group.member(2);
    replica.raft.campaign();
    loop.markDirty(replica);
    await group.stabilize(withoutAppends);
    expect(replica.isLeader).toBe(true);
    const answers = group.get(2, "key");
    await group.stabilize(withoutAppends);
    group.clock.advance(READ_WAIT_MS_MAX);
    replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
    expect(answers).toEqual([]);
    group.clock.advance(1);
    replica.giveUp(group.clock.nowMs(), group.clock.monotonicMs());
    expect(answers).toMatchObject([failure("UNAVAILABLE", true)]);
    // It is confirmed after all, and nobody asks for that.
    replica.raft.reportUnreachable(1 as ReplicaId);
    replica.raft.tick();
    loop.markDirty(replica);
    await group.stabilize();
    expect(answers).toHaveLength(1);
    expect(replica.idle).toBe(true);
    expect(group.fatal).toEqual([]);
  });
});
