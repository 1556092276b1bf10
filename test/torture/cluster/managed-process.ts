/**
 * One `bin/minikv` process of a cluster under test: started, killed, stopped, paused, and started again
 * under the same name and arguments.
 *
 * What it prints goes to files, not through this process: a server must not wait for a pipe that a busy
 * test does not read.
 */
import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { spawnProgram } from "#test/processes/minikv.ts";

const POLL_MS = 20;
const LOG_TAIL_BYTES = 4_000;
/** SIGTERM, then this long, then SIGKILL. */
const STOP_TIMEOUT_MS = 40_000;

export type ProcessOptions = {
  readonly name: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly logDirectory: string;
  /** Told of each start, before the process can have done anything. */
  readonly onStart: (pid: number) => void;
  /** The process ended and nobody had asked for it. */
  readonly onUnexpectedEnd: (description: string) => void;
};

export class ManagedProcess {
  readonly name: string;
  readonly #options: ProcessOptions;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #isPaused = false;
  /** Where the log of the present process begins in the file. */
  #outputStart = 0;
  /** Somebody means it to end by itself, such as by a disk that fails. */
  mayEnd = false;
  starts = 0;
  #isRetired = false;

  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** Spawns it unless it runs; does not wait for anything. */
  start(): void {
    if (this.#child !== undefined || this.#isRetired) return;
    const { args, env, onStart, onUnexpectedEnd } = this.#options;
    const out = openSync(this.#path("out"), "a");
    const err = openSync(this.#path("log"), "a");
    this.#outputStart = statSync(this.#path("out")).size;
    const child = spawnProgram(args, env, ["ignore", out, err]);
    closeSync(out);
    closeSync(err);
    this.starts++;
    this.#child = child;
    this.#isPaused = false;
    this.#ended = new Promise((resolve) => {
      const onEnd = (code: number | null, signal: string | null): void => {
        if (this.#child === child) {
          this.#child = undefined;
          const how = `${this.name} ended by itself with ${code ?? signal}`;
          if (!this.mayEnd) onUnexpectedEnd(`${how}:\n${this.logTail()}`);
        }
        resolve();
      };
      child.on("exit", onEnd);
      child.on("error", () => onEnd(null, "ERROR"));
    });
    if (child.pid !== undefined) onStart(child.pid);
  }

  /** SIGKILL, and waits for the end. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    child?.kill("SIGKILL");
    await this.#ended;
  }

  /** Kills it, and it never starts again. */
  async retire(): Promise<void> {
    this.#isRetired = true;
    await this.kill();
  }

  /** SIGTERM, and waits; @returns whether it ended in time and with 0. */
  async stop(): Promise<boolean> {
    const child = this.#child;
    if (child === undefined) return true;
    this.resume();
    this.#child = undefined;
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
    return child.exitCode === 0;
  }

  pause(): void {
    this.#isPaused = true;
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    if (this.#isPaused) this.#child?.kill("SIGCONT");
    this.#isPaused = false;
  }

  /** Waits until the present process has printed `pattern`. @throws Error with the log's end. */
  async printed(pattern: RegExp, timeoutMs: number): Promise<string> {
    const untilMs = performance.now() + timeoutMs;
    while (performance.now() < untilMs) {
      const output = readFileSync(this.#path("out"), "utf8").slice(this.#outputStart);
      const match = pattern.exec(output);
      if (match !== null) return match[1]!;
      if (this.#child === undefined) throw new Error(`${this.name} ended:\n${this.logTail()}`);
      await sleep(POLL_MS);
    }
    throw new Error(`${this.name} does not get ready:\n${this.logTail()}`);
  }

  logTail(): string {
    const path = this.#path("log");
    if (!existsSync(path)) return "";
    return readFileSync(path).subarray(-LOG_TAIL_BYTES).toString("utf8");
  }

  #path(extension: string): string {
    return join(this.#options.logDirectory, `${this.name}.${extension}`);
  }
}
