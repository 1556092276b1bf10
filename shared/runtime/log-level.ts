/**
 * The log level of a process while it runs: the configured one, or another for some time, after which the
 * configured one comes back by itself. So nobody has to remember that debug lines are still being written.
 */
import type { Clock } from "#shared/clock.ts";
import { LOG_LEVEL_CHANGE_MS_DEFAULT, LOG_LEVEL_CHANGE_MS_MAX } from "#shared/limits-telemetry.ts";
import { LOG_LEVELS, type Logger, type LogLevel, type RootLogger } from "./log.ts";

export type LogLevelStatus = {
  readonly level: LogLevel;
  readonly configured: LogLevel;
  /** Until the configured one comes back; absent while it is in force. */
  readonly seconds_left?: number;
};

export type LogLevelChange = { readonly level: LogLevel; readonly forMs: number };

export class LogLevelControl {
  readonly #clock: Clock;
  readonly #apply: (level: LogLevel) => void;
  #configured: LogLevel;
  #change: { readonly level: LogLevel; readonly untilMs: number } | undefined;
  #cancel: () => void = () => undefined;

  /** `apply` is told of each level that comes into force. */
  constructor(options: {
    readonly clock: Clock;
    readonly configured: LogLevel;
    readonly apply: (level: LogLevel) => void;
  }) {
    this.#clock = options.clock;
    this.#configured = options.configured;
    this.#apply = options.apply;
  }

  get status(): LogLevelStatus {
    const change = this.#change;
    const configured = this.#configured;
    if (change === undefined) return { level: configured, configured };
    const leftMs = Math.max(0, change.untilMs - this.#clock.monotonicMs());
    return { level: change.level, configured, seconds_left: Math.ceil(leftMs / 1000) };
  }

  /** Another level for some time. */
  change({ level, forMs }: LogLevelChange): void {
    this.#cancel();
    const leftMs = Math.min(forMs, LOG_LEVEL_CHANGE_MS_MAX);
    this.#change = { level, untilMs: this.#clock.monotonicMs() + leftMs };
    this.#apply(level);
    this.#cancel = this.#clock.after(leftMs, () => this.restore());
  }

  /** The configured one. */
  restore(): void {
    this.#cancel();
    this.#change = undefined;
    this.#apply(this.#configured);
  }

  /** The configuration has been read again. What holds for some time goes on doing so. */
  configure(level: LogLevel): void {
    this.#configured = level;
    if (this.#change === undefined) this.#apply(level);
  }

  close(): void {
    this.#cancel();
  }
}

/** Of a process with one logger. */
export const levelOf = (
  logger: RootLogger,
  options: { readonly clock: Clock; readonly configured: LogLevel },
): LogLevelControl =>
  new LogLevelControl({
    ...options,
    apply: (level) => {
      logger.level = level;
    },
  });

const DURATION = /^(\d{1,6})(s|m|h)$/;
const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000 } as const;

/** What a request asks for; a text says what is wrong with it. */
export function parseLogLevelChange(
  value: unknown,
): LogLevelChange | { readonly restore: true } | string {
  if (typeof value !== "object" || value === null) return "a JSON object is needed";
  const { level, for: time, ...rest } = value as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) return `unknown member "${unknown}" (known here: level, for)`;
  if (level === "configured" && time === undefined) return { restore: true };
  const found = LOG_LEVELS.find((known) => known === level);
  if (found === undefined) return `level must be ${LOG_LEVELS.join(", ")} or configured`;
  if (time === undefined) return { level: found, forMs: LOG_LEVEL_CHANGE_MS_DEFAULT };
  const [, count, unit] = DURATION.exec(typeof time === "string" ? time : "") ?? [];
  const forMs = Number(count) * (UNIT_MS[unit as keyof typeof UNIT_MS] ?? Number.NaN);
  if (forMs > 0 && forMs <= LOG_LEVEL_CHANGE_MS_MAX) return { level: found, forMs };
  return "for must be a time such as 30s, 10m or 2h, of at most a day";
}

/** Takes the level over from a configuration that is read again; one that cannot be read changes nothing. */
export function rereadLogLevel(
  control: LogLevelControl,
  again: (() => { readonly logLevel: LogLevel }) | undefined,
  logger: Logger,
): void {
  if (again === undefined) return;
  try {
    const { logLevel } = again();
    control.configure(logLevel);
    logger.info({ log_level: logLevel }, "configuration read again: the log level is taken over");
  } catch (err) {
    const reason = err instanceof Error ? err.message : String(err);
    logger.error({ reason }, "the configuration cannot be read again, nothing is changed");
  }
}
