/**
 * The log of slow operations: a line for each, but no more than so many in a window of time. When a disk or a
 * network stalls everything is slow at once, and lines about it must not add to the trouble. What is not
 * written is counted, and a line says how many they were when the window ends.
 */
import type { Clock } from "#shared/clock.ts";
import { SLOW_LINES_PER_WINDOW_MAX, SLOW_WINDOW_MS } from "#shared/limits-telemetry.ts";
import type { LogFields, Logger } from "./log.ts";

export type SlowLogOptions = {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What takes longer is slow; 0: nothing is. */
  readonly slowMs: number;
};

export class SlowLog {
  readonly #options: SlowLogOptions;
  /** All since the start, written or not. */
  total = 0;
  #written = 0;
  #folded = 0;
  #cancel: (() => void) | undefined;

  constructor(options: SlowLogOptions) {
    this.#options = options;
  }

  /** Infinity when nothing is slow. */
  get slowMs(): number {
    return this.#options.slowMs === 0 ? Number.POSITIVE_INFINITY : this.#options.slowMs;
  }

  /** `fields` is asked for only when the line is written. */
  note(fields: () => LogFields): void {
    const { clock, logger } = this.#options;
    this.total++;
    this.#cancel ??= clock.after(SLOW_WINDOW_MS, () => this.#endWindow());
    if (this.#written >= SLOW_LINES_PER_WINDOW_MAX) {
      this.#folded++;
      return;
    }
    this.#written++;
    logger.warn(fields(), "slow operation");
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #endWindow(): void {
    this.#cancel = undefined;
    this.#written = 0;
    const count = this.#folded;
    this.#folded = 0;
    if (count > 0) {
      this.#options.logger.warn({ count }, "further slow operations, each of which got no line");
    }
  }
}

/** Milliseconds for a line: more digits than three tell nothing. */
export const roundMs = (durationMs: number): number => Math.round(durationMs * 1000) / 1000;
