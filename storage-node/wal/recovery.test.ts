/**
 * Damaged logs: recovery gives a prefix that holds everything known durable, or refuses.
 * "Known durable" is what a frame on disk says; see replay.ts.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { toGroupId, toNodeId, toReplicaId } from "#shared/ids.ts";
import { WAL_IDLE_MS } from "#shared/limits.ts";
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  FRAME_HEADER_SIZE_BYTES,
  frameAt,
  sealFrame,
  WAL_FORMAT_VERSION,
} from "./frame.ts";
import { MemoryFileSystem } from "./memory-file-system.ts";
import { encodeRecord, recordSizeBytes } from "./records.ts";
import { segmentName } from "./recover.ts";
import {
  appendDurably,
  compact,
  DIRECTORY,
  describeRecovery,
  entries,
  entry,
  GROUP,
  hardState,
  NODE,
  openTestLog,
  remove,
  SEGMENT_SIZE_BYTES,
  settle,
  snapshot,
  truncate,
} from "./test-support.ts";
import type { WalRecord } from "./types.ts";

const HEAD_SIZE_BYTES = 4096 + FRAME_HEADER_SIZE_BYTES;
const OTHER = toGroupId(4);

/** Batches that touch every kind of record. */
const BATCHES: readonly (readonly WalRecord[])[] = [
  [snapshot(2), entries(entry(3), entry(4), entry(5)), snapshot(7, 1, OTHER)],
  [truncate(5), entries(entry(5, "replacement", 2)), hardState(2, 1, 3)],
  [remove(OTHER), snapshot(0, 0, OTHER, toReplicaId(77))],
  [compact(3), entries(entry(6, new Uint8Array(300).fill(7), 2))],
];

type SmallLog = {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** State after 0, 1, 2, … batches. */
  readonly states: readonly string[];
  /** Offset behind the head, and behind each batch. */
  readonly ends: readonly number[];
};

/** A log of `BATCHES`, as a killed process leaves it: no seal. */
async function unsealedLog(): Promise<SmallLog> {
  const { wal, fs } = await openTestLog({ withGroup: false });
  const states: string[] = [describeRecovery(wal.recovery)];
  const ends: number[] = [HEAD_SIZE_BYTES];
  const path = fs.paths.find((name) => name.endsWith(".wal"))!;
  for (const batch of BATCHES) {
    await appendDurably(wal, ...batch);
    const size = batch.reduce((sum, record) => sum + recordSizeBytes(record), 0);
    ends.push(ends.at(-1)! + FRAME_HEADER_SIZE_BYTES + size);
    const { wal: reopened } = await openTestLog({ fs: fs.restarted(), withGroup: false });
    states.push(describeRecovery(reopened.recovery));
  }
  return { path, bytes: fs.content(path).slice(), states, ends };
}

async function sealedLog(): Promise<SmallLog> {
  const small = await unsealedLog();
  const fs = new MemoryFileSystem();
  fs.put(small.path, small.bytes.slice());
  const { wal } = await openTestLog({ fs, withGroup: false });
  await wal.close();
  return { ...small, bytes: fs.content(small.path).slice() };
}

/** The recovered state, or the code of the refusal. Goes on and restarts, to see it was cut well. */
async function outcomeOf(path: string, bytes: Uint8Array): Promise<string> {
  const fs = new MemoryFileSystem();
  fs.put(path, bytes);
  try {
    const { wal } = await openTestLog({ fs, withGroup: false });
    const state = describeRecovery(wal.recovery);
    const { wal: again } = await openTestLog({ fs: fs.restarted(), withGroup: false });
    expect(again.recovery.tornTail).toBe(false);
    expect(describeRecovery(again.recovery)).toBe(state);
    return state;
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    expect(error.message).toContain(path);
    expect(error.message).toMatch(/at offset \d+: /);
    return error.code;
  }
}

let unsealed: SmallLog;
let sealed: SmallLog;
beforeAll(async () => {
  unsealed = await unsealedLog();
  sealed = await sealedLog();
});

