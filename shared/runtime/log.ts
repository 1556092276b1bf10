/**
 * Logs: one JSON object per line on stderr; stdout stays free for what a person reads.
 *
 * Lines are written synchronously. Buffering would lose exactly the lines before a crash, and costs
 * nothing worth saving because no line is written per request at the default level.
 *
 * A line has `level` as a word, `time` (RFC 3339, UTC), `program`, `pid`, `msg`, and in a process with one
 * storage node `node`. What is about a request has `request_id`, and where it is traced `trace_id` and
 * `span_id`; what is about a tenant has its name as `tenant`.
 */
import { writeSync } from "node:fs";
import { pino, stdTimeFunctions } from "pino";

/** From all to least. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Fields of a line. An error goes under `err`, which keeps its stack and causes. */
export type LogFields = Readonly<Record<string, unknown>>;

/** The part of a logger that the code uses; a test passes any object of this shape. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** For what ends the process. */
  fatal(fields: LogFields, message: string): void;
  /** A logger that adds `fields` to each line, and has the level of this one, also when it changes. */
  child(fields: LogFields): Logger;
  /** Whether debug lines are written: ask before building costly fields. */
  isLevelEnabled(level: LogLevel): boolean;
}

/** The logger of a thread, whose level can be changed while it runs. */
export interface RootLogger extends Logger {
  level: LogLevel;
}

export type LoggerOptions = {
  readonly level: LogLevel;
  /** Field `program` of each line. */
  readonly program: string;
  /** Further fields of each line, which become known later. */
  readonly fields?: () => LogFields;
  /** Takes each line with its newline; by default it goes to stderr. */
  readonly write?: (line: string) => void;
};

const PIPE_RETRY_MS = 10;

export function createLogger(options: LoggerOptions): RootLogger {
  const { write, fields } = options;
  const lines = pino(
    {
      // What passes is decided here, for all children at once.
      level: "debug",
      base: { program: options.program, pid: process.pid },
      // RFC 3339 in UTC: people and log stores read it without conversion.
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      ...(fields && { mixin: () => ({ ...fields() }) }),
    },
    { write: write ?? writerTo(2) },
  );
  return new LevelledLogger(lines, { rank: rankOf(options.level) });
}

/**
 * A writer of lines to a file that is open. A line that cannot be written, because the disk is full or the terminal was
 * closed, is lost: no reason to end, nor to try until it can. (Pino's own writer throws then, and tries for ever to
 * write a fatal one.)
 */
function writerTo(fd: number): (line: string) => void {
  let isTorn = false;
  return (line) => {
    let rest = Buffer.from(isTorn ? `\n${line}` : line);
    const length = rest.length;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(fd, rest));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") break;
        // A pipe that its reader has not emptied.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_RETRY_MS);
      }
    }
    if (rest.length < length) isTorn = rest.length > 0;
  };
}

const rankOf = (level: LogLevel): number => LOG_LEVELS.indexOf(level);

type Lines = Omit<Logger, "isLevelEnabled" | "child"> & { child(fields: LogFields): Lines };

class LevelledLogger implements RootLogger {
  readonly #lines: Lines;
  /** Shared by a logger and all its children. */
  readonly #least: { rank: number };

  constructor(lines: Lines, least: { rank: number }) {
    this.#lines = lines;
    this.#least = least;
  }

  get level(): LogLevel {
    return LOG_LEVELS[this.#least.rank]!;
  }

  set level(level: LogLevel) {
    this.#least.rank = rankOf(level);
  }

  debug(fields: LogFields, message: string): void {
    if (this.isLevelEnabled("debug")) this.#lines.debug(fields, message);
  }

  info(fields: LogFields, message: string): void {
    if (this.isLevelEnabled("info")) this.#lines.info(fields, message);
  }

  warn(fields: LogFields, message: string): void {
    if (this.isLevelEnabled("warn")) this.#lines.warn(fields, message);
  }

  error(fields: LogFields, message: string): void {
    if (this.isLevelEnabled("error")) this.#lines.error(fields, message);
  }

  fatal(fields: LogFields, message: string): void {
    this.#lines.fatal(fields, message);
  }

  child(fields: LogFields): Logger {
    return new LevelledLogger(this.#lines.child(fields), this.#least);
  }

  isLevelEnabled(level: LogLevel): boolean {
    return rankOf(level) >= this.#least.rank;
  }
}
