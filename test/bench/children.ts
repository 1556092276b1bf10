/**
 * Processes that the benchmark starts: every one is ended, whichever way the benchmark ends.
 *
 * Children are put into process groups of their own, so that Ctrl-C reaches the benchmark alone and
 * it can end them in order; what is left when this process exits is killed. Only processes in this
 * list are ever signalled, by their id.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";

const STOP_TIMEOUT_MS = 15_000;

export type RunResult = {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
};

export class Children {
  readonly #running = new Set<ChildProcess>();

  constructor() {
    process.once("exit", () => this.killAll());
  }

  /** Starts a server whose output goes to a file. */
  start(
    command: string,
    args: readonly string[],
    options: {
      readonly cwd: string;
      readonly env: NodeJS.ProcessEnv;
      readonly outputPath: string;
    },
  ): ChildProcess {
    const output = openSync(options.outputPath, "a");
    try {
      const child = spawn(command, args, {
        cwd: options.cwd,
        env: options.env,
        stdio: ["ignore", output, output],
        detached: true,
      });
      return this.#keep(child);
    } finally {
      closeSync(output);
    }
  }

  /** Runs a program to its end. Killed at the timeout or when aborted, which both reject. */
  run(
    command: string,
    args: readonly string[],
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<RunResult> {
    return new Promise((resolve, reject) => {
      const child = this.#keep(
        spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], detached: true }),
      );
      let stdout = "";
      let stderr = "";
      child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
      child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
      const end = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
      const onAbort = (): void => {
        child.kill("SIGKILL");
        reject(new Error(`${command} was ended`, { cause: end.reason }));
      };
      end.addEventListener("abort", onAbort, { once: true });
      child.once("error", reject);
      child.once("close", (code) => {
        end.removeEventListener("abort", onAbort);
        resolve({ code, stdout, stderr });
      });
      if (end.aborted) onAbort();
    });
  }

  /** Asks a process to end, and kills it when it does not. */
  async stop(child: ChildProcess): Promise<void> {
    if (!this.#running.has(child)) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running].map((child) => this.stop(child)));
  }

  killAll(): void {
    for (const child of this.#running) child.kill("SIGKILL");
  }

  #keep(child: ChildProcess): ChildProcess {
    this.#running.add(child);
    const forget = (): void => {
      this.#running.delete(child);
    };
    child.once("exit", forget);
    child.once("error", forget);
    return child;
  }
}
