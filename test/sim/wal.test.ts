/**
 * One write-ahead log on disks that fail and disks that lie: a fixed set of seeds, and fresh ones.
 * Prints a failing seed.
 */
import { describe, expect, it } from "vitest";
import { seedsToRun } from "./seeds.ts";
import { type FaultKind, HONEST_FAULTS, LIES } from "./wal/disk-faults.ts";
import { type LogRunResult, runLog } from "./wal/log-run.ts";

/** 3: what a recovery read after a failed sync had never reached the disk. */
const KNOWN_HONEST = [3];
/** 4287: a batch that was lost where a seal had been took the next batch with it, unnoticed. */
const KNOWN_LYING = [4287, 6741];
/** What hid damage, or made it harmless, was not on disk yet, and got lost as well. */
const KNOWN_DAMAGED = [503865126, 506491, 600573];

describe("a write-ahead log", () => {
  it("on an honest disk keeps all it acknowledged, through errors, kills and power losses", async () => {
    const seeds = seedsToRun({ fixed: 150, fresh: 150, known: KNOWN_HONEST });
    const sum = new Sum();
    for (const seed of seeds) sum.add(await runLog({ seed, honest: true }));
    console.log(`log on an honest disk: ${seeds.length} seeds, ${sum}`);
    // A run in which nothing happens would prove nothing.
    if (seeds.length === 1) return;
    sum.expectEach(HONEST_FAULTS);
    expect(sum.counts.acknowledged).toBeGreaterThan(20 * seeds.length);
    expect(sum.counts.segmentsRemoved).toBeGreaterThan(seeds.length);
    expect(sum.counts.tornTails).toBeGreaterThan(0);
    expect(sum.counts.refused).toBe(0);
  });

  it("on a disk that lies is whole, or refused, or cut where a torn write looks the same", async () => {
    // No fresh ones here: what a lie may do without being noticed is modelled byte for byte
    // (boundary.ts), and a seed that nobody has looked at may show a fault of that model.
    const seeds = seedsToRun({ fixed: 300, fresh: 0, known: [...KNOWN_LYING, ...KNOWN_DAMAGED] });
    const sum = new Sum();
    for (const seed of seeds) sum.add(await runLog({ seed, honest: false }));
    console.log(`log on a lying disk: ${seeds.length} seeds, ${sum}`);
    if (seeds.length === 1) return;
    sum.expectEach([...HONEST_FAULTS, ...LIES]);
    expect(sum.counts.refused).toBeGreaterThan(seeds.length / 4);
    expect(sum.counts.cut).toBeGreaterThan(0);
    expect(sum.counts.harmless).toBeGreaterThan(0);
  });

  it("gives the same run for the same seed", async () => {
    for (const honest of [true, false]) {
      const traces: number[] = [];
      for (let i = 0; i < 2; i++) traces.push((await runLog({ seed: 5, honest })).trace);
      expect(traces[1]).toBe(traces[0]);
    }
  });
});

type Counts = Omit<LogRunResult, "faults" | "trace">;

class Sum {
  readonly counts: { -readonly [Name in keyof Counts]: number } = {
    acknowledged: 0,
    lives: 0,
    segmentsRemoved: 0,
    segmentsSeen: 0,
    tornTails: 0,
    refused: 0,
    cut: 0,
    harmless: 0,
  };
  readonly #faults = new Map<FaultKind, number>();

  add(result: LogRunResult): void {
    for (const name of Object.keys(this.counts) as (keyof Counts)[]) {
      this.counts[name] += result[name];
    }
    for (const [kind, count] of result.faults) {
      this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + count);
    }
  }

  expectEach(kinds: readonly FaultKind[]): void {
    expect(kinds.filter((kind) => !this.#faults.has(kind))).toEqual([]);
  }

  toString(): string {
    return `${JSON.stringify(this.counts)} ${JSON.stringify(Object.fromEntries(this.#faults))}`;
  }
}
