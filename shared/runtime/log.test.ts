/** Log lines. */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createLogger } from "./log.ts";

/** A device of Linux on which every write fails for want of space. */
const FULL = "/dev/full";

function collect(level: "debug" | "warn") {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>);
  return { lines, logger: createLogger({ level, program: "test", write }) };
}

describe("createLogger()", () => {
  it("writes one JSON object with level, RFC 3339 time, program and message", () => {
    const { lines, logger } = collect("debug");
    logger.child({ group: 3 }).info({ index: 7 }, "applied");
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({
      level: "info",
      program: "test",
      group: 3,
      index: 7,
      msg: "applied",
    });
    expect(lines[0]!.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });

  it("keeps stack and cause of an error", () => {
    const { lines, logger } = collect("debug");
    logger.error({ err: new Error("outer", { cause: new Error("inner") }) }, "failed");
    expect(JSON.stringify(lines[0]!.err)).toMatch(/outer.*inner/);
  });

  it("leaves out what is below its level", () => {
    const { lines, logger } = collect("warn");
    logger.info({}, "quiet");
    logger.warn({}, "loud");
    expect(lines.map(({ msg }) => msg)).toEqual(["loud"]);
    expect(logger.isLevelEnabled("info")).toBe(false);
  });

  it.skipIf(!existsSync(FULL))("ends no process whose lines cannot be written", () => {
    const full = openSync(FULL, "w");
    const script = `
      import { createLogger } from ${JSON.stringify(new URL("./log.ts", import.meta.url).href)};
      const logger = createLogger({ level: "info", program: "test" });
      for (let line = 0; line < 1_000; line++) logger.info({ text: "x".repeat(1_000) }, "lost");
      setImmediate(() => {
        logger.fatal({}, "lost too");
        console.log("goes on");
      });
    `;
    const { status, stdout } = spawnSync(
      process.execPath,
      ["--input-type=module", "--eval", script],
      { stdio: ["ignore", "pipe", full], encoding: "utf8", timeout: 20_000 },
    );
    closeSync(full);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "goes on\n" });
  });
});
