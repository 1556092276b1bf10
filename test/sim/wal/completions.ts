/**
 * When file operations answer: one at a time, in an order that a seed decides.
 *
 * An operation takes effect when it is asked for, and answers when it is picked here. Between two
 * answers all promises settle, so the same picks give the same run.
 */
import type { Random } from "#shared/random.ts";

export class Completions {
  #waiting: (() => void)[] = [];

  /** For `MemoryFileSystemOptions`. */
  readonly defer = (run: () => void): void => {
    this.#waiting.push(run);
  };

  get count(): number {
    return this.#waiting.length;
  }

  /** Lets one operation answer; false when none is waiting. */
  async next(random: Random): Promise<boolean> {
    if (!this.answer(random)) return false;
    await turn();
    return true;
  }

  /** As `next`, without waiting for what follows from it: the caller has to. */
  answer(random: Random): boolean {
    if (this.#waiting.length === 0) return false;
    const [run] = this.#waiting.splice(random.below(this.#waiting.length), 1);
    run!();
    return true;
  }

  /** Nobody is told anything any more. */
  drop(): void {
    this.#waiting = [];
  }
}

/** All promises that can settle have settled. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