describe("recovery of a damaged log", () => {
  it("finds every prefix state distinct, so that these tests can tell them apart", () => {
    expect(new Set(unsealed.states).size).toBe(BATCHES.length + 1);
  });

  it("cuts a last batch that was torn at any byte", async () => {
    const { bytes, ends, path, states } = unsealed;
    for (let offset = ends.at(-2)!; offset < ends.at(-1)!; offset++) {
      const torn = bytes.slice();
      torn.fill(0, offset);
      // The batch's last bytes may be zeros anyhow: then nothing was torn.
      const isWhole = Buffer.compare(torn, bytes) === 0;
      expect(await outcomeOf(path, torn)).toBe(states.at(isWhole ? -1 : -2));
    }
  });

  it("cuts a last batch of which any one sector is missing", async () => {
    const { bytes, ends, path, states } = unsealed;
    for (let offset = ends.at(-2)!; offset < ends.at(-1)!; offset += 64) {
      const torn = bytes.slice();
      torn.fill(0, offset, Math.min(offset + 64, ends.at(-1)!));
      expect(await outcomeOf(path, torn)).toBe(states.at(-2));
    }
  });

  it("refuses a file that was cut at any byte of its last batch: no crash shortens it", async () => {
    const { bytes, ends, path } = unsealed;
    for (let length = ends.at(-2)!; length <= ends.at(-1)!; length++) {
      expect(await outcomeOf(path, bytes.slice(0, length))).toBe("DATA_CORRUPT");
    }
    for (const length of [0, 1, 52, 4095, 4096, bytes.length - 1]) {
      expect(await outcomeOf(path, bytes.slice(0, length))).toBe("DATA_CORRUPT");
    }
  });

  it("survives every flipped bit of a sealed log whole, or refuses", async () => {
    const { bytes, ends, path, states } = sealed;
    const sealEnd = ends.at(-1)! + FRAME_HEADER_SIZE_BYTES;
    const counts = { whole: 0, refused: 0 };
    // The zeros between the header's fields and its end, and behind the seal: samples.
    const skip = (offset: number): boolean =>
      (offset > 60 && offset < 4090) || (offset > sealEnd + 40 && offset < bytes.length - 4);
    for (let offset = 0; offset < bytes.length; offset++) {
      if (skip(offset)) continue;
      for (let bit = 0; bit < 8; bit++) {
        const damaged = bytes.slice();
        damaged[offset] = damaged[offset]! ^ (1 << bit);
        const outcome = await outcomeOf(path, damaged);
        if (outcome === "DATA_CORRUPT") counts.refused++;
        else {
          counts.whole++;
          expect(outcome).toBe(states.at(-1));
        }
        // All that was acknowledged is behind a checksum and in front of the seal.
        if (offset >= 4096 && offset < ends.at(-1)!) expect(outcome).toBe("DATA_CORRUPT");
      }
    }
    expect(counts.refused).toBe((52 + ends.at(-1)! - 4096) * 8);
    expect(counts.whole).toBeGreaterThan(300);
  });

  it("loses at most the last batch of an unsealed log to a flipped bit", async () => {
    const { bytes, ends, path, states } = unsealed;
    for (let offset = 4096; offset < ends.at(-1)!; offset++) {
      const damaged = bytes.slice();
      damaged[offset] = damaged[offset]! ^ (1 << (offset & 7));
      const expected = offset < ends.at(-2)! ? "DATA_CORRUPT" : states.at(-2);
      expect(await outcomeOf(path, damaged)).toBe(expected);
    }
  });

  it("refuses batches that are zeroed in front of an intact one", async () => {
    const { bytes, ends, path } = sealed;
    for (let batch = 0; batch < BATCHES.length; batch++) {
      const damaged = bytes.slice();
      damaged.fill(0, ends[batch], ends[batch + 1]);
      expect(await outcomeOf(path, damaged)).toBe("DATA_CORRUPT");
      damaged.fill(0, ends[batch], ends.at(-1));
      expect(await outcomeOf(path, damaged)).toBe("DATA_CORRUPT");
    }
  });

  it("treats noise behind the last batch as a torn write", async () => {
    const { bytes, ends, path, states } = unsealed;
    const noisy = bytes.slice();
    for (let i = ends.at(-1)!; i < noisy.length; i++) noisy[i] = Math.imul(i, 2_654_435_761) >>> 24;
    expect(await outcomeOf(path, noisy)).toBe(states.at(-1));
  });

  it("is not fooled by a frame that a user stored as a value", async () => {
    const { bytes, path, ends } = unsealed;
    // What a frame of this log could look like to somebody who does not know the segment's salt.
    const forged = new Uint8Array(40);
    sealFrame(forged, 999, { sequence: 5, previousCrc: 0, durable: 5 });
    const fs = new MemoryFileSystem();
    fs.put(path, bytes.slice());
    const { wal } = await openTestLog({ fs });
    await appendDurably(wal, entries(entry(7, forged, 2)));
    const torn = fs.content(path).slice();
    torn.fill(0, ends.at(-1)!, ends.at(-1)! + 4);
    expect(await outcomeOf(path, torn)).toBe(unsealed.states.at(-1));
  });
});

