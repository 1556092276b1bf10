import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { createLogger, type LogLevel } from "./log.ts";
import { LogLevelControl, parseLogLevelChange, rereadLogLevel } from "./log-level.ts";

function setUp() {
  const clock = new ManualClock();
  const applied: LogLevel[] = [];
  const apply = (level: LogLevel): void => void applied.push(level);
  return { clock, applied, control: new LogLevelControl({ clock, configured: "info", apply }) };
}

describe("LogLevelControl", () => {
  it("brings the configured level back by itself", () => {
    const { clock, applied, control } = setUp();
    control.change({ level: "debug", forMs: 10_000 });
    clock.advance(4_000);
    expect(control.status).toEqual({ level: "debug", configured: "info", seconds_left: 6 });
    clock.advance(6_000);
    expect(control.status).toEqual({ level: "info", configured: "info" });
    expect(applied).toEqual(["debug", "info"]);
  });

  it("counts the time of the last change only", () => {
    const { clock, control } = setUp();
    control.change({ level: "debug", forMs: 10_000 });
    clock.advance(9_000);
    control.change({ level: "error", forMs: 10_000 });
    clock.advance(9_000);
    expect(control.status.level).toBe("error");
    clock.advance(1_000);
    expect(control.status.level).toBe("info");
  });

  it("takes a new configuration over at once, or when a change has run out", () => {
    const { clock, applied, control } = setUp();
    control.configure("warn");
    control.change({ level: "debug", forMs: 1_000 });
    control.configure("error");
    expect(control.status).toMatchObject({ level: "debug", configured: "error" });
    clock.advance(1_000);
    expect(applied).toEqual(["warn", "debug", "error"]);
  });
});

describe("parseLogLevelChange()", () => {
  it.each([
    [
      { level: "debug", for: "30s" },
      { level: "debug", forMs: 30_000 },
    ],
    [
      { level: "warn", for: "24h" },
      { level: "warn", forMs: 86_400_000 },
    ],
    [{ level: "debug" }, { level: "debug", forMs: 600_000 }],
    [{ level: "configured" }, { restore: true }],
  ])("takes %j", (value, change) => {
    expect(parseLogLevelChange(value)).toEqual(change);
  });

  it.each([
    undefined,
    "debug",
    {},
    { level: "loud" },
    { level: "debug", for: "0s" },
    { level: "debug", for: "25h" },
    { level: "debug", for: 10 },
    { level: "debug", for: "10" },
    { level: "configured", for: "10m" },
    { level: "debug", until: "10m" },
  ])("refuses %j", (value) => {
    expect(parseLogLevelChange(value)).toBeTypeOf("string");
  });
});

it("rereadLogLevel() keeps what holds when the file cannot be read", () => {
  const { control } = setUp();
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const logger = createLogger({ level: "info", program: "test", write });
  rereadLogLevel(control, () => ({ logLevel: "warn" }), logger);
  expect(control.status.level).toBe("warn");
  const broken = (): never => {
    throw new Error("no such file");
  };
  rereadLogLevel(control, broken, logger);
  expect(control.status.level).toBe("warn");
  expect(lines.at(-1)).toContain("no such file");
});
