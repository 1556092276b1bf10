/**
 * A few short runs of the simulator beside the core's own tests, so that a broken rule is seen without
 * the long ones (`test/sim/raft.test.ts`). A failure names the command that repeats and shortens it.
 */
import { describe, expect, it } from "vitest";
import { PROFILES } from "#test/sim/core/options.ts";
import { failureLine, replayCommand } from "#test/sim/core/report.ts";
import { type RunSpec, run } from "#test/sim/core/run.ts";

describe("Raft under random faults", () => {
  it.each(PROFILES)("keeps every safety rule and recovers: %s", (profile) => {
    let committed = 0;
    for (let seed = 1; seed <= 30; seed++) {
      const spec: RunSpec = { seed, profile };
      const { failure, statistics } = run(spec);
      committed += statistics.counts["entries committed"];
      if (failure !== undefined) throw new Error(`${failureLine(failure)}\n${replayCommand(spec)}`);
    }
    // A run in which nothing happens would prove nothing.
    expect(committed).toBeGreaterThan(30);
  });
});
