/**
 * How a process ends: in order on a signal, at once on a bug.
 *
 * SIGTERM or SIGINT runs the stop steps one after the other within a bound and exits with 0. A
 * second signal exits at once with 130 (SIGINT) or 143 (SIGTERM), as a shell says it: whoever sends it
 * does not want to wait. Repeats within half a second count as one: of one Ctrl-C, the terminal sends a
 * SIGINT and npm forwards another.
 *
 * An uncaught exception means an unknown state, so nothing is stopped in order: log it and exit
 * with 1. That is safe because a write is acknowledged only when it is durable; a restart recovers
 * the rest.
 *
 * A program that was started by another one can be told to end with it (`exit-with-parent`): its
 * standard input is a pipe from the parent, which the system closes however the parent ends.
 */
import { endAtOnce } from "./exit.ts";
import type { Logger } from "./log.ts";

export type StopStep = {
  /** For the log, such as "close the HTTP listener". */
  readonly name: string;
  /** Should end within `remainingMs`; what it leaves unfinished then is cut off. */
  readonly run: (remainingMs: number) => void | Promise<void>;
};

/** What is used of `process`. */
export type ProcessEvents = {
  on(event: string, listener: (...values: readonly unknown[]) => void): unknown;
  exit(code: number): void;
  /** Without waiting for anything that is still at work. */
  endAtOnce(code: number): void;
};

const THIS_PROCESS: ProcessEvents = {
  on: (event, listener) => process.on(event, listener),
  exit: (code) => process.exit(code),
  endAtOnce,
};

export type ShutdownOptions = {
  readonly logger: Logger;
  /** In this order: first stop taking work, last close the files. */
  readonly steps: readonly StopStep[];
  /** For all steps together. */
  readonly timeoutMs: number;
  /** For tests. */
  readonly process?: ProcessEvents;
  readonly monotonicMs?: () => number;
};

const SIGNAL_REPEAT_MS = 500;

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
/** Of a second signal: 128 and its number. */
const EXIT_SIGNALLED = { SIGINT: 130, SIGTERM: 143 } as const;

/** Installs the handlers and returns at once. Call it once, when the program is up. */
export function runUntilSignal(options: ShutdownOptions): void {
  const { logger } = options;
  const events = options.process ?? THIS_PROCESS;
  const monotonicMs = options.monotonicMs ?? (() => performance.now());
  let stoppingSinceMs: number | undefined;
  const onSignal = (signal: keyof typeof EXIT_SIGNALLED): void => {
    if (stoppingSinceMs !== undefined) {
      if (monotonicMs() - stoppingSinceMs < SIGNAL_REPEAT_MS) return;
      logger.warn({ signal }, "second signal: exiting at once");
      events.endAtOnce(EXIT_SIGNALLED[signal]);
      return;
    }
    stoppingSinceMs = monotonicMs();
    logger.info({ signal }, "stopping");
    stopInOrder(options).then((clean) => {
      if (clean) events.exit(0);
      else events.endAtOnce(EXIT_FAILURE);
    }, crash("stop"));
  };
  const crash = (origin: string) => (err: unknown) => {
    logger.fatal({ err, origin }, "ending because of an unexpected error");
    events.endAtOnce(EXIT_FAILURE);
  };
  events.on("SIGTERM", () => onSignal("SIGTERM"));
  events.on("SIGINT", () => onSignal("SIGINT"));
  events.on("uncaughtException", crash("uncaughtException"));
  events.on("unhandledRejection", crash("unhandledRejection"));
}

/** What is used of `process.stdin`. */
export type ParentPipe = {
  on(event: "end" | "error", listener: () => void): unknown;
  resume(): unknown;
  /** Of a pipe: waiting for its end shall not keep the process alive. */
  unref?(): unknown;
};

/**
 * Sends this process a SIGTERM when its standard input ends: it stops in order when it is up, and at
 * once while it starts.
 */
export function stopWithParent(
  logger: Logger,
  input: ParentPipe = process.stdin,
  stop: () => void = () => process.kill(process.pid, "SIGTERM"),
): void {
  let ended = false;
  const onEnd = (): void => {
    if (ended) return;
    ended = true;
    logger.info({}, "standard input ended, and the parent with it");
    stop();
  };
  input.on("end", onEnd);
  input.on("error", onEnd);
  input.resume();
  input.unref?.();
}

/** @returns false when a step failed, or time ran out before the last one. */
async function stopInOrder({ logger, steps, timeoutMs }: ShutdownOptions): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  let clean = true;
  for (const step of steps) {
    const remainingMs = Math.max(0, deadline - performance.now());
    try {
      if (!(await endsWithin(remainingMs, step))) {
        logger.error({ step: step.name, timeoutMs }, "did not stop in time");
        return false;
      }
    } catch (err) {
      // The later steps still run: they close files that this one knows nothing of.
      logger.error({ err, step: step.name }, "failed while stopping");
      clean = false;
    }
  }
  logger.info({}, "stopped");
  return clean;
}

async function endsWithin(remainingMs: number, step: StopStep): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, remainingMs, false);
  });
  try {
    const run = async (): Promise<true> => {
      await step.run(remainingMs);
      return true;
    };
    return await Promise.race([run(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
