/**
 * A log cut at every byte of its last batch, and with flipped bits all over: a whole storage node
 * either starts with exactly what was acknowledged, or refuses and says what to do. Never wrong data.
 *
 * The directories are those of real servers, killed. With the memory engine all data comes from the
 * log; with RocksDB the log has to agree with an engine that has applied it.
 */
import { readFileSync, truncateSync } from "node:fs";
import { basename } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import type { EngineKind } from "#storage-node/engine/open.ts";
import { SEGMENT_HEADER_SIZE_BYTES } from "#storage-node/wal/frame.ts";
import { Copy, fill, tryOpening, waitForSeal } from "./faults/damage.ts";
import { KvClient } from "./faults/kv-client.ts";
import { framesOf, type PlacedFrame } from "./faults/log-files.ts";
import { makePayload } from "./faults/payload.ts";
import { runSeed } from "./faults/seed.ts";
import { spawnMinikv, startAllInOne } from "./harness.ts";

const KEYS = 24;
const LAST_KEY = "the-last-key";
/** Every byte where the log is all there is, and enough of them where an engine stands beside it. */
const CUT_STEP_BYTES = { memory: 1, rocksdb: 5 } as const;
const FLIPS = 200;
const PROCESS_SAMPLES = 4;

/** Large enough segments keep the log of RocksDB whole; small ones let it be compacted. */
const SEGMENTS: Readonly<Record<"whole" | "compacted", string>> = {
  whole: "8MiB",
  compacted: "1MiB",
};

/** Hundreds of nodes are opened: minutes on a busy machine. */
const MANY_STARTS = { timeout: 900_000 } as const;
const ENGINES = ["memory", "rocksdb"] as const;

async function startFilled(engine: EngineKind, segments: keyof typeof SEGMENTS) {
  const sizes = ["--wal-segment-size", SEGMENTS[segments], "--disk-reserve", "1MiB"];
  const server = await startAllInOne({ args: ["--engine", engine, ...sizes] });
  const contents = await fill(server, KEYS);
  await waitForSeal(server.dataDir);
  return { server, contents };
}

function copyOf(dataDir: string): Copy {
  const copy = new Copy(dataDir);
  onTestFinished(() => copy.remove());
  return copy;
}

describe.each(ENGINES)("a log whose last batch is cut (%s)", MANY_STARTS, (engine) => {
  /**
   * The log of a server that was killed right after `LAST_KEY` was written, the batch that holds it,
   * and a copy of the directory from before: a torn batch was never applied.
   */
  async function killedAfterLastKey() {
    const { server, contents } = await startFilled(engine, "whole");
    const before = copyOf(server.dataDir);
    const client = new KvClient(server.url);
    const body = makePayload({ key: LAST_KEY, sequence: 1 }, 100);
    expect((await client.answer("PUT", LAST_KEY, { body })).status).toBe(201);
    await server.kill9();
    client.close();
    const after = copyOf(server.dataDir);
    expect(basename(after.newestSegment)).toBe(basename(before.newestSegment));
    const log = readFileSync(after.newestSegment);
    const frame = framesOf(log).findLast((found) => bytesOf(log, found).includes(LAST_KEY))!;
    return { before, contents, log, frame };
  }

  it("at any byte starts without that batch, and with all before it", async () => {
    const { before, contents, log, frame } = await killedAfterLastKey();
    const keys = [...contents.keys(), LAST_KEY];
    const step = CUT_STEP_BYTES[engine];
    const cuts = Array.from({ length: Math.floor(frame.lengthBytes / step) }, (_, i) => i * step);
    for (const kept of [...cuts, frame.lengthBytes - 1, frame.lengthBytes]) {
      const cut = Buffer.from(log).fill(0, frame.offset + kept);
      const copy = new Copy(before.dataDir);
      try {
        copy.writeNewest(cut);
        const opening = await tryOpening(copy.dataDir, engine, keys);
        const isWhole = kept === frame.lengthBytes;
        const expected = new Map([...contents, [LAST_KEY, isWhole ? 1 : undefined]]);
        const leavesTraces = cut.subarray(frame.offset, frame.offset + kept).some((b) => b !== 0);
        const tornTail = leavesTraces && !isWhole;
        expect(opening, `kept ${kept}`).toEqual({ kind: "opened", contents: expected, tornTail });
      } finally {
        copy.remove();
      }
    }
  });

  it("is refused when the file itself is shorter", async () => {
    const { before, contents, log, frame } = await killedAfterLastKey();
    for (const sizeBytes of [0, 100, frame.offset, frame.offset + 30, log.length - 1]) {
      const copy = copyOf(before.dataDir);
      copy.writeNewest(log);
      truncateSync(copy.newestSegment, sizeBytes);
      const opening = await tryOpening(copy.dataDir, engine, contents.keys());
      expectRefused(opening, copy);
    }
  });
});

