/**
 * Time as a parameter. Production builds one `systemClock()` in `main.ts`; tests and the simulator
 * pass a `ManualClock`, which moves only when told.
 */
import { assert } from "./assert.ts";

const TIMER_DELAY_MS_MAX = 2 ** 31 - 1;

export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump in either direction. */
  nowMs(): number;
  /** Monotonic milliseconds from an arbitrary origin. */
  monotonicMs(): number;
  /**
   * Runs `callback` once after `delayMs`; returns a function that cancels it. At most 2^31 - 1: the
   * platform's timers fire at once beyond it.
   */
  after(delayMs: number, callback: () => void): () => void;
}

export function systemClock(): Clock {
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    after: (delayMs, callback) => {
      assert(delayMs <= TIMER_DELAY_MS_MAX, "a timer's delay is below 2^31 ms");
      const timer = setTimeout(callback, delayMs);
      return () => clearTimeout(timer);
    },
  };
}

type Timer = { readonly dueMs: number; readonly order: number; readonly callback: () => void };

/** A clock that stands still until `advance` is called; timers fire in order of their due time. */
export class ManualClock implements Clock {
  #monotonicMs = 0;
  #wallOffsetMs: number;
  #order = 0;
  #timers: Timer[] = [];

  constructor(wallStartMs = 1_700_000_000_000) {
    this.#wallOffsetMs = wallStartMs;
  }

  nowMs(): number {
    return this.#wallOffsetMs + this.#monotonicMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#monotonicMs + delayMs, order: this.#order++, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves time forward, firing due timers in order, including those they add. */
  advance(byMs: number): void {
    const untilMs = this.#monotonicMs + byMs;
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) {
        if (timer.dueMs > untilMs) continue;
        if (!next || timer.dueMs < next.dueMs) next = timer;
        else if (timer.dueMs === next.dueMs && timer.order < next.order) next = timer;
      }
      if (!next) break;
      const due = next;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#monotonicMs = Math.max(this.#monotonicMs, due.dueMs);
      due.callback();
    }
    // A callback may itself have advanced the clock beyond.
    this.#monotonicMs = Math.max(this.#monotonicMs, untilMs);
  }

  /** Makes the wall clock jump, as an operator or NTP may. Monotonic time does not move. */
  jumpWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }
}
