/**
 * Whole clusters under faults: fixed seeds, seeds that once failed, and fresh ones. They run in processes
 * of their own, because small-product.ts changes a constant of the product. Prints a failing seed.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { KNOWN } from "./cluster/known-seeds.ts";
import type { ClusterResult } from "./cluster/world.ts";
import { seedsToRun } from "./seeds.ts";

const MAIN = join(import.meta.dirname, "cluster/main.ts");
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

type Line = ClusterResult & {
  readonly seed: number;
  readonly rule?: string;
  readonly message?: string;
};

/** One line for each seed; those that failed have a rule. */
function run(seeds: readonly number[]): Promise<readonly Line[]> {
  const options = ["--json", "--keep-going", "--seeds", seeds.join()];
  return new Promise((resolve, reject) => {
    const command = [MAIN, ...options];
    execFile(
      process.execPath,
      command,
      { maxBuffer: OUTPUT_BYTES_MAX },
      (error, stdout, stderr) => {
        const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
        if (lines.length === seeds.length) resolve(lines.map((line) => JSON.parse(line) as Line));
        else reject(new Error(`${stderr}\n${stdout}`, { cause: error ?? undefined }));
      },
    );
  });
}

describe("a simulated cluster", () => {
  it("keeps one history, and settles, whatever happens to its nodes and members", async () => {
    const seeds = seedsToRun({ fixed: 12, fresh: 6, known: KNOWN.map(({ seed }) => seed) });
    const half = Math.ceil(seeds.length / 2);
    const parts = [seeds.slice(0, half), seeds.slice(half)].filter((part) => part.length > 0);
    const lines = (await Promise.all(parts.map(run))).flat();
    console.log(`cluster: ${seeds.length} seeds, ${JSON.stringify(sumOf(lines))}`);
    expect(lines.flatMap(({ message }) => message ?? [])).toEqual([]);
    // A run in which nothing happens would prove nothing.
    if (seeds.length === 1) return;
    const sum = sumOf(lines);
    for (const name of [
      "joins",
      "removals",
      "replicasDestroyed",
      "snapshots",
      "faults",
      "unknown",
    ]) {
      expect(sum[name], name).toBeGreaterThan(0);
    }
    expect(sum.answered).toBeGreaterThan(100 * seeds.length);
  });

  it("does the same again for the same seed", async () => {
    const [first, second] = await Promise.all([run([3]), run([3])]);
    expect(first[0]?.message).toBeUndefined();
    expect(second).toEqual(first);
  });
});

function sumOf(lines: readonly Line[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const {
    traceHash: _hash,
    seed: _seed,
    rule: _rule,
    message: _message,
    ...counts
  } of lines) {
    for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
  }
  return sum;
}
