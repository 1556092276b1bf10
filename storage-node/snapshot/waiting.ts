/** Waiting for something to become true that several events may bring about, and not for ever. */
import { assert } from "#shared/assert.ts";
import type { Clock } from "#shared/clock.ts";

export class Waiting {
  readonly #clock: Clock;
  #look: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Something may have become true. */
  poke(): void {
    this.#look?.();
  }

  /**
   * True once `condition` holds, which is asked now and at each `poke`; false when `timeoutMs` have
   * passed before. One at a time.
   */
  until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    if (condition()) return Promise.resolve(true);
    assert(this.#look === undefined, "one waits at a time");
    return new Promise((resolve) => {
      const end = (holds: boolean): void => {
        this.#look = undefined;
        cancel();
        resolve(holds);
      };
      const cancel = this.#clock.after(timeoutMs, () => end(false));
      this.#look = () => {
        if (condition()) end(true);
      };
    });
  }
}
