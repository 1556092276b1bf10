/** The Raft core under random faults: a fixed set of seeds, and fresh ones. Prints a failing seed. */
import { describe, expect, it } from "vitest";
import { runChaos } from "#storage-node/raft/testing/chaos.ts";
import { seedsToRun } from "./seeds.ts";

describe("Raft cores under loss, partitions and crashes", () => {
  for (const members of [3, 5]) {
    it(`${members} members keep every safety property and recover`, () => {
      const seeds = seedsToRun({ fixed: 300, fresh: 300 });
      let committed = 0;
      for (const seed of seeds) committed += runChaos({ seed, members, events: 2000 }).committed;
      console.log(
        `raft: ${members} members, ${seeds.length} seeds, ${committed} entries committed`,
      );
      expect(committed).toBeGreaterThan(seeds.length);
    });
  }
});
