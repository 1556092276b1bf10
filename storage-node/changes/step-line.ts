/**
 * One line for all who read change logs on a node: the streams take turns, a step each, for
 * `CHANGE_SLICE_MS_MAX` at a time, and let everything else go first. So neither a gateway that catches up
 * with 256 vshards nor many of them hold up writes, or one another.
 */
import type { Clock } from "#shared/clock.ts";
import { CHANGE_SLICE_MS_MAX, CHANGE_SLICE_STEPS_MAX } from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";

export interface StepSource {
  /**
   * Takes one short step; false when there is none to take, and it waits for `wake`. Never throws and never
   * rejects.
   */
  step(): MaybePromise<boolean>;
}

export class StepLine {
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** In the order of their turns. */
  readonly #waiting = new Set<StepSource>();
  #scheduled = false;
  /** Whose step waits for the engine, and whether it was woken meanwhile. */
  #running: { readonly source: StepSource; isWoken: boolean } | undefined;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** `source` has steps to take. */
  wake(source: StepSource): void {
    if (this.#running?.source === source) this.#running.isWoken = true;
    else this.#waiting.add(source);
    this.#schedule();
  }

  /** It has gone. */
  remove(source: StepSource): void {
    this.#waiting.delete(source);
  }

  #schedule(): void {
    if (this.#scheduled || this.#running !== undefined || this.#waiting.size === 0) return;
    this.#scheduled = true;
    setImmediate(this.#slice);
  }

  readonly #slice = (): void => {
    this.#scheduled = false;
    const untilMs = this.#clock.monotonicMs() + CHANGE_SLICE_MS_MAX;
    let steps = 0;
    for (const source of this.#waiting) {
      this.#waiting.delete(source);
      steps++;
      const running = { source, isWoken: false };
      this.#running = running;
      const stepping = source.step();
      if (isPromise(stepping)) {
        void stepping.then((more) => {
          this.#stepEnded(running, more);
          this.#schedule();
        });
        return;
      }
      this.#stepEnded(running, stepping);
      if (steps >= CHANGE_SLICE_STEPS_MAX || this.#clock.monotonicMs() >= untilMs) break;
    }
    this.#schedule();
  };

  #stepEnded({ source, isWoken }: { source: StepSource; isWoken: boolean }, more: boolean): void {
    this.#running = undefined;
    // Behind all others. A set that is gone through shows what is added meanwhile.
    if (more || isWoken) this.#waiting.add(source);
  }
}
