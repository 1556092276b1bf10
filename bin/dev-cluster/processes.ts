/**
 * Processes of `bin/minikv`, as the supervisor starts them: behind an interface of three members, so
 * that its decisions are tested without any.
 *
 * Each runs in a session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which ends
 * them in order. Standard input is a pipe that nothing is written to; it ends with the supervisor,
 * however that ends, and the process then stops by itself (`exit-with-parent`). What it logs goes
 * straight into its file, so that nothing is lost with the supervisor either.
 */
import { spawn } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
} from "node:fs";
import { createInterface } from "node:readline";
import { DEV_LOG_SIZE_BYTES_MAX } from "#shared/limits.ts";

export type ProcessSpec = {
  readonly args: readonly string[];
  /** Settings that do not go on a command line. */
  readonly env?: Readonly<Record<string, string>>;
  /** Takes what the process prints, after what is there. */
  readonly logPath: string;
};

export type ProcessEnd = {
  /** Null when a signal ended it, or when it never began. */
  readonly code: number | null;
  readonly signal: string | null;
  /** Why it could not be started. */
  readonly error?: string;
};

export interface RunningProcess {
  /** 0 when it could not be started. */
  readonly pid: number;
  readonly ended: Promise<ProcessEnd>;
  /** Nothing happens when it has ended. */
  signal(name: NodeJS.Signals): void;
}

/** `onLine` gets each line that the process prints to standard output. */
export type SpawnProcess = (spec: ProcessSpec, onLine: (line: string) => void) => RunningProcess;

const TAIL_SIZE_BYTES = 8 * 1024;
const TAIL_LINES = 20;

/** Starts `command`, which is `bin/minikv`, or what behaves like it. */
export function processSpawner([program, ...first]: readonly [string, ...string[]]): SpawnProcess {
  return ({ args, env, logPath }, onLine) => {
    putAsideWhenLarge(logPath);
    const log = openSync(logPath, "a", 0o600);
    const child = spawn(program, [...first, ...args], {
      detached: true,
      env: { ...environment(), ...env, MINIKV_EXIT_WITH_PARENT: "true" },
      stdio: ["pipe", "pipe", log],
    });
    closeSync(log);
    // A process that ends while it is told something is no failure of the supervisor.
    child.stdin?.on("error", () => {});
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        append(logPath, line);
        onLine(line);
      });
    }
    const ended = new Promise<ProcessEnd>((resolve) => {
      child.on("error", (error) => {
        if (child.pid === undefined) resolve({ code: null, signal: null, error: error.message });
      });
      child.on("close", (code, signal) => resolve({ code, signal }));
    });
    return {
      pid: child.pid ?? 0,
      ended,
      signal: (name) => {
        if (child.exitCode === null && child.signalCode === null) child.kill(name);
      },
    };
  };
}

/** Settings of the supervisor are not those of its children, which get theirs as flags. */
function environment(): Record<string, string | undefined> {
  const variables = Object.entries(process.env);
  return Object.fromEntries(variables.filter(([name]) => !name.startsWith("MINIKV_")));
}

function append(logPath: string, line: string): void {
  try {
    appendFileSync(logPath, `${line}\n`);
  } catch {
    // A full disk costs the line, not the cluster.
  }
}

function putAsideWhenLarge(logPath: string): void {
  const size = statSync(logPath, { throwIfNoEntry: false })?.size ?? 0;
  if (size > DEV_LOG_SIZE_BYTES_MAX) renameSync(logPath, `${logPath}.old`);
}

/** The last lines of a log; empty when there is none. */
export function logTail(logPath: string): string {
  let file: number | undefined;
  try {
    file = openSync(logPath, "r");
    const size = fstatSync(file).size;
    const buffer = Buffer.alloc(Math.min(size, TAIL_SIZE_BYTES));
    readSync(file, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString().trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
  } catch {
    return "";
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** `exit code 1`, `SIGKILL`, … */
export function describeEnd({ code, signal, error }: ProcessEnd): string {
  if (error !== undefined) return `could not be started: ${error}`;
  return signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
}
