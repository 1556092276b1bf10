/** From slices to the row that is printed, and when there is no figure to print. */
import { describe, expect, it } from "vitest";
import type { LoadResult } from "./load.ts";
import { type Noise, noiseWarnings, othersPercent } from "./noise.ts";
import type { ServerName } from "./protocol.ts";
import { rowText } from "./report.ts";
import { type Cell, median, type Slice, summarize } from "./statistics.ts";

function result(perSecond: number, p99Ms: number, statusErrors = 0): LoadResult {
  return {
    requests: perSecond * 2,
    durationMs: 2000,
    p50Ms: 1,
    p90Ms: 2,
    p99Ms,
    p999Ms: 10,
    maxMs: 20,
    errors: { status: statusErrors, socket: 0, timeout: 0 },
  };
}

const slice = (server: ServerName, pair: number, of: LoadResult): Slice => ({
  server,
  pair,
  seed: 1,
  result: of,
});

const cell = (...slices: readonly Slice[]): Cell => ({
  work: "put",
  connections: 64,
  valueSizeBytes: 4096,
  slices,
});

describe("median()", () => {
  it("takes the middle, or the mean of the two middle ones, in any order", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([10, 9])).toBe(9.5);
  });

  it("throws for no values", () => {
    expect(() => median([])).toThrow(RangeError);
  });
});

describe("summarize()", () => {
  it("divides within pairs and takes the median of the ratios", () => {
    const summary = summarize(
      cell(
        slice("minikv", 1, result(200, 1)),
        slice("etcd", 1, result(100, 4)),
        slice("minikv", 2, result(60, 2)),
        slice("etcd", 2, result(20, 4)),
        slice("minikv", 3, result(400, 4)),
        slice("etcd", 3, result(100, 4)),
      ),
    );
    expect(summary.minikv).toEqual({ kind: "valid", perSecond: 200, p50Ms: 1, p99Ms: 2 });
    expect(summary.peer).toEqual({ kind: "valid", perSecond: 100, p50Ms: 1, p99Ms: 4 });
    expect(summary.throughputRatio).toEqual({ median: 3, min: 2, max: 4 });
    expect(summary.p99Ratio).toEqual({ median: 0.5, min: 0.25, max: 1 });
  });

  it("has no figure and no ratio when one request of one slice failed", () => {
    const summary = summarize(
      cell(
        slice("minikv", 1, result(200, 1)),
        slice("etcd", 1, result(100, 4)),
        slice("minikv", 2, result(200, 1, 1)),
        slice("etcd", 2, result(100, 4)),
      ),
    );
    expect(summary.minikv).toEqual({ kind: "invalid", errors: 1 });
    expect(summary.peer?.kind).toBe("valid");
    expect(summary.throughputRatio).toBeUndefined();
    expect(summary.p99Ratio).toBeUndefined();
  });

  it("has no figure when nothing was answered", () => {
    const summary = summarize(cell(slice("minikv", 1, result(0, 0))));
    expect(summary.minikv).toEqual({ kind: "invalid", errors: 0 });
    expect(summary.peer).toBeUndefined();
  });

  it("leaves out latencies of zero as divisors", () => {
    const summary = summarize(
      cell(slice("minikv", 1, result(200, 1)), slice("etcd", 1, result(100, 0))),
    );
    expect(summary.throughputRatio?.median).toBe(2);
    expect(summary.p99Ratio).toBeUndefined();
  });
});

describe("rowText()", () => {
  it("prints figures, ratio and its range", () => {
    const text = rowText(
      cell(slice("minikv", 1, result(200, 1.5)), slice("etcd", 1, result(100, 3))),
    );
    expect(text.trim().split(/\s+/)).toEqual(
      "put 64 4 KiB 200 1.00 1.50 100 1.00 3.00 2.00 (2.00–2.00) 0.50".split(" "),
    );
  });

  it("prints no figure where there were errors", () => {
    const text = rowText(
      cell(slice("minikv", 1, result(200, 1.5, 3)), slice("etcd", 1, result(100, 3))),
    );
    expect(text).toContain("INVALID: 3 errors");
    expect(text).not.toContain("200");
  });
});

describe("othersPercent()", () => {
  const times = (
    busy: number,
  ): { busy: number; interrupt: number; idle: number; steal: number } => ({
    busy,
    interrupt: 0,
    idle: 1000 - busy,
    steal: 0,
  });

  it("gives what is busy beyond the benchmark's own use", () => {
    const machine = [times(0), { busy: 80, interrupt: 20, idle: 1100, steal: 0 }] as const;
    const before = { machine: machine[0], ownMs: 5000 };
    // 80 of 200 ticks were busy; 600 of these 800 ms are the benchmark's.
    expect(othersPercent(before, { machine: machine[1], ownMs: 5600 })).toBeCloseTo(10);
    expect(othersPercent(before, { machine: machine[1], ownMs: 5900 })).toBe(0);
    expect(othersPercent(before, before)).toBe(0);
  });
});

describe("noiseWarnings()", () => {
  const QUIET: Noise = {
    loadAverageBefore: 0.2,
    cores: 2,
    busyPercentBefore: 1,
    stealPercent: 0,
    othersPercents: [2, 3],
    calibrationsMs: [20, 21, 20],
  };

  it("says nothing about a quiet machine, nor about what the system does not tell", () => {
    expect(noiseWarnings(QUIET)).toEqual([]);
    expect(
      noiseWarnings({
        ...QUIET,
        busyPercentBefore: undefined,
        stealPercent: undefined,
        othersPercents: [],
        calibrationsMs: [],
      }),
    ).toEqual([]);
  });

  it.each<[Partial<Noise>, string]>([
    [{ loadAverageBefore: 1.5 }, "load average was 1.50"],
    [{ busyPercentBefore: 40 }, "40 % busy"],
    [{ stealPercent: 3 }, "withheld 3.0 %"],
    [{ othersPercents: [1, 25] }, "up to 25 %"],
    [{ calibrationsMs: [20, 20, 31] }, "1.55 times"],
  ])("tells of each sign of noise", (change, text) => {
    const warnings = noiseWarnings({ ...QUIET, ...change });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(text);
  });
});