describe.each(ENGINES)("a log with a flipped bit (%s)", MANY_STARTS, (engine) => {
  it("starts with exactly what was acknowledged, or is refused", async () => {
    const seed = runSeed(`flipped bits (${engine})`);
    const random = new SeededRandom(seed);
    const { server, contents } = await startFilled(engine, "compacted");
    await server.kill9();
    const log = readFileSync(copyOf(server.dataDir).newestSegment);
    const frames = framesOf(log);
    const refusedBits: number[] = [];
    for (let flip = 1; flip <= FLIPS; flip++) {
      const bit = flippedBit(random, log, frames);
      const copy = new Copy(server.dataDir);
      try {
        copy.writeNewest(withFlipped(log, bit));
        const opening = await tryOpening(copy.dataDir, engine, contents.keys());
        if (opening.kind === "opened") expect(opening.contents).toEqual(contents);
        else expectRefused(opening, copy);
        if (opening.kind === "refused") refusedBits.push(bit);
      } catch (error) {
        const where = `seed ${seed}, bit ${bit & 7} of byte ${bit >> 3}`;
        throw new Error(`${where}: ${String(error)}`, { cause: error });
      } finally {
        copy.remove();
      }
    }
    expect(refusedBits.length).toBeGreaterThan(PROCESS_SAMPLES);
    expect(refusedBits.length).toBeLessThan(FLIPS);
    for (const bit of refusedBits.slice(0, PROCESS_SAMPLES)) {
      await expectProcessRefuses(copyOf(server.dataDir), withFlipped(log, bit), engine);
    }
  });
});

function expectRefused(opening: Awaited<ReturnType<typeof tryOpening>>, copy: Copy): void {
  if (opening.kind !== "refused") expect.fail("a damaged log was opened");
  expect(opening.error.code).toBe("DATA_CORRUPT");
  expect(opening.error.message).toContain(copy.newestSegment);
  expect(opening.error.message).toContain("docs/operations.md");
}

async function expectProcessRefuses(copy: Copy, log: Buffer, engine: EngineKind): Promise<void> {
  copy.writeNewest(log);
  const args = ["--listen", "127.0.0.1:0", "--data-dir", copy.dataDir, "--engine", engine];
  const refused = spawnMinikv(["dev", ...args]);
  expect(await refused.waitForExit()).toEqual({ code: 1, signal: null });
  expect(refused.stdout).toBe("");
  expect(refused.stderr).toMatch(/^minikv: cannot start: write-ahead log damaged: [^\n]*\n$/);
  expect(refused.stderr).toContain(copy.newestSegment);
  expect(refused.stderr).toContain("docs/operations.md");
}

/** Mostly in what the log holds, more often where it is delicate, and sometimes behind its end. */
function flippedBit(random: SeededRandom, log: Uint8Array, frames: readonly PlacedFrame[]): number {
  const last = frames.at(-1)!;
  const end = last.offset + last.lengthBytes;
  const kind = random.below(10);
  if (kind < 6) return random.below(end * 8);
  if (kind === 6) return random.below(SEGMENT_HEADER_SIZE_BYTES * 8);
  if (kind === 7) return 8 * frames[random.below(frames.length)]!.offset + random.below(28 * 8);
  if (kind === 8) return 8 * last.offset + random.below(last.lengthBytes * 8);
  return 8 * end + random.below((log.length - end) * 8);
}

function withFlipped(log: Uint8Array, bit: number): Buffer {
  const flipped = Buffer.from(log);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}

const bytesOf = (log: Buffer, frame: PlacedFrame): Buffer =>
  log.subarray(frame.offset, frame.offset + frame.lengthBytes);
