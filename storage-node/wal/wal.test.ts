import { describe, expect, it } from "vitest";
import { toGroupId, toNodeId, toReplicaId } from "#shared/ids.ts";
import { WAL_BATCH_SIZE_BYTES_MAX, WAL_IDLE_MS } from "#shared/limits.ts";
import { MemoryFileSystem } from "./memory-file-system.ts";
import {
  appendDurably,
  compact,
  entries,
  entry,
  GROUP,
  hardState,
  openTestLog,
  REPLICA,
  remove,
  settle,
  snapshot,
  truncate,
  watchedDisk,
} from "./test-support.ts";

const count = (operations: readonly { kind: string }[], kind: string): number =>
  operations.filter((operation) => operation.kind === kind).length;

describe("openWal()", () => {
  it("starts an empty log and finds it again", async () => {
    const first = await openTestLog({ withGroup: false });
    expect(first.wal.recovery).toMatchObject({ created: true, tornTail: false, segments: 0 });
    await first.wal.close();
    const second = await openTestLog({ fs: first.fs.restarted(), withGroup: false });
    expect(second.wal.recovery).toMatchObject({ created: false, tornTail: false, segments: 1 });
    expect(second.wal.recovery.groups.size).toBe(0);
  });

  it("recovers what each kind of record says", async () => {
    const { wal, fs } = await openTestLog();
    await appendDurably(wal, snapshot(4), entries(entry(5), entry(6), entry(7)));
    await appendDurably(wal, truncate(7), entries(entry(7, "other", 2)), hardState(2, 9, 5));
    await appendDurably(wal, compact(5));
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(reopened.recovery.groups.get(GROUP)).toEqual({
      replica: REPLICA,
      hardState: { term: 2, vote: 9, commit: 5 },
      start: { index: 5, term: 1 },
      configuration: {
        voters: [1, 2],
        outgoing: [],
        learners: [9],
        learnersNext: [],
        highestId: 9,
      },
      entries: [entry(6), entry(7, "other", 2)],
    });
  });

  it("continues the sequence over many restarts", async () => {
    let fs = new MemoryFileSystem();
    for (let index = 1; index <= 40; index++) {
      const { wal } = await openTestLog({ fs });
      expect(wal.recovery.tornTail).toBe(false);
      await appendDurably(wal, entries(entry(index)));
      if (index % 2 === 0) await wal.close();
      fs = fs.restarted();
    }
    const { wal } = await openTestLog({ fs });
    const indexes = wal.recovery.groups.get(GROUP)?.entries.map(({ index }) => index);
    expect(indexes).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });

  it("refuses the log of another node", async () => {
    const { wal, fs } = await openTestLog({ nodeId: toNodeId(7) });
    await wal.close();
    const opening = openTestLog({ fs: fs.restarted(), nodeId: toNodeId(8) });
    await expect(opening).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(opening).rejects.toThrow(/belongs to node 7, and this is node 8/);
  });

  it("takes another segment size than the last run's", async () => {
    const { wal, fs } = await openTestLog({ segmentSizeBytes: 8192 });
    await appendDurably(wal, entries(entry(1)));
    const { wal: reopened } = await openTestLog({ fs: fs.restarted(), segmentSizeBytes: 65_536 });
    await appendDurably(reopened, entries(entry(2, new Uint8Array(20_000))));
    expect(reopened.recovery.groups.get(GROUP)?.entries).toHaveLength(1);
  });
});

