/**
 * One place in the cluster, a storage node or a gateway, and the processes that fill it one after the
 * other. Starts, stops and pauses them, and knows what is known of the latest.
 */
import { assert } from "#shared/assert.ts";
import type { Clock } from "#shared/clock.ts";
import {
  describeEnd,
  type ProcessEnd,
  type RunningProcess,
  type SpawnProcess,
} from "./processes.ts";

/** `ended`: also before the first start. */
export type MemberPhase = "starting" | "serving" | "stopping" | "ended";

export type MemberOptions = {
  /** `node-1`, `gateway-1`, … */
  readonly name: string;
  /** Asked for at each start: other members may have come since. */
  readonly args: () => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly logPath: string;
  /** Matches the line by which its process says that it serves. */
  readonly servesLine: RegExp;
  readonly spawn: SpawnProcess;
  readonly clock: Clock;
  /** Phase, process or pause have changed. */
  readonly onChange: () => void;
  /** A process has ended that nobody had told to stop in order. */
  readonly onUnexpectedEnd: (pid: number, end: ProcessEnd) => void;
};

/** A start that came to an end of the process. */
export class StartFailed extends Error {
  readonly end: ProcessEnd;

  constructor(end: ProcessEnd) {
    super("the process ended before it served");
    this.name = "StartFailed";
    this.end = end;
  }
}

export class Member {
  readonly name: string;
  readonly #options: MemberOptions;
  #process: RunningProcess | undefined;
  #phase: MemberPhase = "ended";
  #lastEnd: ProcessEnd | undefined;
  #servesLine: string | undefined;
  #paused = false;
  #cancelResume = (): void => {};

  constructor(options: MemberOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get phase(): MemberPhase {
    return this.#phase;
  }

  get isPaused(): boolean {
    return this.#paused;
  }

  /** Null when no process runs. */
  get pid(): number | null {
    return this.#phase === "ended" ? null : this.#process!.pid;
  }

  get logPath(): string {
    return this.#options.logPath;
  }

  /** Resolves when no process runs. */
  async ended(): Promise<void> {
    if (this.#phase !== "ended") await this.#process!.ended;
  }

  /** How the latest process ended; undefined before the first end. */
  get lastEnd(): ProcessEnd | undefined {
    return this.#lastEnd;
  }

  /** What the latest process that served said of itself; undefined before. */
  get servesLine(): string | undefined {
    return this.#servesLine;
  }

  /**
   * Starts a process. Resolves when it serves.
   *
   * @throws StartFailed when it ends before
   */
  start(): Promise<void> {
    assert(this.#phase === "ended", `${this.name} has no process when one is started`);
    const { args, env = {}, logPath, servesLine, spawn } = this.#options;
    return new Promise((resolve, reject) => {
      const running = spawn({ args: args(), env, logPath }, (line) => {
        if (this.#phase !== "starting" || this.#process !== running) return;
        if (!servesLine.test(line)) return;
        this.#servesLine = line;
        this.#enter("serving");
        resolve();
      });
      this.#process = running;
      this.#enter("starting");
      void running.ended.then((end) => {
        reject(new StartFailed(end));
        this.#onEnd(running, end);
      });
    });
  }

  #onEnd(running: RunningProcess, end: ProcessEnd): void {
    const wasUnexpected = this.#phase === "serving";
    this.#lastEnd = end;
    this.#forgetPause();
    this.#enter("ended");
    if (wasUnexpected) this.#options.onUnexpectedEnd(running.pid, end);
  }

  /**
   * SIGTERM, and SIGKILL when it does not end in time. Does nothing when no process runs.
   *
   * @returns what was wrong with the end; undefined when nothing was, or no process ran
   */
  async stop(timeoutMs: number): Promise<string | undefined> {
    if (this.#phase === "ended") return undefined;
    const running = this.#process!;
    const wasStarting = this.#phase === "starting";
    this.#enter("stopping");
    running.signal("SIGTERM");
    // A process that is stopped by SIGSTOP takes no other signal before it goes on.
    this.resume();
    let late = false;
    const cancel = this.#options.clock.after(timeoutMs, () => {
      late = true;
      running.signal("SIGKILL");
    });
    const end = await running.ended;
    cancel();
    if (late) return `did not stop within ${timeoutMs} ms`;
    // While it starts, a program takes no signals of its own: nothing is to be put in order yet.
    const isClean = end.code === 0 || (wasStarting && end.signal === "SIGTERM");
    return isClean ? undefined : describeEnd(end);
  }

  /** Does nothing when no process runs. */
  signal(name: NodeJS.Signals): void {
    if (this.#phase !== "ended") this.#process!.signal(name);
  }

  /** SIGSTOP: the process keeps its sockets and does nothing. Goes on by itself after `forMs`. */
  pause(forMs: number | undefined): void {
    this.#forgetPause();
    this.signal("SIGSTOP");
    this.#paused = true;
    if (forMs !== undefined) {
      this.#cancelResume = this.#options.clock.after(forMs, () => this.resume());
    }
    this.#options.onChange();
  }

  resume(): void {
    this.#forgetPause();
    this.signal("SIGCONT");
    this.#options.onChange();
  }

  #forgetPause(): void {
    this.#cancelResume();
    this.#cancelResume = () => {};
    this.#paused = false;
  }

  #enter(phase: MemberPhase): void {
    this.#phase = phase;
    this.#options.onChange();
  }
}
