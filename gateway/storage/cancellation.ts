/**
 * Tells the call in flight that its caller went away.
 *
 * One per connection, whose requests run one by one, so there is one call at a time and one place
 * for its listener. An `AbortSignal` keeps a list, and adding and removing a listener there costs
 * more than the rest of the call's bookkeeping.
 */
import { assert } from "#shared/assert.ts";

export class Cancellation {
  #isCancelled = false;
  #listener: (() => void) | undefined;

  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** For good: every later call finds it cancelled. */
  cancel(): void {
    this.#isCancelled = true;
    this.#listener?.();
  }

  /**
   * Runs `listener` when the caller goes away before `release` is called. Asked only while not
   * cancelled, and by one call at a time.
   */
  listen(listener: () => void): void {
    assert(!this.#isCancelled, "nobody listens to a caller who is gone");
    assert(this.#listener === undefined, "a cancellation serves one call at a time");
    this.#listener = listener;
  }

  /** To be called by the call that listens, when it ends. */
  release(): void {
    this.#listener = undefined;
  }
}
