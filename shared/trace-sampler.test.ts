import { describe, expect, it } from "vitest";
import { ManualClock } from "./clock.ts";
import { SeededRandom } from "./random.ts";
import { TraceSampler } from "./trace-sampler.ts";
import { isSampled, traceIdOf } from "./tracing.ts";

const parentOf = (flags: number, trace = "4bf92f3577b34da6a3ce929d0e0e4736") =>
  Uint8Array.fromHex(`${trace}00f067aa0ba902b7${flags.toString(16).padStart(2, "0")}`);

function sampler(ratio: number, options: { isParentBased?: boolean; perSecond?: number } = {}) {
  const { isParentBased = true, perSecond = 5 } = options;
  const clock = new ManualClock();
  const random = new SeededRandom(3);
  const made = new TraceSampler({
    ...{ ratio, isParentBased, clientTracesPerSecondMax: perSecond, clock, random },
  });
  const sampledOf = (count: number, parent?: Uint8Array) =>
    Array.from({ length: count }, () => made.sample(parent)).filter((trace) => trace !== undefined);
  return { made, clock, sampledOf };
}

describe("TraceSampler", () => {
  it.each([
    [0, 0, 0],
    [1, 1_000, 1_000],
    [0.1, 70, 130],
  ])("samples a part of %s of the requests without a trace", (ratio, min, max) => {
    const traces = sampler(ratio).sampledOf(1_000);
    expect(traces.length).toBeGreaterThanOrEqual(min);
    expect(traces.length).toBeLessThanOrEqual(max);
    expect(new Set(traces.map(({ context }) => traceIdOf(context))).size).toBe(traces.length);
    for (const { context, parent } of traces) {
      expect([context.length, isSampled(context), parent]).toEqual([25, true, undefined]);
    }
  });

  it("makes trace ids that decide alike by the same ratio", () => {
    const mine = sampler(0.1).sampledOf(2_000);
    const { made } = sampler(0.1, { isParentBased: false, perSecond: 10_000 });
    for (const { context } of mine) expect(made.sample(context)).toBeDefined();
    const all = sampler(1).sampledOf(1_000);
    const taken = all.filter(({ context }) => made.sample(context) !== undefined);
    expect(taken.length).toBeGreaterThan(70);
    expect(taken.length).toBeLessThan(130);
  });

  it("follows what a client has decided, in its trace", () => {
    const { made } = sampler(0);
    expect(made.sample(parentOf(0))).toBeUndefined();
    const parent = parentOf(1);
    const trace = made.sample(parent)!;
    expect(trace.parent).toBe(parent);
    expect(traceIdOf(trace.context)).toBe(traceIdOf(parent));
    expect(trace.context).not.toEqual(parent);
  });

  it("does not ask at ratio 1 what a client has decided, unless it is parent-based", () => {
    expect(sampler(1).made.sample(parentOf(0))).toBeUndefined();
    expect(sampler(1, { isParentBased: false }).made.sample(parentOf(0))).toBeDefined();
  });

  it("lets clients turn on so many traces a second, and those without a trace all they should", () => {
    const { sampledOf, clock } = sampler(0.5);
    expect(sampledOf(100, parentOf(1))).toHaveLength(5);
    clock.advance(400);
    expect(sampledOf(100, parentOf(1))).toHaveLength(2);
    clock.advance(60_000);
    expect(sampledOf(100, parentOf(1))).toHaveLength(5);
    expect(sampledOf(1_000).length).toBeGreaterThan(400);
  });

  it("lets them turn on none when it may be none, and all when everything is traced", () => {
    expect(sampler(0.5, { perSecond: 0 }).sampledOf(100, parentOf(1))).toHaveLength(0);
    expect(sampler(1, { perSecond: 0 }).sampledOf(100, parentOf(1))).toHaveLength(100);
  });

  it("bounds trace ids that a client has chosen so that they are sampled", () => {
    const chosen = parentOf(0, "f".repeat(32));
    expect(sampler(0.01, { isParentBased: false }).sampledOf(100, chosen)).toHaveLength(5);
  });

  it("childOf() stays in the trace", () => {
    const { made } = sampler(1);
    const parent = parentOf(1);
    const [a, b] = [made.childOf(parent), made.childOf(parent)];
    expect(traceIdOf(a)).toBe(traceIdOf(parent));
    expect(isSampled(a)).toBe(true);
    expect(new Set([a, b, parent].map((context) => context.toHex())).size).toBe(3);
  });
});
