import { describe, expect, it } from "vitest";
import { LATENCY_BOUNDS_MS, LatencyHistogram } from "./latency-histogram.ts";

describe("LatencyHistogram", () => {
  it("counts what is at a bound as within it, and what is beyond the last apart", () => {
    const histogram = new LatencyHistogram();
    for (const bound of LATENCY_BOUNDS_MS) histogram.observe(bound);
    histogram.observe(0);
    histogram.observe(10_000.1);
    const expected = LATENCY_BOUNDS_MS.map((_, at) => (at === 0 ? 2 : 1));
    expect([...histogram.buckets]).toEqual([...expected, 1]);
    expect(histogram.count).toBe(LATENCY_BOUNDS_MS.length + 2);
    expect(histogram.sumMs).toBeCloseTo(
      LATENCY_BOUNDS_MS.reduce((sum, bound) => sum + bound, 0) + 10_000.1,
    );
  });

  it("names the bound of a quantile", () => {
    const histogram = new LatencyHistogram();
    expect(histogram.quantileMs(0.99)).toBe(0);
    for (let i = 0; i < 99; i++) histogram.observe(0.7);
    histogram.observe(70);
    expect(histogram.quantileMs(0.5)).toBe(1);
    expect(histogram.quantileMs(0.99)).toBe(1);
    expect(histogram.quantileMs(1)).toBe(100);
    histogram.observe(1e6);
    expect(histogram.quantileMs(1)).toBe(10_000);
  });
});
