import { describe, expect, it } from "vitest";
import { Cancellation } from "./cancellation.ts";

describe("Cancellation", () => {
  it("tells the call that listens, and remembers", () => {
    const cancellation = new Cancellation();
    let told = 0;
    cancellation.listen(() => told++);
    expect([cancellation.isCancelled, told]).toEqual([false, 0]);
    cancellation.cancel();
    expect([cancellation.isCancelled, told]).toEqual([true, 1]);
  });

  it("does not tell a call that has ended, but the one after it", () => {
    const cancellation = new Cancellation();
    const told: string[] = [];
    cancellation.listen(() => told.push("first"));
    cancellation.release();
    cancellation.listen(() => told.push("second"));
    cancellation.cancel();
    expect(told).toEqual(["second"]);
  });

  it("serves one call at a time, and none once cancelled", () => {
    const cancellation = new Cancellation();
    cancellation.listen(() => undefined);
    expect(() => cancellation.listen(() => undefined)).toThrow("one call at a time");
    cancellation.release();
    cancellation.cancel();
    expect(() => cancellation.listen(() => undefined)).toThrow("who is gone");
  });
});
