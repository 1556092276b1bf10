/**
 * Logs: one JSON object per line on stderr; stdout stays free for what a person reads.
 *
 * Lines are written synchronously. Buffering would lose exactly the lines before a crash, and costs
 * nothing worth saving because no line is written per request at the default level.
 */
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
  /** A logger that adds `fields` to each line. */
  child(fields: LogFields): Logger;
  /** Whether debug lines are written: ask before building costly fields. */
  isLevelEnabled(level: LogLevel): boolean;
}

export type LoggerOptions = {
  readonly level: LogLevel;
  /** Field `program` of each line. */
  readonly program: string;
  /** Takes each line with its newline; by default it goes to stderr. */
  readonly write?: (line: string) => void;
};

export function createLogger(options: LoggerOptions): Logger {
  const { write } = options;
  return pino(
    {
      level: options.level,
      base: { program: options.program, pid: process.pid },
      // RFC 3339 in UTC: people and log stores read it without conversion.
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    write ? { write } : pino.destination({ fd: 2, sync: true }),
  );
}
