import { describe, expect, it } from "vitest";
import {
  AUDIT_ADDRESSES_NAMED_MAX,
  AUDIT_FAILURES_PER_ADDRESS_MAX,
  AUDIT_FAILURES_PER_SECOND_MAX,
  AUDIT_FAILURES_WINDOW_MS,
} from "#shared/audit-limits.ts";
import { ManualClock } from "#shared/clock.ts";
import { FailureCounter, type FailureSummary } from "./failure-counter.ts";

function fixture() {
  const clock = new ManualClock();
  const summaries: FailureSummary[] = [];
  return { clock, summaries, counter: new FailureCounter(clock, (s) => summaries.push(s)) };
}

describe("FailureCounter", () => {
  it("gives the first failures of an address lines of their own, and counts the rest", () => {
    const { clock, summaries, counter } = fixture();
    const admitted = Array.from({ length: 50 }, () => counter.admits("a")).filter(Boolean);
    expect(admitted).toHaveLength(AUDIT_FAILURES_PER_ADDRESS_MAX);
    // A flood does not hide another address.
    expect(counter.admits("b")).toBe(true);
    clock.advance(AUDIT_FAILURES_WINDOW_MS);
    const count = 50 - AUDIT_FAILURES_PER_ADDRESS_MAX;
    expect(summaries).toEqual([{ count, clients: { a: count } }]);
    expect(counter.admits("a")).toBe(true);
    clock.advance(10 * AUDIT_FAILURES_WINDOW_MS);
    expect(summaries).toHaveLength(1);
  });

  it("costs a bounded number of lines a second, however many addresses fail", () => {
    const { clock, summaries, counter } = fixture();
    let lines = 0;
    for (let n = 0; n < 100_000; n++) if (counter.admits(`address ${n % 5_000}`)) lines++;
    clock.advance(AUDIT_FAILURES_WINDOW_MS);
    expect(lines).toBe(AUDIT_FAILURES_PER_SECOND_MAX);
    expect(summaries).toHaveLength(1);
    expect(summaries[0]!.count).toBe(100_000 - lines);
    expect(Object.keys(summaries[0]!.clients)).toHaveLength(AUDIT_ADDRESSES_NAMED_MAX);
  });

  it("names those that failed most", () => {
    const { counter, summaries } = fixture();
    for (let address = 0; address < 100; address++) {
      for (let n = 0; n <= address; n++) counter.admits(`${address}`);
    }
    counter.flush();
    expect(Object.keys(summaries[0]!.clients)).toContain("99");
    expect(Object.keys(summaries[0]!.clients)).not.toContain("10");
  });
});
