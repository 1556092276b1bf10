/** What is added up over rounds. */
import { describe, expect, it } from "vitest";
import { reportJson, reportText } from "./report.ts";
import { percentile, Totals } from "./totals.ts";

describe("percentile()", () => {
  it.each([
    [[], 50, 0],
    [[5], 99, 5],
    [[3, 1, 2], 50, 2],
    [[4, 1, 3, 2], 50, 2],
    [Array.from({ length: 100 }, (_, i) => i + 1), 99, 99],
    [[1, 2], 100, 2],
  ])("of %j, %i%%", (values, percent, expected) => {
    expect(percentile(values, percent)).toBe(expected);
  });
});

describe("the report", () => {
  it("tells of faults, operations and violations", () => {
    const totals = new Totals();
    for (const lengthMs of [7_000, 900, 3_000]) totals.struck("kill", lengthMs);
    totals.mayStrike("kill");
    totals.mayStrike("fullDisk");
    totals.add(totals.operations, new Map([["put stored", 10]]));
    totals.worstStretch = { what: "vshard 3 in c1r1", lengthMs: 2_345 };
    totals.worstOfAll = { what: "c1r2, from then, kill n1", lengthMs: 1_234 };
    totals.violated("c1r1: something");
    const text = reportText(totals, 7);
    expect(text).toMatch(/kill +3 +of 0\.9 s to 7\.0 s\n/);
    expect(text).toMatch(/fullDisk +0\n/);
    expect(text).toMatch(/put stored +10\n/);
    expect(text).toContain("2.3 s (vshard 3 in c1r1)");
    expect(text).toContain("any acknowledged write: 1.2 s (c1r2, from then, kill n1)");
    expect(text).toContain("violations: 1\nc1r1: something");
    expect(JSON.parse(reportJson(totals, 7))).toMatchObject({
      seed: 7,
      faults: { kill: 3, fullDisk: 0 },
      longestStretchMs: 2_345,
      longestStretchOfAllMs: 1_234,
      violations: ["c1r1: something"],
    });
  });
});
