import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { SLOW_LINES_PER_WINDOW_MAX, SLOW_WINDOW_MS } from "#shared/limits-telemetry.ts";
import { createLogger } from "./log.ts";
import { roundMs, SlowLog } from "./slow-log.ts";

function setUp(slowMs = 500) {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>);
  const clock = new ManualClock();
  const logger = createLogger({ level: "info", program: "test", write });
  return { lines, clock, log: new SlowLog({ clock, logger, slowMs }) };
}

describe("SlowLog", () => {
  it("writes a line for each, at warn", () => {
    const { lines, log } = setUp();
    log.note(() => ({ operation: "put", duration_ms: 600 }));
    expect(lines).toMatchObject([
      { level: "warn", msg: "slow operation", operation: "put", duration_ms: 600 },
    ]);
  });

  it("folds what is beyond its bound into one line with a count, and begins anew", () => {
    const { lines, clock, log } = setUp();
    let built = 0;
    const note = (): void =>
      log.note(() => {
        built++;
        return {};
      });
    for (let i = 0; i < SLOW_LINES_PER_WINDOW_MAX + 7; i++) note();
    expect(built).toBe(SLOW_LINES_PER_WINDOW_MAX);
    clock.advance(SLOW_WINDOW_MS);
    expect(lines).toHaveLength(SLOW_LINES_PER_WINDOW_MAX + 1);
    expect(lines.at(-1)).toMatchObject({ count: 7 });
    note();
    clock.advance(SLOW_WINDOW_MS);
    expect(lines).toHaveLength(SLOW_LINES_PER_WINDOW_MAX + 2);
    expect(log.total).toBe(SLOW_LINES_PER_WINDOW_MAX + 8);
  });

  it("finds nothing slow when it is turned off", () => {
    expect(setUp(0).log.slowMs).toBe(Number.POSITIVE_INFINITY);
    expect(setUp(500).log.slowMs).toBe(500);
  });
});

it("roundMs() keeps microseconds", () => {
  expect(roundMs(1.23456)).toBe(1.235);
});
