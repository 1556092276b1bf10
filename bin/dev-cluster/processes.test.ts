import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DEV_LOG_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { describeEnd, logTail, processSpawner } from "./processes.ts";
import { temporaryDirectory } from "./testing/temporary.ts";

/** Runs a script as a process that logs into a file of the test. */
function run(script: string, logPath = join(temporaryDirectory(), "x.log")) {
  const lines: string[] = [];
  const spawn = processSpawner([process.execPath, "--eval", script]);
  const child = spawn({ args: ["first", "second"], logPath }, (line) => lines.push(line));
  return { child, lines, logPath };
}

describe("processSpawner()", () => {
  it("gives arguments, hands over lines, and logs all that is printed", async () => {
    const { child, lines, logPath } = run(
      "console.log(process.argv.slice(1).join()); console.error('to stderr')",
    );
    expect(await child.ended).toEqual({ code: 0, signal: null });
    expect(lines).toEqual(["first,second"]);
    expect(readFileSync(logPath, "utf8").split("\n").toSorted()).toEqual([
      "",
      "first,second",
      "to stderr",
    ]);
    expect(statSync(logPath).mode & 0o777).toBe(0o600);
  });

  it("tells how a process ended, and sends nothing to one that has", async () => {
    const { child } = run("setInterval(() => {}, 1000)");
    child.signal("SIGKILL");
    expect(await child.ended).toEqual({ code: null, signal: "SIGKILL" });
    child.signal("SIGTERM");
    expect(await run("process.exit(7)").child.ended).toEqual({ code: 7, signal: null });
  });

  it("hands on no settings but the one that ends it with its parent", async () => {
    process.env.MINIKV_NODES = "3";
    const script =
      "console.log(Object.keys(process.env).filter((name) => name.startsWith('MINIKV_')).join());";
    const { child, lines } = run(`${script} process.stdin.resume().on('end', () => {})`);
    delete process.env.MINIKV_NODES;
    await expect.poll(() => lines).toEqual(["MINIKV_EXIT_WITH_PARENT"]);
    // Standard input is open: the process still waits for its end.
    child.signal("SIGTERM");
    expect(await child.ended).toEqual({ code: null, signal: "SIGTERM" });
  });

  it("says why a process could not be started", async () => {
    const logPath = join(temporaryDirectory(), "x.log");
    const child = processSpawner(["/no/such/program"])({ args: [], logPath }, () => {});
    const end = await child.ended;
    expect(child.pid).toBe(0);
    expect(describeEnd(end)).toMatch(/^could not be started: .*ENOENT/);
    child.signal("SIGTERM");
  });

  it("puts a large log aside", async () => {
    const logPath = join(temporaryDirectory(), "x.log");
    writeFileSync(logPath, "x".repeat(DEV_LOG_SIZE_BYTES_MAX + 1));
    await run("console.log('new')", logPath).child.ended;
    expect(readFileSync(logPath, "utf8")).toBe("new\n");
    expect(existsSync(`${logPath}.old`)).toBe(true);
    await run("console.log('more')", logPath).child.ended;
    expect(readFileSync(logPath, "utf8")).toBe("new\nmore\n");
  });
});

describe("logTail()", () => {
  it("gives the last lines, and nothing where nothing is", () => {
    const path = join(temporaryDirectory(), "x.log");
    expect(logTail(path)).toBe("");
    const lines = Array.from({ length: 3_000 }, (_, number) => `line ${number}`);
    writeFileSync(path, `${lines.join("\n")}\n`);
    expect(logTail(path)).toBe(lines.slice(-20).join("\n"));
  });
});
