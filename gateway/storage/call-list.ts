/**
 * The calls in flight, with one coarse timer for all their deadlines and retry times.
 *
 * A timer per call would cost more than the rest of the call. Calls are few (the streams' windows
 * bound them) and most are gone before the next sweep, so a sweep looks at all of them; adding and
 * removing take constant time, and an empty list has no timer.
 */
import type { Clock } from "#shared/clock.ts";
import { STORAGE_TIMER_GRANULARITY_MS } from "#shared/limits.ts";

/** Times are monotonic milliseconds. */
export interface Listed {
  readonly dueMs: number;
  /** Place in the list; belongs to the list. */
  position: number;
  /** The deadline has passed. Must remove the call from the list. */
  expire(): void;
  /** Whether the next attempt is due. */
  isDue(nowMs: number): boolean;
  /** It is. Afterwards it must not be any more, or the call be removed. */
  attempt(): void;
  /** The client closes. Must remove the call from the list. */
  stop(): void;
}

export class CallList {
  readonly #clock: Clock;
  readonly #calls: Listed[] = [];
  #armed = false;
  #onEmpty: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#calls.length;
  }

  add(call: Listed): void {
    call.position = this.#calls.length;
    this.#calls.push(call);
    if (!this.#armed) this.#arm();
  }

  remove(call: Listed): void {
    const last = this.#calls.pop()!;
    if (last !== call) {
      last.position = call.position;
      this.#calls[call.position] = last;
    }
    if (this.#calls.length === 0) this.#onEmpty?.();
  }

  /** Runs `callback` once, as soon as the list is empty. */
  whenEmpty(callback: () => void): void {
    if (this.#calls.length === 0) callback();
    else this.#onEmpty = callback;
  }

  stopAll(): void {
    for (const call of [...this.#calls]) call.stop();
  }

  #arm(): void {
    this.#armed = true;
    this.#clock.after(STORAGE_TIMER_GRANULARITY_MS, () => {
      this.#armed = false;
      this.#sweep();
      if (this.#calls.length > 0 && !this.#armed) this.#arm();
    });
  }

  #sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    // Backwards: what takes the place of a removed call comes from behind and was looked at.
    for (let i = this.#calls.length - 1; i >= 0; i--) {
      const call = this.#calls[i];
      if (call === undefined) continue;
      if (nowMs >= call.dueMs) call.expire();
      else if (call.isDue(nowMs)) call.attempt();
    }
  }
}