describe("the seal", () => {
  it("turns damage to the last acknowledged batch from a torn tail into corruption", async () => {
    const { wal, fs, clock } = await openTestLog({ withGroup: false });
    await appendDurably(wal, snapshot(0, 0), entries(entry(1)));
    const path = fs.paths.find((name) => name.endsWith(".wal"))!;
    const damage = (): Uint8Array => {
      const bytes = fs.content(path).slice();
      bytes[HEAD_SIZE_BYTES + 40] = bytes[HEAD_SIZE_BYTES + 40]! ^ 1;
      return bytes;
    };
    expect(await outcomeOf(path, damage())).toBe("[]");
    clock.advance(2 * WAL_IDLE_MS);
    await settle();
    expect(await outcomeOf(path, damage())).toBe("DATA_CORRUPT");
  });

  it("is written once, not again and again", async () => {
    const { wal, fs, clock } = await openTestLog();
    await appendDurably(wal, entries(entry(1)));
    const path = fs.paths.find((name) => name.endsWith(".wal"))!;
    clock.advance(2 * WAL_IDLE_MS);
    await settle();
    const before = fs.content(path).slice();
    clock.advance(1000 * WAL_IDLE_MS);
    await settle();
    expect(fs.content(path)).toEqual(before);
    await wal.close();
    expect(fs.content(path)).toEqual(before);
  });

  it("has room behind any batch, and is durable once the log is closed", async () => {
    // From a batch that leaves plenty of its segment to one that needs the next segment.
    for (let size = 3955; size <= 3995; size++) {
      const { wal, fs } = await openTestLog();
      await appendDurably(wal, entries(entry(1, new Uint8Array(size).fill(0xee))));
      await wal.close();
      const after = fs.crash({ sector: () => false, name: () => false });
      const path = after.paths.findLast((name) => name.endsWith(".wal"))!;
      const bytes = after.content(path).slice();
      const value = Buffer.from(bytes).lastIndexOf(Buffer.alloc(16, 0xee));
      expect(value).toBeGreaterThan(0);
      bytes[value] = 0xef;
      after.put(path, bytes);
      await expect(openTestLog({ fs: after })).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    }
  });

  it("at the end of a segment does not hinder the next one", async () => {
    const { wal, fs, clock } = await openTestLog();
    for (let index = 1; index <= 12; index++) {
      await appendDurably(wal, entries(entry(index, new Uint8Array(1500))));
      clock.advance(2 * WAL_IDLE_MS);
      await settle();
    }
    const { wal: reopened } = await openTestLog({ fs: fs.restarted(), withGroup: false });
    expect(reopened.recovery.groups.values().next().value?.entries).toHaveLength(12);
    expect(reopened.recovery.segments).toBeGreaterThan(4);
  });
});

