import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenBucket } from "./token-bucket.ts";

const EPSILON = 1e-3;

const steps = fc.array(
  fc.record({ waitMs: fc.integer({ min: 0, max: 3000 }), cost: fc.integer({ min: 0, max: 60 }) }),
  { minLength: 1, maxLength: 60 },
);

describe("TokenBucket", () => {
  it("lets through at most rate × time + burst, or + the largest cost, in every span of time", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 50, noNaN: true }),
        fc.double({ min: 0.01, max: 40, noNaN: true }),
        steps,
        (rate, burst, plan) => {
          const bucket = new TokenBucket(rate, burst, 0);
          const passed: { readonly atMs: number; readonly cost: number }[] = [];
          let nowMs = 0;
          for (const { waitMs, cost } of plan) {
            nowMs += waitMs;
            if (bucket.take(cost, nowMs)) passed.push({ atMs: nowMs, cost });
          }
          const room = Math.max(burst, ...passed.map(({ cost }) => cost));
          for (let from = 0; from < passed.length; from++) {
            let sum = 0;
            for (const { atMs, cost } of passed.slice(from)) {
              sum += cost;
              const allowed = (rate * (atMs - passed[from]!.atMs)) / 1000 + room;
              expect(sum).toBeLessThanOrEqual(allowed + EPSILON);
            }
          }
        },
      ),
    );
  });

  it("lets everything through after the time that it says, and nothing before", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 40 }),
        steps,
        (rate, burst, plan) => {
          const bucket = new TokenBucket(rate, burst, 0);
          let nowMs = 0;
          for (const { waitMs, cost } of plan) {
            nowMs += waitMs;
            const missingMs = bucket.waitMs(cost, nowMs);
            expect(bucket.has(cost, nowMs)).toBe(missingMs <= EPSILON);
            nowMs += missingMs;
            expect(bucket.take(cost, nowMs)).toBe(true);
          }
        },
      ),
    );
  });

  it("gives no burst anew when it grows, and drops what no longer fits when it shrinks", () => {
    const bucket = new TokenBucket(10, 10, 0);
    expect(bucket.take(8, 0)).toBe(true);
    bucket.resize(100, 100, 0);
    expect(bucket.level(0)).toBeCloseTo(2);
    bucket.resize(1, 1, 0);
    expect(bucket.level(0)).toBeCloseTo(1);
  });

  it("lets an operation pass that is more than it holds, when it is full, and then waits for the rest", () => {
    const bucket = new TokenBucket(10, 5, 0);
    expect(bucket.take(25, 0)).toBe(true);
    expect(bucket.level(0)).toBe(-20);
    expect(bucket.take(1, 2000)).toBe(false);
    expect(bucket.take(1, 2100)).toBe(true);
  });

  it("takes a cost in place of an earlier one, so that a full bucket is enough for both", () => {
    const bucket = new TokenBucket(10, 5, 0);
    expect(bucket.take(1, 0)).toBe(true);
    expect(bucket.take(25, 0)).toBe(false);
    expect(bucket.takeInstead(1, 25, 0)).toBe(true);
    expect(bucket.level(0)).toBe(-20);
    expect(bucket.takeInstead(1, 25, 0)).toBe(false);
    expect(bucket.level(0)).toBe(-20);
  });

  it("is full again at last, also with a fraction of a token", () => {
    const bucket = new TokenBucket(1 / 3, 1 / 3, 0);
    expect(bucket.take(1, 0)).toBe(true);
    expect(bucket.isFull(1000)).toBe(false);
    expect(bucket.isFull(3000)).toBe(true);
    expect(bucket.take(1, 3000)).toBe(true);
  });

  it("does not fill when time stands still or runs backwards", () => {
    const bucket = new TokenBucket(1000, 1, 5000);
    expect(bucket.take(1, 5000)).toBe(true);
    expect(bucket.take(1, 5000)).toBe(false);
    expect(bucket.take(1, 1000)).toBe(false);
  });

  it("without a rate lets one thing through, and nothing more until it gets one", () => {
    const bucket = new TokenBucket(0, 0, 0);
    expect(bucket.take(3, 0)).toBe(true);
    expect(bucket.take(1, 60_000)).toBe(false);
    expect(bucket.waitMs(1, 60_000)).toBe(Number.POSITIVE_INFINITY);
    bucket.resize(1, 1, 60_000);
    expect(bucket.take(1, 63_900)).toBe(false);
    expect(bucket.take(1, 64_000)).toBe(true);
  });
});
