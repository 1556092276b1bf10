/** Power losses of a single node: a fixed set of seeds, and fresh ones. Prints a failing seed. */
import { describe, expect, it } from "vitest";
import { runPowerLoss } from "./power-loss.ts";
import { seedsToRun } from "./seeds.ts";

/** 339676688: a node that had lost power went on flushing into the disk of the next one. */
const KNOWN = [339676688];

describe("a storage node that loses power", () => {
  it("keeps what it acknowledged, and applies a request at most once", async () => {
    const sum = { acknowledged: 0, lost: 0, resent: 0, tornTails: 0, compactions: 0 };
    const seeds = seedsToRun({ fixed: 10, fresh: 5, known: KNOWN });
    for (const seed of seeds) {
      const result = await runPowerLoss(seed);
      sum.acknowledged += result.acknowledged;
      sum.lost += result.lost;
      sum.resent += result.resent;
      sum.tornTails += result.tornTails;
      sum.compactions += result.compactions;
    }
    console.log(`power loss: ${seeds.length} seeds, ${JSON.stringify(sum)}`);
    // A run in which nothing happens would prove nothing.
    if (seeds.length > 1) {
      expect(sum.acknowledged).toBeGreaterThan(10 * seeds.length);
      expect(sum.resent).toBeGreaterThan(0);
      expect(sum.tornTails).toBeGreaterThan(0);
    }
  });
});
