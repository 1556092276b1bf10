/** Child processes: their output, their bounds, and that none is left behind. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Children } from "./children.ts";

const never = new AbortController().signal;
const children = new Children();
let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "minikv-bench-test-"));
});

afterEach(async () => {
  await children.stopAll();
  rmSync(directory, { recursive: true });
});

function startScript(script: string): ReturnType<Children["start"]> {
  return children.start(process.execPath, ["-e", script], {
    cwd: directory,
    env: process.env,
    outputPath: join(directory, "output.log"),
  });
}

/** Until the script has written `marker`, or for ten seconds. */
async function untilExists(marker: string): Promise<void> {
  for (let waits = 0; waits < 1000 && !existsSync(marker); waits++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(existsSync(marker)).toBe(true);
}

describe("Children", () => {
  it("run() gives exit code and output", async () => {
    const script = "console.log('out'); console.error('err'); process.exit(3)";
    const result = await children.run(process.execPath, ["-e", script], {
      timeoutMs: 10_000,
      signal: never,
    });
    expect(result).toEqual({ code: 3, stdout: "out\n", stderr: "err\n" });
  });

  it("run() rejects at its timeout, when aborted, and for an unknown program", async () => {
    const forever = ["-e", "setInterval(() => {}, 1000)"];
    await expect(
      children.run(process.execPath, forever, { timeoutMs: 50, signal: never }),
    ).rejects.toThrow("was ended");
    await expect(
      children.run(process.execPath, forever, { timeoutMs: 10_000, signal: AbortSignal.abort() }),
    ).rejects.toThrow("was ended");
    await expect(
      children.run(join(directory, "absent"), [], { timeoutMs: 10_000, signal: never }),
    ).rejects.toThrow("ENOENT");
  });

  it("start() writes the output to the file, and stop() ends the process", async () => {
    const marker = join(directory, "marker");
    const child = startScript(
      `console.log("up"); fs.writeFileSync(${JSON.stringify(marker)}, "");` +
        `process.on("SIGTERM", () => process.exit(7)); setInterval(() => {}, 1000)`,
    );
    await untilExists(marker);
    await children.stop(child);
    expect(child.exitCode).toBe(7);
    expect(readFileSync(join(directory, "output.log"), "utf8")).toBe("up\n");
    await children.stop(child);
  });

  it("killAll() ends what ignores SIGTERM", async () => {
    const marker = join(directory, "marker");
    const child = startScript(
      `process.on("SIGTERM", () => {}); fs.writeFileSync(${JSON.stringify(marker)}, "");` +
        `setInterval(() => {}, 1000)`,
    );
    await untilExists(marker);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    children.killAll();
    await ended;
    expect(child.signalCode).toBe("SIGKILL");
  });
});