describe("Wal.append()", () => {
  it("shares one write and one sync among all that gathers while a sync runs", async () => {
    const waiting: (() => void)[] = [];
    let hold = false;
    const defer = (run: () => void): void => {
      if (hold) waiting.push(run);
      else queueMicrotask(run);
    };
    const disk = watchedDisk({ defer });
    const { wal } = await openTestLog({ fs: disk.fs, segmentSizeBytes: 65_536 });
    await settle();
    disk.operations.length = 0;
    hold = true;
    const order: number[] = [];
    for (let index = 1; index <= 100; index++) {
      wal.append([entries(entry(index))], () => order.push(index));
    }
    expect(wal.busy).toBe(true);
    expect(disk.operations.map(({ kind }) => kind)).toEqual(["write"]);
    while (waiting.length > 0) waiting.shift()!();
    expect(disk.operations.map(({ kind }) => kind)).toEqual([
      "write",
      "datasync",
      "write",
      "datasync",
    ]);
    expect(order).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    expect(wal.busy).toBe(false);
  });

  it("runs no callback before the sync that covers it", async () => {
    const disk = watchedDisk();
    const { wal, fatal } = await openTestLog({ fs: disk.fs });
    await settle();
    disk.verdict = ({ kind }) => (kind === "datasync" ? { kind: "lost" } : undefined);
    let called = false;
    wal.append([entries(entry(1))], () => {
      called = true;
    });
    await settle();
    expect(called).toBe(false);
    expect(fatal).toEqual([]);
  });

  it("gathers what callbacks append into one batch", async () => {
    const disk = watchedDisk();
    const { wal } = await openTestLog({ fs: disk.fs });
    await settle();
    disk.operations.length = 0;
    await new Promise<void>((resolve) => {
      wal.append([entries(entry(1))], () => {
        wal.append([entries(entry(2))], () => {});
        wal.append([entries(entry(3))], resolve);
      });
    });
    expect(count(disk.operations, "datasync")).toBe(2);
  });

  it("without records waits for what was appended before, and writes nothing", async () => {
    const disk = watchedDisk();
    const { wal } = await openTestLog({ fs: disk.fs });
    await settle();
    disk.operations.length = 0;
    const order: string[] = [];
    wal.append([entries(entry(1))], () => order.push("first"));
    wal.append([], () => order.push("behind first"));
    wal.append([entries(entry(2))], () => order.push("second"));
    wal.append([], () => order.push("behind second"));
    await settle();
    wal.append([], () => order.push("idle"));
    expect(order).not.toContain("idle");
    await settle();
    expect(order).toEqual(["first", "behind first", "second", "behind second", "idle"]);
    expect(count(disk.operations, "write")).toBe(2);
  });

  it("refuses entries with a gap before they reach the disk", async () => {
    const { wal } = await openTestLog();
    await appendDurably(wal, entries(entry(1)));
    expect(() => wal.append([entries(entry(3))], () => {})).toThrow(/continue their group's log/);
    expect(() => wal.append([compact(5)], () => {})).toThrow(/within the log/);
  });

  it("gives a batch larger than a segment a segment of its own size", async () => {
    const { wal, fs } = await openTestLog();
    const large = new Uint8Array(50_000).fill(5);
    await appendDurably(wal, entries(entry(1)));
    await appendDurably(wal, entries(entry(2, large)));
    await appendDurably(wal, entries(entry(3)));
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(reopened.recovery.groups.get(GROUP)?.entries).toEqual([
      entry(1),
      entry(2, large),
      entry(3),
    ]);
    const sizes = fs.paths
      .filter((path) => path.endsWith(".wal"))
      .map((path) => fs.content(path).length);
    expect(sizes.filter((size) => size > 50_000)).toHaveLength(1);
  });

  it("splits what gathers beyond the batch limit, never one append", async () => {
    const disk = watchedDisk();
    const { wal } = await openTestLog({ fs: disk.fs });
    await settle();
    const half = new Uint8Array(WAL_BATCH_SIZE_BYTES_MAX / 2);
    const order: number[] = [];
    const batches: number[] = [];
    disk.verdict = ({ kind, path }) => {
      if (kind === "rename")
        batches.push(disk.fs.content(path.replace(/[^/]*$/, "prepared.tmp")).length);
      return undefined;
    };
    wal.append([entries(entry(1, "small"))], () => order.push(1));
    for (const index of [2, 3, 4]) {
      wal.append([entries(entry(index, half))], () => order.push(index));
    }
    while (order.length < 4) await new Promise(setImmediate);
    expect(order).toEqual([1, 2, 3, 4]);
    expect(batches).toHaveLength(3);
    await wal.close();
  });
});

describe("Wal.appendLazily()", () => {
  it("rides with the next batch, without a write of its own", async () => {
    const disk = watchedDisk();
    const { wal } = await openTestLog({ fs: disk.fs });
    await settle();
    disk.operations.length = 0;
    wal.appendLazily([hardState(1, 1, 1)]);
    await settle();
    expect(count(disk.operations, "write")).toBe(0);
    await appendDurably(wal, entries(entry(1)));
    expect(count(disk.operations, "datasync")).toBe(1);
    const { wal: reopened } = await openTestLog({ fs: disk.fs.restarted() });
    expect(reopened.recovery.groups.get(GROUP)?.hardState.commit).toBe(1);
  });

  it("is written without a sync once the log is idle, and the next batch replaces it", async () => {
    const disk = watchedDisk();
    const { wal, clock } = await openTestLog({ fs: disk.fs });
    await appendDurably(wal, entries(entry(1)));
    await settle();
    wal.appendLazily([hardState(1, 1, 1)]);
    disk.operations.length = 0;
    clock.advance(2 * WAL_IDLE_MS);
    await settle();
    expect(disk.operations.map(({ kind }) => kind)).toEqual(["write"]);
    const { wal: sealed } = await openTestLog({ fs: disk.fs.restarted() });
    expect(sealed.recovery.groups.get(GROUP)?.hardState.commit).toBe(1);
    await appendDurably(wal, entries(entry(2)));
    const { wal: replaced } = await openTestLog({ fs: disk.fs.restarted() });
    expect(replaced.recovery.tornTail).toBe(false);
    expect(replaced.recovery.groups.get(GROUP)).toMatchObject({
      hardState: { commit: 1 },
      entries: [entry(1), entry(2)],
    });
  });
});

describe("Wal.removeObsoleteSegments()", () => {
  it("removes segments whose entries are all compacted, and only those", async () => {
    const { wal, fs } = await openTestLog();
    for (let index = 1; index <= 30; index++) {
      await appendDurably(wal, entries(entry(index, new Uint8Array(1000))));
    }
    const before = fs.paths.length;
    expect(await wal.removeObsoleteSegments()).toBe(0);
    await appendDurably(wal, compact(15));
    const removed = await wal.removeObsoleteSegments();
    expect(removed).toBeGreaterThan(2);
    expect(fs.paths.length).toBe(before - removed);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    const found = reopened.recovery.groups.get(GROUP);
    expect(found?.start.index).toBe(15);
    expect(found?.entries[0]?.index).toBe(16);
    expect(found?.entries.at(-1)?.index).toBe(30);
  });

  it("keeps hard state and configuration of groups whose records are gone", async () => {
    const { wal, fs } = await openTestLog();
    const quiet = toGroupId(200);
    const state = { ...hardState(5, 2, 0), group: quiet };
    await appendDurably(wal, snapshot(0, 0, quiet), state);
    for (let index = 1; index <= 20; index++) {
      await appendDurably(wal, entries(entry(index, new Uint8Array(1000))), compact(index));
    }
    expect(await wal.removeObsoleteSegments()).toBeGreaterThan(3);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(reopened.recovery.groups.get(quiet)).toMatchObject({
      hardState: { term: 5, vote: 2 },
      configuration: { voters: [1, 2] },
    });
  });

  it("counts entries replaced by a truncation as gone", async () => {
    const { wal, fs } = await openTestLog();
    const kilobytes = new Uint8Array(3000);
    await appendDurably(wal, entries(entry(1), entry(2, kilobytes)));
    await appendDurably(wal, truncate(2), entries(entry(2, kilobytes, 2), entry(3, "", 2)));
    await appendDurably(wal, entries(entry(4, kilobytes, 2)));
    await appendDurably(wal, compact(1));
    expect(await wal.removeObsoleteSegments()).toBe(1);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(
      reopened.recovery.groups.get(GROUP)?.entries.map(({ index, term }) => [index, term]),
    ).toEqual([2, 3, 4].map((index) => [index, 2]));
  });
});

describe("a removed group", () => {
  const ANOTHER = toReplicaId(77);
  const kilobytes = new Uint8Array(3000).fill(3);

  it("is forgotten with its hard state, and begins anew as another replica", async () => {
    const { wal, fs } = await openTestLog();
    await appendDurably(wal, entries(entry(1), entry(2)), hardState(5, 2, 1));
    await appendDurably(wal, remove());
    const { wal: without } = await openTestLog({ fs: fs.restarted(), withGroup: false });
    expect(without.recovery.groups.size).toBe(0);
    await appendDurably(wal, snapshot(0, 0, GROUP, ANOTHER), entries(entry(1, "other")));
    await appendDurably(wal, remove(), snapshot(9, 3, GROUP, toReplicaId(78)));
    const { wal: anew } = await openTestLog({ fs: fs.restarted() });
    expect(anew.recovery.groups.get(GROUP)).toMatchObject({
      replica: 78,
      hardState: { term: 0, vote: 0, commit: 0 },
      start: { index: 9, term: 3 },
      entries: [],
    });
  });

  it("takes no record but a snapshotMeta, and none of another replica before", async () => {
    const { wal } = await openTestLog();
    expect(() => wal.append([snapshot(1, 1, GROUP, ANOTHER)], () => {})).toThrow(/another replica/);
    wal.append([remove()], () => {});
    expect(() => wal.appendLazily([hardState(1, 1, 0)])).toThrow(/begins with a snapshotMeta/);
    expect(() => wal.append([entries(entry(1))], () => {})).toThrow(/begins with a snapshotMeta/);
    expect(() => wal.append([remove()], () => {})).toThrow(/begins with a snapshotMeta/);
  });

  it("needs no segment, and never comes back, however many of its segments are left", async () => {
    const { wal, fs } = await openTestLog();
    const quiet = toGroupId(200);
    await appendDurably(wal, snapshot(0, 0, quiet));
    for (let index = 1; index <= 6; index++)
      await appendDurably(wal, entries(entry(index, kilobytes)));
    await appendDurably(wal, remove());
    // Each removal of a segment is a moment at which a crash may leave the rest.
    const segments = fs.paths.filter((path) => path.endsWith(".wal"));
    expect(segments.length).toBeGreaterThan(5);
    for (let first = 0; first < segments.length; first++) {
      const left = new MemoryFileSystem();
      for (const path of segments.slice(first)) left.put(path, fs.content(path).slice());
      const { wal: reopened } = await openTestLog({ fs: left, withGroup: false });
      expect([...reopened.recovery.groups.keys()]).toEqual([quiet]);
    }
    expect(await wal.removeObsoleteSegments()).toBe(segments.length - 1);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted(), withGroup: false });
    expect([...reopened.recovery.groups.keys()]).toEqual([quiet]);
  });

  it("is not in the checkpoints behind it, while its successor is", async () => {
    const { wal, fs } = await openTestLog();
    await appendDurably(wal, entries(entry(1, kilobytes)), hardState(5, 2, 1));
    await appendDurably(wal, remove(), snapshot(0, 0, GROUP, ANOTHER));
    for (let index = 1; index <= 4; index++)
      await appendDurably(wal, entries(entry(index, kilobytes)));
    await appendDurably(wal, compact(3));
    expect(await wal.removeObsoleteSegments()).toBeGreaterThan(2);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(reopened.recovery.groups.get(GROUP)).toMatchObject({
      replica: ANOTHER,
      hardState: { term: 0 },
      start: { index: 3 },
      entries: [entry(4, kilobytes)],
    });
  });
});

