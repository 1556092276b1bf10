/** Bounds the bytes per second of all who ask: each is told how long to wait. */
import type { Clock } from "#shared/clock.ts";

/** What may be sent at once after a rest. */
const BURST_MS = 50;

export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** Monotonic time at which all that was taken has been paid for. */
  #paidAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Takes `bytes`, to be sent after the answer's milliseconds. */
  take(bytes: number): number {
    const nowMs = this.#clock.monotonicMs();
    const fromMs = Math.max(this.#paidAtMs, nowMs - BURST_MS);
    this.#paidAtMs = fromMs + (bytes * 1000) / this.#bytesPerSecond;
    return Math.max(0, this.#paidAtMs - nowMs);
  }
}
