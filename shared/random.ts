/**
 * Randomness as a parameter. Production passes `systemRandom()`; tests and the simulator pass a
 * `SeededRandom`, so that one seed gives one run.
 */
export interface Random {
  /** A float in [0, 1). */
  float(): number;
  /** An integer in [0, bound). `bound` is at most 2^32. */
  below(bound: number): number;
  /** Fills `target` with random bytes and returns it. */
  fill(target: Uint8Array): Uint8Array;
}

const POOL_SIZE_BYTES = 8192;
const POOLED_SIZE_BYTES_MAX = 256;
/** The platform's source refuses to give more in one call. */
const SOURCE_SIZE_BYTES_MAX = 65_536;

/** Bytes come from the platform's secure source through a pool, to save a call per request id. */
export function systemRandom(): Random {
  const pool = new Uint8Array(POOL_SIZE_BYTES);
  let used = pool.length;
  return {
    float: () => Math.random(),
    below: (bound) => Math.floor(Math.random() * bound),
    fill: (target) => {
      if (target.length > POOLED_SIZE_BYTES_MAX) {
        for (let at = 0; at < target.length; at += SOURCE_SIZE_BYTES_MAX) {
          const part = target.subarray(at, at + SOURCE_SIZE_BYTES_MAX);
          crypto.getRandomValues(part as Uint8Array<ArrayBuffer>);
        }
        return target;
      }
      if (used + target.length > pool.length) {
        crypto.getRandomValues(pool);
        used = 0;
      }
      target.set(pool.subarray(used, used + target.length));
      used += target.length;
      return target;
    },
  };
}

/** sfc32 (Chris Doty-Humphrey, PractRand), seeded through splitmix32. Not for secrets. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let mixed = state ^ (state >>> 16);
      mixed = Math.imul(mixed, 0x21f0aaad);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    for (let i = 0; i < 12; i++) this.#uint32();
  }

  #uint32(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }

  float(): number {
    return this.#uint32() / 2 ** 32;
  }

  below(bound: number): number {
    return Math.floor(this.float() * bound);
  }

  fill(target: Uint8Array): Uint8Array {
    for (let i = 0; i < target.length; i++) target[i] = this.#uint32() & 0xff;
    return target;
  }
}