describe("recovery of a log with many segments", () => {
  /** Files of a log with `count` entries of 1,500 bytes, two to a segment. */
  async function manySegments(count: number): Promise<Map<string, Uint8Array>> {
    const { wal, fs } = await openTestLog();
    for (let index = 1; index <= count; index++) {
      await appendDurably(wal, entries(entry(index, new Uint8Array(1500).fill(index))));
    }
    await wal.close();
    const paths = fs.paths.filter((path) => path.endsWith(".wal"));
    return new Map(paths.map((path) => [path, fs.content(path).slice()]));
  }

  async function openFiles(files: ReadonlyMap<string, Uint8Array>): Promise<number> {
    const fs = new MemoryFileSystem();
    for (const [path, bytes] of files) fs.put(path, bytes.slice());
    const { wal } = await openTestLog({ fs });
    return wal.recovery.groups.values().next().value?.entries.length ?? 0;
  }

  it("refuses when any but the newest is missing", async () => {
    const files = await manySegments(10);
    expect(await openFiles(files)).toBe(10);
    const paths = [...files.keys()];
    for (const missing of paths.slice(0, -1)) {
      const rest = new Map([...files].filter(([path]) => path !== missing));
      await expect(openFiles(rest)).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    }
  });

  it("refuses damage to a batch of any but the newest, even the last of its segment", async () => {
    const files = await manySegments(6);
    const paths = [...files.keys()];
    for (const path of paths.slice(0, -1)) {
      for (const offset of [HEAD_SIZE_BYTES + 500, HEAD_SIZE_BYTES + 2000]) {
        const damaged = new Map(files);
        const bytes = files.get(path)!.slice();
        bytes[offset] = bytes[offset]! ^ 0x10;
        damaged.set(path, bytes);
        await expect(openFiles(damaged)).rejects.toMatchObject({ code: "DATA_CORRUPT" });
      }
    }
  });

  it("refuses swapped, renamed and foreign segments", async () => {
    const files = await manySegments(6);
    const [first, second] = [...files.keys()] as [string, string];
    const swapped = new Map(files);
    swapped.set(first, files.get(second)!).set(second, files.get(first)!);
    await expect(openFiles(swapped)).rejects.toThrow(/was renamed/);
    const renamed = new Map(files);
    renamed.set(`${DIRECTORY}/${segmentName(0x7777)}`, files.get(second)!);
    await expect(openFiles(renamed)).rejects.toMatchObject({ code: "DATA_CORRUPT" });
  });

  it("refuses a checkpoint that disagrees with the segments before it", async () => {
    const files = await manySegments(6);
    const path = [...files.keys()][1]!;
    const bytes = files.get(path)!.slice();
    const header = decodeSegmentHeader(bytes)!;
    const frame = frameAt(bytes, 4096, header.salt, 0, Number.MAX_SAFE_INTEGER)!;
    const checkpoint = bytes.subarray(4096, 4096 + frame.lengthBytes);
    // The commit index of the only group: behind the record's head, its term and its vote.
    checkpoint[FRAME_HEADER_SIZE_BYTES + 7 + 23] = 9;
    sealFrame(checkpoint, header.salt, frame);
    files.set(path, bytes);
    await expect(openFiles(files)).rejects.toThrow(/checkpoint disagrees/);
  });

  it("ignores a prepared segment, whatever is in it", async () => {
    const files = await manySegments(6);
    files.set(`${DIRECTORY}/prepared.tmp`, files.values().next().value!);
    expect(await openFiles(files)).toBe(6);
  });

  it.each([
    [WAL_FORMAT_VERSION + 1, "Start the version of minikv that wrote it"],
    [WAL_FORMAT_VERSION - 1, "begin with an empty data directory"],
  ])("refuses format %i by name, and says what to do", async (version, remedy) => {
    const bytes = new Uint8Array(SEGMENT_SIZE_BYTES);
    encodeSegmentHeader(bytes, {
      version,
      nodeId: NODE,
      number: 1,
      firstSequence: 1,
      sizeBytes: SEGMENT_SIZE_BYTES,
      previousCrc: 0,
      salt: 1,
    });
    const opening = openFiles(new Map([[`${DIRECTORY}/${segmentName(1)}`, bytes]]));
    await expect(opening).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(opening).rejects.toThrow(`has format ${version}`);
    await expect(opening).rejects.toThrow(remedy);
  });

  it.each([
    ["entries with a gap", [snapshot(0, 0), entries(entry(2))], "entries continue"],
    ["a group without a beginning", [entries(entry(1))], "begins with a snapshotMeta"],
    ["what follows a removal", [snapshot(0), remove(), hardState(1, 1, 0)], "begins with a snap"],
    ["the removal of no group", [remove()], "begins with a snapshotMeta"],
    [
      "another replica without a removal",
      [snapshot(0), snapshot(0, 1, GROUP, toReplicaId(77))],
      "makes room for another replica",
    ],
  ])("refuses %s, though every checksum fits", async (_what, records, reason) => {
    const salt = 5;
    const version = WAL_FORMAT_VERSION;
    const header = { version, nodeId: toNodeId(NODE), number: 1, firstSequence: 1, salt };
    const bytes = new Uint8Array(SEGMENT_SIZE_BYTES);
    encodeSegmentHeader(bytes, { ...header, sizeBytes: bytes.length, previousCrc: 0 });
    const checkpoint = bytes.subarray(4096, HEAD_SIZE_BYTES);
    const previousCrc = sealFrame(checkpoint, salt, { sequence: 1, previousCrc: 0, durable: 0 });
    let end = HEAD_SIZE_BYTES + FRAME_HEADER_SIZE_BYTES;
    for (const record of records) end = encodeRecord(bytes, end, record);
    const fields = { sequence: 2, previousCrc, durable: 1 };
    sealFrame(bytes.subarray(HEAD_SIZE_BYTES, end), salt, fields);
    const opening = openFiles(new Map([[`${DIRECTORY}/${segmentName(1)}`, bytes]]));
    await expect(opening).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    await expect(opening).rejects.toThrow(reason);
  });
});
