/** Turns of those who read, also while the engine is asked. */
import { describe, expect, it } from "vitest";
import { StepLine, type StepSource } from "./step-line.ts";
import { turns } from "./testing.ts";

const CLOCK = { monotonicMs: () => 0 };

describe("StepLine", () => {
  it("lets sources take turns, a step each", async () => {
    const line = new StepLine(CLOCK);
    const taken: string[] = [];
    const source = (name: string, steps: number): StepSource => ({
      step: () => {
        taken.push(name);
        return --steps > 0;
      },
    });
    line.wake(source("a", 3));
    line.wake(source("b", 2));
    line.wake(source("c", 1));
    expect(taken).toEqual([]);
    await turns();
    expect(taken).toEqual(["a", "b", "c", "a", "b", "a"]);
  });

  it("takes one step at a time, and again what was woken while its step ran", async () => {
    const line = new StepLine(CLOCK);
    const running: (() => void)[] = [];
    let steps = 0;
    const slow: StepSource = {
      step: () => {
        steps++;
        return new Promise((resolve) => running.push(() => resolve(false)));
      },
    };
    line.wake(slow);
    await turns();
    line.wake(slow);
    await turns();
    expect(steps).toBe(1);
    running.shift()!();
    await turns();
    expect(steps).toBe(2);
    running.shift()!();
    await turns();
    expect(steps).toBe(2);
  });

  it("gives the loop back after a while, and forgets who has gone", async () => {
    let nowMs = 0;
    const line = new StepLine({ monotonicMs: () => nowMs });
    let steps = 0;
    const busy: StepSource = {
      step: () => {
        steps++;
        nowMs += 10;
        return true;
      },
    };
    line.wake(busy);
    await turns(3);
    expect(steps).toBeLessThanOrEqual(3);
    line.remove(busy);
    const before = steps;
    await turns(3);
    expect(steps).toBe(before);
  });
});
