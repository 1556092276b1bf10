/**
 * Dice whose throws belong to one event: event `i` of a run throws the same numbers whichever other
 * events are left out. That is what makes a failing run shrinkable.
 */
import type { Random } from "#shared/random.ts";

export class EventRandom implements Random {
  readonly #base: number;
  #state = 0;

  constructor(base: number) {
    this.#base = base | 0;
  }

  /** The next throws are those of event `index`. */
  startEvent(index: number): void {
    let mixed = Math.imul(this.#base ^ Math.imul(index + 1, 0x9e3779b1), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    this.#state = mixed ^ (mixed >>> 16);
  }

  uint32(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = this.#state ^ (this.#state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  float(): number {
    return this.uint32() / 2 ** 32;
  }

  below(bound: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * bound);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.uint32() < probability * 2 ** 32;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  fill(target: Uint8Array): Uint8Array {
    for (let i = 0; i < target.length; i++) target[i] = this.uint32();
    return target;
  }
}
