/** When the heap is compacted: once, in an idle second, and never while there is work. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { compactHeapWhenIdle } from "./compact-heap.ts";

function setUp(busy: readonly number[]) {
  const clock = new ManualClock();
  const collections: number[] = [];
  const left = [...busy];
  const startMs = clock.monotonicMs();
  compactHeapWhenIdle({
    clock,
    gc: () => collections.push(clock.monotonicMs() - startMs),
    busyPart: () => left.shift() ?? 0,
  });
  const run = (seconds: number): void => {
    for (let second = 0; second < seconds; second++) clock.advance(1_000);
  };
  return { collections, run };
}

describe("compactHeapWhenIdle()", () => {
  it("collects once, after the first second without work", () => {
    const { collections, run } = setUp([0.9, 0.5, 0.02, 0, 0]);
    run(10);
    expect(collections).toEqual([3_000]);
  });

  it("leaves a program alone that was busy for a minute", () => {
    const { collections, run } = setUp(Array.from({ length: 60 }, () => 0.5));
    run(100);
    expect(collections).toEqual([]);
  });

  it("returns memory to the system where the flag was given, and goes without it", () => {
    const script = `
      import { compactHeapWhenIdle } from "#shared/runtime/compact-heap.ts";
      import { systemClock } from "#shared/clock.ts";
      let garbage = Array.from({ length: 300_000 }, (_, i) => ({ i, text: "x" + i }));
      const before = process.memoryUsage().heapTotal;
      garbage = undefined;
      compactHeapWhenIdle({ clock: systemClock(), busyPart: () => 0 });
      setTimeout(() => console.log(process.memoryUsage().heapTotal / before), 1_500);`;
    const run = (...flags: string[]): number =>
      Number(
        execFileSync(process.execPath, [...flags, "--input-type=module-typescript", "-e", script], {
          cwd: join(import.meta.dirname, "..", ".."),
          encoding: "utf8",
        }),
      );
    expect(run("--expose-gc")).toBeLessThan(0.5);
    expect(run()).toBeGreaterThan(0.5);
  });
});
