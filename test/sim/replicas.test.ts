/** Several real replicas of a group under faults: fixed seeds, and fresh ones. Prints a failing seed. */
import { describe, expect, it } from "vitest";
import { type ReplicasResult, runReplicas } from "./replicas/world.ts";
import { seedsToRun } from "./seeds.ts";

describe("three storage nodes with a replicated group", () => {
  it("keep one history, and are equal in the end", async () => {
    const sum: Record<string, number> = {};
    const seeds = seedsToRun({ fixed: 80, fresh: 80 });
    for (const seed of seeds) add(sum, await runReplicas(seed));
    console.log(`replicas: ${seeds.length} seeds, ${JSON.stringify(sum)}`);
    // A run in which nothing happens would prove nothing.
    if (seeds.length > 1) {
      expect(sum.answered).toBeGreaterThan(10 * seeds.length);
      expect(sum.crashes).toBeGreaterThan(seeds.length);
      expect(sum.resent).toBeGreaterThan(seeds.length);
    }
  });

  it("do the same again for the same seed", async () => {
    const first = await runReplicas(7);
    expect(await runReplicas(7)).toEqual(first);
  });
});

function add(sum: Record<string, number>, { traceHash: _, ...counts }: ReplicasResult): void {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
}
