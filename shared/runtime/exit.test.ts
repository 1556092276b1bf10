/** The end of processes that cannot end in order. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { endAtOnce } from "./exit.ts";

const MODULE = JSON.stringify(new URL("./exit.ts", import.meta.url).href);
const ENDS_TIMEOUT_MS = 20_000;

type End = { readonly code: number | null; readonly out: string; readonly isLate: boolean };

/** Runs a module that has `endAtOnce`; kills it when it does not end. */
function run(script: string): Promise<End> {
  const text = `import { endAtOnce } from ${MODULE};\n${script}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", text]);
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    out += piece;
  });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, ENDS_TIMEOUT_MS);
  return new Promise((resolve) => {
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, out, isLate });
    });
  });
}

describe("endAtOnce()", () => {
  it.each([0, 1, 130, 143])("ends with %i, after the listeners of exit", async (code) => {
    const end = await run(`
      process.on("exit", (code) => console.log("exit", code));
      setInterval(() => {}, 1_000);
      endAtOnce(${code});
      console.log("went on");
    `);
    expect(end).toEqual({ code, out: `exit ${code}\n`, isLate: false });
  });

  it("waits for no thread of the pool, as those of a disk that hangs", async () => {
    const directory = mkdtempSync(join(tmpdir(), "minikv-exit-"));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const fifo = join(directory, "fifo");
    expect(spawnSync("mkfifo", [fifo]).status).toBe(0);
    const end = await run(`
      import { open } from "node:fs";
      // Nobody ever writes into it.
      open(${JSON.stringify(fifo)}, "r", () => {});
      setTimeout(() => endAtOnce(130), 50);
    `);
    expect(end).toEqual({ code: 130, out: "", isLate: false });
  });

  it("ends although another thread never does", async () => {
    const end = await run(`
      import { Worker } from "node:worker_threads";
      const busy = 'require("node:worker_threads").parentPort.postMessage(1); for (;;);';
      new Worker(busy, { eval: true }).on("message", () => endAtOnce(1));
    `);
    expect(end).toEqual({ code: 1, out: "", isLate: false });
  });

  it("ends as Node does where the process cannot become another one", () => {
    const done: string[] = [];
    const fail = (): never => {
      throw new Error("no");
    };
    const exit = (code: number): void => void done.push(`exit ${code}`);
    endAtOnce(1, { emit: fail, execve: fail, exit });
    endAtOnce(2, { emit: (_, code) => done.push(`told ${code}`), exit });
    expect(done).toEqual(["exit 1", "told 2", "exit 2"]);
  });
});
