/**
 * The keys and values of one value size, equal for both servers.
 *
 * Keys are drawn at random from a set that is stored completely before the first slice, so that every
 * GET finds a value and every PUT replaces one. Values are random bytes made once: the generator has
 * nothing to compute per request, and nothing on the way can compress them,
 * unless they are to be text.
 */
import { assert } from "#shared/assert.ts";
import { SeededRandom } from "#shared/random.ts";

/** More data would measure the page cache of the machine rather than the servers. */
const DATASET_SIZE_BYTES_MAX = 256 * 1024 * 1024;
const VALUE_VARIANTS = 16;
const KEY_DIGITS = 10;

export type Dataset = {
  readonly keyCount: number;
  readonly valueSizeBytes: number;
  /** The values that requests choose from. Never modified. */
  readonly values: readonly Buffer[];
};

/** The same seed gives the same values. */
export function makeDataset(input: {
  /** Text with words that come again, of which about half can be saved, instead of random bytes. */
  readonly isText?: boolean;
  readonly valueSizeBytes: number;
  readonly keysMax: number;
  readonly seed: number;
}): Dataset {
  const random = new SeededRandom(input.seed);
  const values = Array.from({ length: VALUE_VARIANTS }, () => {
    const value = Buffer.alloc(input.valueSizeBytes);
    if (input.isText === true) fillWithText(value, random);
    else random.fill(value);
    return value;
  });
  const fitting = Math.floor(DATASET_SIZE_BYTES_MAX / input.valueSizeBytes);
  const keyCount = Math.min(input.keysMax, fitting);
  assert(keyCount >= 1, "a dataset has a key");
  return { keyCount, valueSizeBytes: input.valueSizeBytes, values };
}

/** Rows as programs store them: the same names again and again, and other figures each time. */
function fillWithText(value: Buffer, random: SeededRandom): void {
  for (let at = 0; at < value.length; ) {
    const row = `{"account":${random.below(1e9)},"balance":${random.below(1e9)},"state":"open"},`;
    at += value.write(row, at, "latin1");
  }
}

/** The key of a number below 10^10: all have the same length, and no byte needs escaping in a URL. */
export function keyAt(index: number): string {
  return `bench-${String(index).padStart(KEY_DIGITS, "0")}`;
}

/** The value that is stored under a key before the first slice. */
export function firstValueOf(dataset: Dataset, index: number): Buffer {
  return dataset.values[index % dataset.values.length]!;
}
