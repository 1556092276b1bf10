/**
 * A map from whole numbers for what comes and goes with each operation.
 *
 * A `Map` that entries keep being added to and deleted from makes its garbage immortal for a while: each time V8
 * rehashes it, the table it leaves points to the next one (for iterators that are under way). Once one such table has
 * grown old, it keeps all tables after it alive, with what they held, until the next collection of the whole heap: every
 * young collection copies megabytes of dead operations, and takes 5 to 10 ms instead of one. `docs/benchmarks.md`,
 * "Maps that never die", has what was measured.
 *
 * Open addressing with linear probing; a deletion moves those behind it up (Knuth, The Art of Computer Programming,
 * vol. 3, 6.4, algorithm R), so that there are no tombstones. It grows and does not shrink. Order is that of the table.
 */
import { assert } from "#shared/assert.ts";

const CAPACITY_MIN = 16;

/** 2^32 divided by the golden ratio: keys that follow each other spread evenly (Knuth, 6.4). */
const MULTIPLIER = 0x9e37_79b1;

export class NumberTable<V extends NonNullable<unknown>> {
  /** Of the places that `#values` has something in. */
  #keys: Float64Array;
  #values: (V | undefined)[];
  #mask: number;
  #size = 0;

  constructor() {
    this.#keys = new Float64Array(CAPACITY_MIN);
    this.#values = emptyPlaces(CAPACITY_MIN);
    this.#mask = CAPACITY_MIN - 1;
  }

  get size(): number {
    return this.#size;
  }

  get(key: number): V | undefined {
    return this.#values[this.#placeOf(key)];
  }

  set(key: number, value: V): void {
    assert(Number.isSafeInteger(key), "a key is a safe integer");
    if (2 * (this.#size + 1) > this.#mask + 1) this.#grow();
    const place = this.#placeOf(key);
    if (this.#values[place] === undefined) this.#size++;
    this.#keys[place] = key;
    this.#values[place] = value;
  }

  /** Whether it was there. */
  delete(key: number): boolean {
    let hole = this.#placeOf(key);
    if (this.#values[hole] === undefined) return false;
    const mask = this.#mask;
    for (
      let place = (hole + 1) & mask;
      this.#values[place] !== undefined;
      place = (place + 1) & mask
    ) {
      const home = homeOf(this.#keys[place]!, mask);
      // Whoever is found from his home without passing the hole stays.
      if (((place - home) & mask) < ((place - hole) & mask)) continue;
      this.#keys[hole] = this.#keys[place]!;
      this.#values[hole] = this.#values[place];
      hole = place;
    }
    this.#values[hole] = undefined;
    this.#size--;
    return true;
  }

  /** A copy: what happens to the table meanwhile is not seen. */
  values(): V[] {
    return this.#values.filter((value) => value !== undefined);
  }

  /** Where the key is, or would be put. */
  #placeOf(key: number): number {
    const mask = this.#mask;
    let place = homeOf(key, mask);
    while (this.#values[place] !== undefined && this.#keys[place] !== key)
      place = (place + 1) & mask;
    return place;
  }

  #grow(): void {
    const [keys, values] = [this.#keys, this.#values];
    const capacity = 2 * values.length;
    this.#keys = new Float64Array(capacity);
    this.#values = emptyPlaces(capacity);
    this.#mask = capacity - 1;
    for (const [i, value] of values.entries()) {
      if (value === undefined) continue;
      const place = this.#placeOf(keys[i]!);
      this.#keys[place] = keys[i]!;
      this.#values[place] = value;
    }
  }
}

// Of a number of more than 32 bits only the lower ones count, which is where keys that are counted up differ.
const homeOf = (key: number, mask: number): number => (Math.imul(key, MULTIPLIER) >>> 8) & mask;

const emptyPlaces = <V>(count: number): (V | undefined)[] => new Array(count).fill(undefined);
