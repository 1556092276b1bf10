/**
 * Disks that fail, fill up, and lose power under the log.
 *
 * The property of all crash tests: what is recovered is the state after some number of appends, no
 * fewer than were acknowledged, and no more than were made.
 */
import { describe, expect, it } from "vitest";
import { WAL_IDLE_MS, WAL_SPACE_KEPT_BYTES, WAL_SPACE_RETRY_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { afterRecords, describeState, type LogState, randomRecords } from "./log-model.ts";
import { type Keep, MemoryFileSystem, type OperationKind } from "./memory-file-system.ts";
import { PREPARED_NAME } from "./reserve.ts";
import {
  appendDurably,
  compact,
  entries,
  entry,
  GROUP,
  hardState,
  openTestLog,
  settle,
  watchedDisk,
} from "./test-support.ts";
import type { Wal, WalRecord } from "./types.ts";

const LOSE_ALL: Keep = { sector: () => false, name: () => false };
const LOSE_NOTHING: Keep = { sector: () => true, name: () => true };

describe("a failing disk", () => {
  const cases: readonly [OperationKind, "fail" | "short"][] = [
    ["write", "fail"],
    ["write", "short"],
    ["datasync", "fail"],
  ];
  for (const [kind, verdict] of cases) {
    it(`${kind} (${verdict}) ends the log once and for all`, async () => {
      const disk = watchedDisk();
      const { wal, fatal, clock } = await openTestLog({ fs: disk.fs });
      await appendDurably(wal, entries(entry(1)));
      await settle();
      disk.verdict = (operation) => {
        if (operation.kind !== kind) return undefined;
        return verdict === "short" ? { kind: "short" } : { kind: "fail", code: "EIO" };
      };
      let called = 0;
      wal.append([entries(entry(2))], () => called++);
      wal.append([entries(entry(3))], () => called++);
      await settle();
      disk.verdict = () => undefined;
      wal.append([entries(entry(4))], () => called++);
      wal.append([], () => called++);
      wal.appendLazily([hardState(1, 1, 1)]);
      clock.advance(10 * WAL_IDLE_MS);
      await settle();
      const before = disk.operations.length;
      expect(await wal.removeObsoleteSegments()).toBe(0);
      expect(wal.reservedBytes).toBe(0);
      await wal.close();
      expect(called).toBe(0);
      expect(fatal.map(({ code }) => code)).toEqual(["UNAVAILABLE"]);
      const after = disk.operations.slice(before).map((operation) => operation.kind);
      expect(after.filter((name) => name === "write" || name === "datasync")).toEqual([]);
    });
  }

  it("calls onFatal for an error at any step of a rotation", async () => {
    const steps = await operationsOfRotation();
    expect(new Set(steps)).toEqual(
      new Set(["write", "datasync", "rename", "syncDirectory", "close", "freeBytes", "open"]),
    );
    for (let step = 1; step <= steps.length; step++) {
      const disk = watchedDisk();
      const { wal, fatal } = await openTestLog({ fs: disk.fs });
      await fillFirstSegment(wal);
      const start = disk.operations.length;
      disk.verdict = (_operation, count) =>
        count === start + step ? { kind: "fail", code: "EIO" } : undefined;
      let durable = false;
      wal.append([entries(entry(2, new Uint8Array(3000)))], () => {
        durable = true;
      });
      await settle();
      expect(fatal).toHaveLength(1);
      expect(fatal[0]?.message).toContain("EIO");
      const { wal: reopened } = await openTestLog({ fs: disk.fs.crash(LOSE_ALL) });
      expect(entryCount(reopened)).toBeGreaterThanOrEqual(durable ? 2 : 1);
    }
  });

  it("calls onFatal when the prepared file does not close, and lets nobody wait", async () => {
    const disk = watchedDisk();
    const { wal, fatal } = await openTestLog({ fs: disk.fs });
    await settle();
    disk.verdict = ({ kind, path }) => {
      if (kind === "datasync") return { kind: "lost" };
      const fails = kind === "close" && path.endsWith(PREPARED_NAME);
      return fails ? { kind: "fail", code: "EIO" } : undefined;
    };
    wal.append([entries(entry(1))], () => {});
    const closed = wal.close();
    await settle();
    expect(fatal.map(({ code }) => code)).toEqual(["UNAVAILABLE"]);
    await closed;
  });

  it("refuses to open with the reason", async () => {
    for (const kind of ["open", "write", "datasync", "rename", "syncDirectory", "list"] as const) {
      const disk = watchedDisk();
      disk.verdict = (operation) =>
        operation.kind === kind ? { kind: "fail", code: "EIO" } : undefined;
      await expect(openTestLog({ fs: disk.fs })).rejects.toMatchObject({ code: "UNAVAILABLE" });
      disk.verdict = () => undefined;
      expect((await openTestLog({ fs: disk.fs })).fatal).toEqual([]);
    }
  });
});

describe("a full disk", () => {
  const isPreparation = (path: string): boolean => path.endsWith(PREPARED_NAME);

  it("keeps a new log from starting with STORAGE_FULL", async () => {
    const fs = new MemoryFileSystem({ isFull: () => true });
    await expect(openTestLog({ fs })).rejects.toMatchObject({
      code: "STORAGE_FULL",
      message: expect.stringContaining("the disk is full, free some space"),
    });
  });

  it("is seen early, is not fatal, and ends by itself", async () => {
    let isFull = false;
    const disk = watchedDisk({ isFull: () => isFull });
    const { wal, fatal, clock } = await openTestLog({ fs: disk.fs });
    await settle();
    expect(wal.spaceLow).toBe(false);
    isFull = true;
    // The next segment is there already; the one behind it is not to be had.
    await appendDurably(wal, entries(entry(1, new Uint8Array(3000))));
    await appendDurably(wal, entries(entry(2, new Uint8Array(1000))));
    await settle();
    expect(wal.spaceLow).toBe(true);
    expect(wal.reservedBytes).toBeGreaterThan(2000);
    expect(wal.reservedBytes).toBeLessThan(4096);
    expect(disk.fs.paths.some(isPreparation)).toBe(false);
    const order: number[] = [];
    wal.append([entries(entry(3, new Uint8Array(1000)))], () => order.push(3));
    wal.append([entries(entry(4, new Uint8Array(3000)))], () => order.push(4));
    wal.append([hardStateRecord()], () => order.push(5));
    await settle();
    clock.advance(3 * WAL_SPACE_RETRY_MS);
    await settle();
    expect(order).toEqual([3]);
    expect(wal.reservedBytes).toBe(0);
    isFull = false;
    clock.advance(WAL_SPACE_RETRY_MS);
    await settle();
    expect(order).toEqual([3, 4, 5]);
    expect(wal.spaceLow).toBe(false);
    expect(fatal).toEqual([]);
    const { wal: reopened } = await openTestLog({ fs: disk.fs.crash(LOSE_ALL) });
    expect(entryCount(reopened)).toBe(4);
  });

  it("is not filled further: a segment is begun only where it leaves room for the engine", async () => {
    const segmentSizeBytes = 8192;
    let free = WAL_SPACE_KEPT_BYTES + segmentSizeBytes - 1;
    const disk = watchedDisk({ freeBytes: () => free });
    const { wal, fatal, clock } = await openTestLog({ fs: disk.fs, segmentSizeBytes });
    await settle();
    clock.advance(5 * WAL_SPACE_RETRY_MS);
    await settle();
    // The first segment was prepared under the same name, and opened once.
    const opened = disk.operations.filter(
      ({ kind, path }) => kind === "open" && isPreparation(path),
    );
    expect(opened).toHaveLength(1);
    expect(wal.spaceLow).toBe(true);
    free++;
    clock.advance(WAL_SPACE_RETRY_MS);
    await settle();
    expect(wal.spaceLow).toBe(false);
    expect(disk.fs.paths.some(isPreparation)).toBe(true);
    expect(fatal).toEqual([]);
  });

  it("does not keep the log from closing; what waited for space was never acknowledged", async () => {
    let isFull = false;
    const fs = new MemoryFileSystem({ isFull: () => isFull });
    const { wal, fatal, clock } = await openTestLog({ fs });
    await settle();
    isFull = true;
    await appendDurably(wal, entries(entry(1)));
    let durable = false;
    wal.append([entries(entry(2, new Uint8Array(20_000)))], () => {
      durable = true;
    });
    await settle();
    clock.advance(WAL_SPACE_RETRY_MS);
    await settle();
    await wal.close();
    expect(durable).toBe(false);
    expect(fatal).toEqual([]);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(entryCount(reopened)).toBe(1);
  });
});

describe("a lying disk", () => {
  it("that loses a batch written over a seal is found out by the batch behind it", async () => {
    const disk = watchedDisk();
    const { wal, clock } = await openTestLog({ fs: disk.fs });
    await appendDurably(wal, entries(entry(1)));
    clock.advance(2 * WAL_IDLE_MS);
    await settle();
    disk.verdict = ({ kind }) => (kind === "write" ? { kind: "unwritten" } : undefined);
    await appendDurably(wal, entries(entry(2)));
    disk.verdict = () => undefined;
    await appendDurably(wal, entries(entry(3)));
    // The seal is still where batch 3 should be, and has its sequence.
    const after = disk.fs.crash(LOSE_ALL);
    await expect(openTestLog({ fs: after })).rejects.toMatchObject({ code: "DATA_CORRUPT" });
  });
});

describe("a power loss", () => {
  it("at any operation of a rotation loses nothing acknowledged", async () => {
    const steps = await operationsOfRotation();
    for (let step = 0; step <= steps.length; step++) {
      // Undefined: only the process is killed.
      for (const keep of [undefined, LOSE_ALL, LOSE_NOTHING, keepSome(step), keepSome(-1 - step)]) {
        const disk = watchedDisk();
        const { wal, fatal } = await openTestLog({ fs: disk.fs });
        await fillFirstSegment(wal);
        const start = disk.operations.length;
        disk.verdict = (_operation, count) => (count > start + step ? { kind: "lost" } : undefined);
        let durable = false;
        wal.append([entries(entry(2, new Uint8Array(3000)))], () => {
          durable = true;
        });
        await settle();
        expect(fatal).toEqual([]);
        const after = keep === undefined ? disk.fs.restarted() : disk.fs.crash(keep);
        const { wal: reopened } = await openTestLog({ fs: after });
        expect(entryCount(reopened)).toBeGreaterThanOrEqual(durable ? 2 : 1);
        await appendDurably(reopened, entries(entry(entryCount(reopened) + 1)));
        const { wal: again } = await openTestLog({ fs: after.crash(LOSE_ALL) });
        expect(entryCount(again)).toBe(entryCount(reopened) + 1);
      }
    }
  });

  it("at any operation of opening, first or later, is recovered from", async () => {
    const torn = await tornLog();
    for (const before of [new MemoryFileSystem(), torn]) {
      const expected = entryCount((await openTestLog({ fs: before.restarted() })).wal);
      for (let step = 0; step < 40; step++) {
        const operations = { count: 0 };
        const fs = before.restarted({
          intercept: () => (++operations.count > step ? { kind: "lost" } : undefined),
        });
        void openTestLog({ fs });
        await settle();
        const { wal } = await openTestLog({ fs: fs.crash(keepSome(step)) });
        expect(entryCount(wal)).toBe(expected);
      }
    }
  });

  it("after recovery from a kill keeps what that recovery had found in memory only", async () => {
    const disk = watchedDisk();
    const { wal } = await openTestLog({ fs: disk.fs });
    await settle();
    disk.verdict = ({ kind }) => (kind === "datasync" ? { kind: "lost" } : undefined);
    wal.append([entries(entry(1))], () => {});
    await settle();
    const killed = disk.fs.restarted();
    expect(entryCount((await openTestLog({ fs: killed.crash(LOSE_ALL) })).wal)).toBe(0);
    expect(entryCount((await openTestLog({ fs: killed })).wal)).toBe(1);
    expect(entryCount((await openTestLog({ fs: killed.crash(LOSE_ALL) })).wal)).toBe(1);
  });

  it("after a failed sync keeps what the recovery in between could still read", async () => {
    const disk = watchedDisk();
    const { wal, fatal } = await openTestLog({ fs: disk.fs });
    await appendDurably(wal, entries(entry(1)));
    await settle();
    // Linux: the pages stay readable and count as clean, though they never reached the disk.
    disk.verdict = ({ kind }) =>
      kind === "datasync" ? { kind: "fail", code: "EIO", marksClean: () => false } : undefined;
    wal.append([entries(entry(2))], () => {});
    await settle();
    expect(fatal).toHaveLength(1);
    const killed = disk.fs.restarted();
    const { wal: reopened } = await openTestLog({ fs: killed });
    expect(entryCount(reopened)).toBe(2);
    await appendDurably(reopened, entries(entry(3)));
    expect(entryCount((await openTestLog({ fs: killed.crash(LOSE_ALL) })).wal)).toBe(3);
  });

  it("while segments are removed leaves no hole", async () => {
    for (let step = 0; step < 12; step++) {
      const disk = watchedDisk();
      const { wal } = await openTestLog({ fs: disk.fs });
      for (let index = 1; index <= 12; index++) {
        await appendDurably(wal, entries(entry(index, new Uint8Array(1500))));
      }
      await appendDurably(wal, compact(11));
      await settle();
      const start = disk.operations.length;
      disk.verdict = (_operation, count) => (count > start + step ? { kind: "lost" } : undefined);
      void wal.removeObsoleteSegments();
      await settle();
      for (const keep of [LOSE_ALL, LOSE_NOTHING, keepSome(step), keepSome(step + 1000)]) {
        const { wal: reopened } = await openTestLog({ fs: disk.fs.crash(keep) });
        expect(reopened.recovery.groups.get(GROUP)?.entries).toHaveLength(1);
      }
    }
  });

  it("at a random operation of a random history leaves a state between acknowledged and made", async () => {
    for (let seed = 1; seed <= 150; seed++) {
      try {
        await randomHistory(new SeededRandom(seed));
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
  });
});

const hardStateRecord = (): WalRecord => hardState(3, 1, 2);

const entryCount = (wal: Wal): number => wal.recovery.groups.get(GROUP)?.entries.length ?? 0;

/** Leaves room for a seal only, so that the next append starts a segment. */
async function fillFirstSegment(wal: Wal): Promise<void> {
  await appendDurably(wal, entries(entry(1, new Uint8Array(3000))));
  await settle();
}

/** Kinds of operations from an append that needs a new segment until all is quiet. */
async function operationsOfRotation(): Promise<OperationKind[]> {
  const disk = watchedDisk();
  const { wal } = await openTestLog({ fs: disk.fs });
  await fillFirstSegment(wal);
  disk.operations.length = 0;
  await appendDurably(wal, entries(entry(2, new Uint8Array(3000))));
  await settle();
  return disk.operations.map(({ kind }) => kind);
}

/** A log of three entries whose fourth was torn. */
async function tornLog(): Promise<MemoryFileSystem> {
  const disk = watchedDisk();
  const { wal } = await openTestLog({ fs: disk.fs });
  for (const index of [1, 2, 3]) await appendDurably(wal, entries(entry(index)));
  await settle();
  disk.verdict = ({ kind }) => (kind === "write" ? { kind: "short" } : undefined);
  wal.append([entries(entry(4, new Uint8Array(500).fill(4)))], () => {});
  await settle();
  const torn = disk.fs.restarted();
  expect((await openTestLog({ fs: torn.restarted() })).wal.recovery.tornTail).toBe(true);
  return torn;
}

function keepSome(seed: number): Keep {
  const random = new SeededRandom(seed);
  return { sector: () => random.below(2) === 0, name: () => random.below(2) === 0 };
}

/** Runs appends, seals and removals until the process dies; recovers; and does it again. */
async function randomHistory(random: SeededRandom): Promise<void> {
  /** State after each append that was made; the first is that of an empty log. */
  let states: LogState[] = [new Map()];
  let acknowledged = 0;
  let fs = new MemoryFileSystem();
  for (let life = 0; life < 4; life++) {
    let budget = Number.MAX_SAFE_INTEGER;
    fs = fs.restarted({ intercept: () => (budget-- <= 0 ? { kind: "lost" } : undefined) });
    const log = await openTestLog({ fs, withGroup: false });
    const described = describeState(log.wal.recovery.groups);
    const found = states.findLastIndex((state) => describeState(state) === described);
    expect(found).toBeGreaterThanOrEqual(acknowledged);
    states = states.slice(0, found + 1);
    acknowledged = found;
    budget = random.below(150);
    for (let step = 0; step < 40; step++) {
      const before = states.at(-1)!;
      const records = randomRecords(before, { random, groups: 1, entrySizeBytesMax: 6000 });
      const number = states.push(afterRecords(before, records)) - 1;
      log.wal.append(records, () => {
        expect(number).toBe(acknowledged + 1);
        acknowledged = number;
      });
      const pause = random.below(4);
      if (pause > 0) await settle();
      if (pause > 1) log.clock.advance(WAL_IDLE_MS * random.below(4));
      if (pause > 2) void log.wal.removeObsoleteSegments();
    }
    await settle();
    expect(log.fatal).toEqual([]);
    // Killed processes, and now and then the power fails.
    if (random.below(2) === 0) {
      fs = fs.crash({
        sector: () => random.below(2) === 0,
        name: () => random.below(2) === 0,
      });
    }
  }
}
