import { afterEach, describe, expect, it } from "vitest";
import { LOG_RETAINED_BEHIND_SNAPSHOT_MS, LOG_RETAINED_BYTES_PER_GROUP } from "#shared/limits.ts";
import type { Wal, WalRecord } from "#storage-node/wal/types.ts";
import { Maintenance } from "./maintenance.ts";
import { TestGroup } from "./testing.ts";

let group: TestGroup;
afterEach(() => {
  expect(group.fatal).toEqual([]);
});

/** Up to where a member, the leader, gives up its log; 0 for nothing. */
async function compactedTo(member = 1): Promise<number> {
  const { replica, loop, engine } = group.member(member);
  const written: WalRecord[] = [];
  const wal = {
    append: (records: readonly WalRecord[], onDurable: () => void) => {
      written.push(...records);
      onDurable();
    },
    removeObsoleteSegments: async () => 0,
  } as unknown as Wal;
  const maintenance = new Maintenance({
    replicas: () => [replica],
    engine,
    wal,
    loop,
    clock: group.clock,
    mayCompact: true,
    expire: () => {},
    onFatal: (error) => group.fatal.push(error),
  });
  await maintenance.compactLog();
  return Math.max(
    0,
    ...written.map((each) => (each.kind === "compactPrefix" ? each.start.index : 0)),
  );
}

/** One member has heard of none of these writes, which are more than is kept for it. */
async function lag(): Promise<void> {
  group = await TestGroup.create(3);
  await group.elect(1);
  const key = "k".repeat(1000);
  const sizeBytes = 2 * key.length;
  for (let i = 0; i * sizeBytes < 2 * LOG_RETAINED_BYTES_PER_GROUP; i += 100) {
    for (let one = 0; one < 100; one++) group.put(1, `${key}${one}`, 1 + ((i + one) % 250));
    await group.stabilize(({ to }) => to !== 3);
  }
}

describe("Maintenance.compactLog()", () => {
  it("gives up what a lagging member still needs, beyond a bound", async () => {
    await lag();
    const { match } = group
      .member(1)
      .replica.raft.status()
      .peers.find(({ id }) => id === 3)!;
    expect(await compactedTo()).toBeGreaterThan(match);
  });

  it("keeps less on a follower than on the leader, whose members may lag", async () => {
    await lag();
    group.put(1, "small", 1);
    await group.stabilize(({ to }) => to !== 3);
    const follower = await compactedTo(2);
    expect(follower).toBeGreaterThan(await compactedTo(1));
    const { lastIndex, logStart } = group.member(2).replica.raft.status();
    expect(logStart.index).toBe(follower);
    expect(lastIndex).toBeGreaterThan(follower);
  });

  it("keeps more for a while after a snapshot, whose receiver goes on with the log", async () => {
    await lag();
    const { replica } = group.member(1);
    replica.keepLogUntilMs = group.clock.monotonicMs() + LOG_RETAINED_BEHIND_SNAPSHOT_MS;
    const { match } = replica.raft.status().peers.find(({ id }) => id === 3)!;
    expect(await compactedTo()).toBe(match);
    group.clock.advance(LOG_RETAINED_BEHIND_SNAPSHOT_MS);
    expect(await compactedTo()).toBeGreaterThan(match);
  });

  it("leaves the log of a group alone whose rows are being replaced", async () => {
    await lag();
    group.member(1).replica.installationBegins();
    expect(await compactedTo()).toBe(0);
  });
});
