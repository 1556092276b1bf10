/**
 * The core simulator's runs over real write-ahead logs, on disks that fail and on disks that lie. A
 * failure names its seed and profile: SIM_SEED=n repeats that seed in every profile.
 */
import { describe, expect, it } from "vitest";
import { PROFILES, type Profile } from "./core/options.ts";
import { failureLine } from "./core/report.ts";
import { seedsToRun } from "./seeds.ts";
import { type ClusterRunResult, runCluster } from "./wal/cluster-run.ts";
import { HONEST_FAULTS, LIES } from "./wal/disk-faults.ts";
import type { WalDiskCounts } from "./wal/wal-disk.ts";

const SEEDS_PER_PROFILE = { fixed: 8, fresh: 8 };
/** As in wal.test.ts, no fresh seeds where disks lie. */
const LYING_SEEDS_PER_PROFILE = { fixed: 16, fresh: 0 };

describe("Raft cores over real logs", () => {
  it("keep every safety rule and recover, on disks that fail", async () => {
    const sum = await runAll(true);
    if (process.env.SIM_SEED !== undefined) return;
    expect(HONEST_FAULTS.filter((kind) => !sum.counts.faults.has(kind))).toEqual([]);
    expect(sum.committed).toBeGreaterThan(10 * sum.runs);
    expect(sum.counts.segmentsRemoved).toBeGreaterThan(0);
    expect(sum.counts.unreportedKept).toBeGreaterThan(0);
    expect(sum.counts.tornTails).toBeGreaterThan(0);
    expect(sum.counts.refused + sum.counts.cut + sum.unfinished).toBe(0);
  });

  it("go on without those whose disks have lied and whose logs refuse", async () => {
    const sum = await runAll(false);
    if (process.env.SIM_SEED !== undefined) return;
    expect([...HONEST_FAULTS, ...LIES].filter((kind) => !sum.counts.faults.has(kind))).toEqual([]);
    expect(sum.counts.refused).toBeGreaterThan(sum.runs / 20);
    expect(sum.unfinished).toBeLessThan(sum.runs / 4);
  });

  it("make the same run of the same seed", async () => {
    for (const honest of [true, false]) {
      const [first, second] = [await hashOf(4, honest), await hashOf(4, honest)];
      expect(second).toBe(first);
      expect(await hashOf(5, honest)).not.toBe(first);
    }
  });
});

async function hashOf(seed: number, honest: boolean): Promise<number | undefined> {
  return (await runCluster({ seed, profile: "crashes", honest })).run?.hash;
}

type Sum = { readonly counts: WalDiskCounts; runs: number; committed: number; unfinished: number };

async function runAll(honest: boolean): Promise<Sum> {
  let sum: Sum | undefined;
  for (const profile of PROFILES) {
    for (const seed of seedsToRun(honest ? SEEDS_PER_PROFILE : LYING_SEEDS_PER_PROFILE)) {
      const result = await expectNoViolation(seed, profile, honest);
      sum ??= {
        counts: { ...result.counts, faults: new Map() },
        runs: 0,
        committed: 0,
        unfinished: 0,
      };
      add(sum, result);
    }
  }
  const { counts, ...others } = sum!;
  const faults = JSON.stringify(Object.fromEntries(counts.faults));
  const disks = honest ? "disks that fail" : "disks that lie";
  console.log(`raft over logs on ${disks}: ${JSON.stringify({ ...others, ...counts })} ${faults}`);
  return sum!;
}

async function expectNoViolation(
  seed: number,
  profile: Profile,
  honest: boolean,
): Promise<ClusterRunResult> {
  const result = await runCluster({ seed, profile, honest });
  const failure = result.run?.failure;
  if (failure === undefined) return result;
  const { run } = await runCluster({ seed, profile, honest, traceLines: 60 });
  const what = `seed ${seed}, profile ${profile}, ${honest ? "honest" : "lying"} disks`;
  throw new Error(`${run?.trace}\n${what}: ${failureLine(failure)}\nReplay: SIM_SEED=${seed}`);
}

function add(sum: Sum, { run, counts }: ClusterRunResult): void {
  // The first result's numbers are there already.
  const isFirst = sum.runs === 0;
  sum.runs++;
  for (const [kind, count] of counts.faults) {
    sum.counts.faults.set(kind, (sum.counts.faults.get(kind) ?? 0) + count);
  }
  if (run === undefined) sum.unfinished++;
  else sum.committed += run.statistics.counts["entries committed"];
  if (isFirst) return;
  const numbers = sum.counts as unknown as Record<string, number>;
  for (const [name, value] of Object.entries(counts)) {
    if (typeof value === "number") numbers[name]! += value;
  }
}
