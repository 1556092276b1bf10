/** What tells a busy machine from a slow cluster. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MachinePauses } from "./machine-pauses.ts";

describe("MachinePauses", () => {
  let directory: string;
  let pauses: MachinePauses;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "minikv-pauses-"));
    pauses = new MachinePauses(directory);
  });
  afterEach(() => {
    pauses.close();
    rmSync(directory, { recursive: true });
  });

  it("gives the longest of each kind that overlaps the time asked for", () => {
    // Far from now, so that what this machine does at the moment plays no part.
    pauses.note("timer", -9_000, -8_500);
    pauses.note("timer", -7_000, -6_800);
    pauses.note("sync", -7_500, -6_000);
    expect(pauses.within(-10_000, -5_000)).toEqual({ timer: 500, sync: 1_500, proxy: 0 });
    expect(pauses.within(-7_200, -6_900)).toEqual({ timer: 200, sync: 1_500, proxy: 0 });
    expect(pauses.within(-8_400, -8_000)).toEqual({ timer: 0, sync: 0, proxy: 0 });
  });

  it("takes no short moment for a pause", () => {
    pauses.note("sync", -1_000, -950);
    expect(pauses.within(-1_000, -900).sync).toBe(0);
  });

  it("notices that this process stood still", async () => {
    const fromMs = performance.now();
    const untilMs = fromMs + 400;
    while (performance.now() < untilMs);
    await expect.poll(() => pauses.within(fromMs, untilMs).timer).toBeGreaterThan(200);
  });
});
