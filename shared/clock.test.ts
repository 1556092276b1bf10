/** The clock that moves only when told, and its real twin. */
import { describe, expect, it } from "vitest";
import { AssertionError } from "./assert.ts";
import { ManualClock, systemClock } from "./clock.ts";

describe("ManualClock", () => {
  it("stands still until it is advanced", () => {
    const clock = new ManualClock(1_000);
    expect([clock.nowMs(), clock.monotonicMs()]).toEqual([1_000, 0]);
    clock.advance(5);
    expect([clock.nowMs(), clock.monotonicMs()]).toEqual([1_005, 5]);
  });

  it("fires timers at their time, in order of due time, then of creation", () => {
    const clock = new ManualClock();
    const fired: string[] = [];
    const at = (delayMs: number, name: string) =>
      clock.after(delayMs, () => fired.push(`${name} ${clock.monotonicMs()}`));
    at(20, "late");
    at(10, "first");
    at(10, "second");
    at(21, "after the end");
    clock.advance(9);
    expect(fired).toEqual([]);
    clock.advance(11);
    expect(fired).toEqual(["first 10", "second 10", "late 20"]);
    clock.advance(1);
    expect(fired.at(-1)).toBe("after the end 21");
  });

  it("fires timers that callbacks add, when they are due within the same advance", () => {
    const clock = new ManualClock();
    const fired: number[] = [];
    const again = () => {
      fired.push(clock.monotonicMs());
      clock.after(10, again);
    };
    clock.after(10, again);
    clock.advance(35);
    expect(fired).toEqual([10, 20, 30]);
  });

  it("does not fire a cancelled timer, also when another callback cancels it", () => {
    const clock = new ManualClock();
    const fired: string[] = [];
    clock.after(1, () => fired.push("cancelled before"))();
    clock.after(2, () => cancel());
    const cancel = clock.after(2, () => fired.push("cancelled by a callback"));
    clock.advance(5);
    expect(fired).toEqual([]);
  });

  it("never goes back when a callback advances it further", () => {
    const clock = new ManualClock();
    clock.after(1, () => clock.advance(100));
    clock.advance(10);
    expect(clock.monotonicMs()).toBe(101);
  });

  it("jumpWall() moves the wall clock only", () => {
    const clock = new ManualClock(1_000);
    const fired: string[] = [];
    clock.after(10, () => fired.push("timer"));
    clock.jumpWall(-500);
    expect([clock.nowMs(), clock.monotonicMs(), fired.length]).toEqual([500, 0, 0]);
  });
});

describe("systemClock()", () => {
  it("fires a timer, and not one that was cancelled", async () => {
    const clock = systemClock();
    const fired: string[] = [];
    clock.after(1, () => fired.push("cancelled"))();
    await new Promise<void>((resolve) => clock.after(5, resolve));
    expect(fired).toEqual([]);
    expect(clock.nowMs()).toBeGreaterThan(1_700_000_000_000);
    expect(clock.monotonicMs()).toBeGreaterThan(0);
  });

  it("refuses a delay with which the platform would fire at once", () => {
    expect(() => systemClock().after(2 ** 31, () => {})).toThrow(AssertionError);
  });
});
