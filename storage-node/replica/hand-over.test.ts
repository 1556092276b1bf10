/** A leader whose disk hangs, while heartbeats go on. */
import { beforeEach, describe, expect, it } from "vitest";
import { ERRORS } from "#shared/errors.ts";
import { DISK_HANG_MS } from "#shared/limits.ts";
import { successorOfHung } from "./hand-over.ts";
import { TestGroup } from "./testing.ts";

let group: TestGroup;
beforeEach(async () => {
  group = await TestGroup.create(3);
  await group.elect(1);
});

/** Until nothing happens any more; the disks of the members given work. */
async function rest(disks: readonly number[]): Promise<void> {
  for (let round = 0; round < 12; round++) {
    await group.settle();
    await group.syncAll(disks);
    await group.deliver();
  }
}

describe("successorOfHung()", () => {
  it("is a follower that holds what the leader's disk does not, and answers in its place", async () => {
    const { replica, loop } = group.member(1);
    expect(successorOfHung(replica)).toBe(undefined);
    const stuck = group.put(1, "key", 1);
    await rest([2, 3]);
    // Committed by the others, and nobody is told.
    expect(replica.raft.commit).toBe(replica.raft.lastIndex);
    expect(stuck).toEqual([]);
    const successor = successorOfHung(replica)!;
    expect([2, 3]).toContain(successor);
    replica.raft.transferLeadership(successor);
    loop.markDirty(replica);
    await rest([2, 3]);
    expect(group.member(successor).replica.isLeader).toBe(true);
    expect(successorOfHung(replica)).toBe(undefined);
    expect(stuck).toMatchObject([{ code: ERRORS.NOT_LEADER.wire, notApplied: false }]);
    // As the gateway does it: the same request, and the answer of the copy that was applied.
    const again = group.put(successor, "key", 1);
    await rest([2, 3]);
    expect(again).toMatchObject([{ kind: "write", applied: true, mutations: [{ revision: 1 }] }]);
    await group.stabilize();
    expect(group.fatal).toEqual([]);
  });

  // It waited at the leader for its disk, and the group looked as if nothing was written.
  it("is found by what is written while the disk hangs already", async () => {
    const { replica, loop } = group.member(1);
    group.put(1, "first", 1);
    await rest([2, 3]);
    const before = replica.raft.lastIndex;
    const later = group.put(1, "later", 2);
    await rest([2, 3]);
    // As long as the disk may just be slow, it gathers.
    expect(replica.raft.lastIndex).toBe(before);
    group.clock.advance(DISK_HANG_MS + 1);
    loop.markDirty(replica);
    await rest([2, 3]);
    expect(replica.raft.lastIndex).toBe(before + 1);
    expect(later).toEqual([]);
    const successor = successorOfHung(replica)!;
    replica.raft.transferLeadership(successor);
    loop.markDirty(replica);
    await rest([2, 3]);
    expect(group.member(successor).replica.isLeader).toBe(true);
    const again = group.put(successor, "later", 2);
    await rest([2, 3]);
    expect(again).toMatchObject([{ kind: "write", applied: true }]);
    await group.stabilize();
    expect(group.fatal).toEqual([]);
  });

  it("is nobody when no other disk works either, or nothing waits for the disk", async () => {
    const { replica } = group.member(1);
    group.put(1, "key", 1);
    await rest([]);
    expect(successorOfHung(replica)).toBe(undefined);
    await group.stabilize();
    expect(successorOfHung(replica)).toBe(undefined);
  });
});
