import { describe, expect, it } from "vitest";
import { nextPair, quantileMs, ratePerSecond } from "./rates.ts";

type Reads = { readonly uptime_ms: number; readonly reads: number };
const reads = (uptime: number, count: number): Reads => ({ uptime_ms: uptime, reads: count });
const rateOf = (looks: readonly (Reads | null)[]): number | null | undefined => {
  let pair: ReturnType<typeof nextPair<Reads>>;
  for (const look of looks) pair = nextPair(pair, look);
  return pair && ratePerSecond(pair, (one) => one.reads);
};

describe("ratePerSecond()", () => {
  it("divides by the time of whoever counted", () => {
    expect(rateOf([reads(1_000, 5), reads(1_500, 15)])).toBe(20);
  });

  it("is not known from one look, nor after a restart", () => {
    expect(rateOf([reads(1_000, 5)])).toBe(null);
    expect(rateOf([reads(1_000, 5), reads(2_000, 50), reads(300, 7)])).toBe(null);
    expect(rateOf([reads(2_000, 50), reads(300, 7), reads(800, 8)])).toBe(2);
  });

  it("stays while no new report has come", () => {
    expect(rateOf([reads(1_000, 0), reads(2_000, 9), reads(2_000, 9)])).toBe(9);
  });

  it("is gone with the figures", () => {
    expect(rateOf([reads(1_000, 0), reads(2_000, 9), null])).toBe(undefined);
  });
});

describe("quantileMs()", () => {
  type Times = { readonly uptime_ms: number; readonly counts: readonly number[] };
  const BOUNDS_MS = [1, 10, 100];
  const quantile = (before: readonly number[], now: readonly number[], q: number) => {
    const pair = nextPair<Times>(
      { now: { uptime_ms: 1, counts: before }, before: undefined },
      { uptime_ms: 2, counts: now },
    );
    return quantileMs(pair!, (one) => one.counts, q, BOUNDS_MS);
  };

  it("counts only what happened in between", () => {
    expect(quantile([1_000, 0, 0, 0], [1_000, 10, 0, 0], 0.99)).toBe(9.91);
  });

  it("spreads a bucket evenly", () => {
    expect(quantile([0, 0, 0, 0], [10, 10, 0, 0], 0.5)).toBe(1);
    expect(quantile([0, 0, 0, 0], [0, 10, 0, 0], 0.5)).toBe(5.5);
  });

  it("is the last bound for what is beyond it", () => {
    expect(quantile([0, 0, 0, 0], [0, 0, 0, 3], 0.5)).toBe(100);
  });

  it("is not known when nothing happened", () => {
    expect(quantile([1, 2, 3, 4], [1, 2, 3, 4], 0.5)).toBe(null);
  });
});
