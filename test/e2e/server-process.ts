/**
 * One `bin/minikv` process of a test: what it prints, when it listens, and how it ended.
 */
import type { ChildProcess } from "node:child_process";
import { type Environment, spawnProgram, untilReadiness } from "#test/processes/minikv.ts";

/** The machine that runs the tests may be busy: a bound against hanging, not a measure. */
const LISTENS_TIMEOUT_MS = 90_000;
const EXIT_TIMEOUT_MS = 90_000;
const READY_TIMEOUT_MS = 90_000;

export type ExitStatus = {
  /** Null when a signal ended the process. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
};

/** One line of the log that a program writes to stderr. */
export type LogRecord = {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
};

export class ServerProcess {
  /** What it was started with, such as `["gateway", "--listen", …]`. */
  readonly args: readonly string[];
  /** Resolves when the process has ended and all that it printed has been read. */
  readonly exited: Promise<ExitStatus>;
  #child: ChildProcess;
  #stdout = "";
  #stderr = "";
  #exit: ExitStatus | undefined;
  #onOutput = (): void => {};

  /** Spawns `bin/minikv` with `args`; does not wait for anything. */
  constructor(args: readonly string[], env: Environment = {}) {
    this.args = args;
    // The first one ends with this process, for a program that is told to end with its parent.
    const child = spawnProgram(args, env, ["pipe", "pipe", "pipe"]);
    this.#child = child;
    child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
      this.#onOutput();
    });
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.exited = new Promise((resolve) => {
      child.on("close", (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** How it ended; undefined while it runs. */
  get exit(): ExitStatus | undefined {
    return this.#exit;
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** Log lines, and what Node itself may have to say. */
  get stderr(): string {
    return this.#stderr;
  }

  /** The log so far; a line that is no JSON becomes a record of level "fatal". */
  logRecords(): readonly LogRecord[] {
    const lines = this.#stderr.split("\n").filter((line) => line !== "");
    return lines.map((line) => {
      try {
        return JSON.parse(line) as LogRecord;
      } catch {
        return { level: "fatal", msg: line };
      }
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** SIGKILL, and waits for the end. */
  async kill9(): Promise<void> {
    this.signal("SIGKILL");
    await this.exited;
  }

  /** SIGTERM, and waits for the end. @throws Error when it does not end in time; it is killed then. */
  async stop(): Promise<ExitStatus> {
    this.signal("SIGTERM");
    return this.waitForExit();
  }

  /** @throws Error with the log when it does not end in time; it is killed then. */
  async waitForExit(timeoutMs = EXIT_TIMEOUT_MS): Promise<ExitStatus> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.signal("SIGKILL");
    }, timeoutMs);
    const status = await this.exited;
    clearTimeout(timer);
    if (isLate) {
      throw new Error(`${this.args[0]} did not end within ${timeoutMs} ms:\n${this.#stderr}`);
    }
    return status;
  }

  /**
   * Waits until stdout matches and returns the first group.
   *
   * @throws Error with all that was printed when the process ends before, or after 90 s.
   */
  async printed(pattern: RegExp): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const found = new Promise<string>((resolve, reject) => {
      const fail = (reason: string): void =>
        reject(
          new Error(`minikv ${this.args.join(" ")} ${reason}:\n${this.#stdout}${this.#stderr}`),
        );
      this.#onOutput = () => {
        const match = pattern.exec(this.#stdout);
        if (match !== null) resolve(match[1]!);
      };
      this.#onOutput();
      timer = setTimeout(() => fail("did not print what was waited for"), LISTENS_TIMEOUT_MS);
      void this.exited.then(({ code, signal }) => fail(`ended with ${code ?? signal}`));
    });
    try {
      return await found;
    } finally {
      clearTimeout(timer);
      this.#onOutput = () => {};
    }
  }
}

/** Waits until `/health/ready` answers with `status`. @throws Error when it never does. */
export const waitForReadiness = (url: string, status: 200 | 503): Promise<void> =>
  untilReadiness(url, status, READY_TIMEOUT_MS);
