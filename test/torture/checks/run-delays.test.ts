/** What tells nodes that could not run from nodes that did not. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RunDelays, readWaitedMs } from "./run-delays.ts";

describe("RunDelays", () => {
  let delays: RunDelays;
  beforeEach(() => {
    delays = new RunDelays(() => []);
  });
  afterEach(() => delays.close());

  it("adds up what each process waited, and gives the most", () => {
    delays.note(7, -10_000, 300);
    delays.note(8, -10_000, 0);
    delays.note(7, -9_000, 800);
    delays.note(8, -9_000, 100);
    delays.note(7, -8_000, 900);
    expect(delays.within(-9_500, -8_500)).toBe(500);
    expect(delays.within(-9_500, -7_500)).toBe(600);
    expect(delays.within(-6_000, -5_000)).toBe(0);
  });
});

describe.runIf(process.platform === "linux")("readWaitedMs()", () => {
  it("reads what the system has counted, and nothing of a process that is not there", () => {
    expect(readWaitedMs(process.pid)).toBeGreaterThanOrEqual(0);
    expect(readWaitedMs(2 ** 30)).toBeUndefined();
  });
});
