import { describe, expect, it } from "vitest";
import { SyncTime } from "./sync-time.ts";

/** Syncs that take `tookMs`, one after the other. */
function syncs(time: SyncTime, count: number, tookMs: number, fromMs = 0): number {
  let nowMs = fromMs;
  for (let i = 0; i < count; i++) {
    const startedMs = time.begin(nowMs);
    nowMs += tookMs;
    time.end(startedMs, nowMs);
  }
  return nowMs;
}

describe("SyncTime", () => {
  it("comes close to what syncs take, and does not jump with one of them", () => {
    const time = new SyncTime();
    const nowMs = syncs(time, 100, 2);
    expect(time.micros(nowMs)).toBeGreaterThan(1_900);
    expect(time.micros(nowMs)).toBeLessThanOrEqual(2_000);
    const later = syncs(time, 1, 50, nowMs);
    expect(time.micros(later)).toBeLessThan(6_000);
  });

  // A node that was paused gets no leaders, and may never sync again: it would count as slow for ever.
  it("ages while nothing is synced", () => {
    const time = new SyncTime();
    const nowMs = syncs(time, 1, 10_000);
    const before = time.micros(nowMs);
    expect(before).toBeGreaterThan(500_000);
    const ages = [5_000, 20_000, 60_000, 600_000].map((ms) => time.micros(nowMs + ms));
    expect(ages.toSorted((a, b) => b - a)).toEqual(ages);
    expect(ages[0]).toBeLessThan(before);
    expect(ages[2]).toBeLessThan(50_000);
    expect(ages[3]).toBe(0);
    // What is measured then counts as usual.
    const end = syncs(time, 100, 3, nowMs + 600_000);
    expect(time.micros(end)).toBeGreaterThan(2_900);
  });

  it("ages no more than what is measured when syncs go on", () => {
    const time = new SyncTime();
    let nowMs = 0;
    for (let i = 0; i < 300; i++) nowMs = syncs(time, 1, 200, nowMs);
    expect(time.micros(nowMs)).toBeGreaterThan(180_000);
  });

  it("counts a sync that does not end, as if it ended now", () => {
    const time = new SyncTime();
    const nowMs = syncs(time, 100, 1);
    time.begin(nowMs);
    const waits = [0, 1_000, 3_000, 30_000].map((ms) => time.micros(nowMs + ms));
    expect(waits[1]).toBeGreaterThan(waits[0]!);
    expect(waits[2]).toBeGreaterThan(150_000);
    expect(waits[3]).toBeGreaterThan(1_500_000);
    // Of several only how long none has ended counts: a queue moves on.
    time.begin(nowMs + 10);
    time.end(nowMs, nowMs + 20);
    expect(time.micros(nowMs + 20)).toBeLessThan(5_000);
  });
});