describe("Wal.close()", () => {
  it("makes lazy records durable, and seals", async () => {
    const { wal, fs } = await openTestLog();
    await appendDurably(wal, entries(entry(1)));
    wal.appendLazily([hardState(1, 1, 1)]);
    await Promise.all([wal.close(), wal.close()]);
    const lost = fs.crash({ sector: () => false, name: () => false });
    const { wal: reopened } = await openTestLog({ fs: lost });
    expect(reopened.recovery.groups.get(GROUP)?.hardState.commit).toBe(1);
    expect(() => wal.append([entries(entry(2))], () => {})).toThrow(/closed/);
  });

  it("makes lazy records durable that came after a seal", async () => {
    const { wal, fs, clock } = await openTestLog();
    await appendDurably(wal, entries(entry(1)));
    clock.advance(2 * WAL_IDLE_MS);
    await settle();
    wal.appendLazily([hardState(1, 1, 1)]);
    await wal.close();
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(reopened.recovery.groups.get(GROUP)?.hardState.commit).toBe(1);
  });

  it("waits for what was appended, over a rotation", async () => {
    const { wal, fs } = await openTestLog();
    const order: number[] = [];
    for (let index = 1; index <= 12; index++) {
      wal.append([entries(entry(index, new Uint8Array(2500)))], () => order.push(index));
    }
    await wal.close();
    expect(order).toHaveLength(12);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted() });
    expect(reopened.recovery.groups.get(GROUP)?.entries).toHaveLength(12);
  });
});

describe("Wal.reservedBytes", () => {
  it("shrinks by what is queued, and bounds what needs no new space", async () => {
    const { wal, fs } = await openTestLog({ segmentSizeBytes: 16_384 });
    await settle();
    const before = wal.reservedBytes;
    expect(before).toBeLessThan(2 * 16_384);
    expect(before).toBeGreaterThan(20_000);
    wal.append([entries(entry(1, new Uint8Array(5000)))], () => {});
    expect(wal.reservedBytes).toBeLessThan(before - 5000);
    await settle();
    expect(wal.reservedBytes).toBeLessThan(before - 5000);
    const onDisk = fs.paths.reduce((sum, path) => sum + fs.content(path).length, 0);
    expect(wal.sizeBytes).toBe(onDisk);
  });
});
