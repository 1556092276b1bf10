/**
 * Inputs: mostly valid ones with something changed, some as they are, some that are random bytes.
 *
 * An arbitrary of its own, because composing fast-check's costs ten times as much for each case. It
 * shrinks by taking pieces out and making bytes simpler.
 */
import fc from "fast-check";

const SIZE_BYTES_MAX = 16 * 1024;
const EDITS_MAX = 4;
const RANDOM_SIZE_BYTES_MAX = 96;
/** Where numbers, lengths and text change their meaning. */
const BYTES = [
  0, 1, 0x7f, 0x80, 0xff, 0x20, 0x22, 0x2c, 0x2d, 0x2e, 0x2f, 0x3d, 0x5c, 0x0a,
] as const;
const SHRUNK_BYTE = 0x61;
/** Simplifying each byte of a long input would take for ever, and tell little. */
const SIMPLIFIED_SIZE_BYTES_MAX = 256;

export type MutationOptions = {
  readonly samples: readonly Uint8Array[];
  readonly words: readonly Uint8Array[];
  readonly reseal: ((bytes: Uint8Array) => Uint8Array) | undefined;
};

export class MutationArbitrary extends fc.Arbitrary<Uint8Array> {
  readonly #options: MutationOptions;

  constructor(options: MutationOptions) {
    super();
    this.#options = options;
  }

  override generate(random: fc.Random): fc.Value<Uint8Array> {
    return new fc.Value(this.#make(random), undefined);
  }

  override canShrinkWithoutContext(value: unknown): value is Uint8Array {
    return value instanceof Uint8Array;
  }

  override shrink(value: Uint8Array): fc.Stream<fc.Value<Uint8Array>> {
    const smaller = function* (): IterableIterator<fc.Value<Uint8Array>> {
      for (const bytes of simpler(value)) yield new fc.Value(bytes, undefined);
    };
    return fc.stream(smaller());
  }

  #make(random: fc.Random): Uint8Array {
    const { samples, reseal } = this.#options;
    const draw = random.nextInt(0, 15);
    if (draw === 0 || samples.length === 0) return noise(random);
    const sample = samples[random.nextInt(0, samples.length - 1)]!;
    if (draw <= 2) return sample;
    let bytes = sample;
    for (let edits = random.nextInt(1, EDITS_MAX); edits > 0; edits--) {
      bytes = this.#edited(bytes, random);
    }
    if (bytes.length > SIZE_BYTES_MAX) bytes = bytes.subarray(0, SIZE_BYTES_MAX);
    return reseal !== undefined && draw % 4 !== 3 ? reseal(bytes) : bytes;
  }

  #edited(bytes: Uint8Array, random: fc.Random): Uint8Array {
    const { samples, words } = this.#options;
    const { length } = bytes;
    const at = length === 0 ? 0 : random.nextInt(0, length - 1);
    const end = Math.min(length, at + random.nextInt(1, 8));
    switch (random.nextInt(0, 9)) {
      case 0:
        return replaced(bytes, at, end, [random.nextInt(0, 255)]);
      case 1:
        return replaced(bytes, at, at + 1, [(bytes[at] ?? 0) ^ (1 << random.nextInt(0, 7))]);
      case 2:
        return replaced(bytes, at, at + 1, [BYTES[random.nextInt(0, BYTES.length - 1)]!]);
      case 3:
        return bytes.subarray(0, at);
      case 4:
        return replaced(bytes, at, end, []);
      case 5:
        // A piece twice, or very often: what is only long in one place.
        return replaced(bytes, at, at, repeated(bytes.subarray(at, end), random));
      case 6: {
        const other = samples[random.nextInt(0, samples.length - 1)]!;
        const from = other.length === 0 ? 0 : random.nextInt(0, other.length - 1);
        return replaced(bytes, at, length, other.subarray(from));
      }
      case 7:
        return replaced(bytes, at, Math.min(length, at + 4), numbers[random.nextInt(0, 7)]!);
      default: {
        if (words.length === 0) return replaced(bytes, at, at, noise(random).subarray(0, 8));
        const isInstead = random.nextBoolean();
        const word = words[random.nextInt(0, words.length - 1)]!;
        return replaced(bytes, at, isInstead ? end : at, word);
      }
    }
  }
}

/** Lengths and counts that are too large, in the forms of big endian and of varints. */
const numbers: readonly (readonly number[])[] = [
  [0xff, 0xff, 0xff, 0xff],
  [0x7f, 0xff, 0xff, 0xff],
  [0, 0, 0, 0],
  [0, 0, 0, 1],
  [0xff, 0xff, 0xff, 0x7f],
  [0x80, 0x80, 0x80, 0x80],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
  [0x80, 0x80, 0x80, 0x80, 0x10],
];

function noise(random: fc.Random): Uint8Array {
  const bytes = new Uint8Array(random.nextInt(0, RANDOM_SIZE_BYTES_MAX));
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.nextInt(0, 255);
  return bytes;
}

function replaced(
  bytes: Uint8Array,
  start: number,
  end: number,
  by: ArrayLike<number>,
): Uint8Array {
  const kept = Math.max(0, bytes.length - end);
  const result = new Uint8Array(start + by.length + kept);
  result.set(bytes.subarray(0, start));
  result.set(by, start);
  if (kept > 0) result.set(bytes.subarray(end), start + by.length);
  return result;
}

function repeated(piece: Uint8Array, random: fc.Random): Uint8Array {
  const times = random.nextInt(0, 31) === 0 ? random.nextInt(100, 1000) : random.nextInt(1, 4);
  const result = new Uint8Array(piece.length * times);
  for (let i = 0; i < times; i++) result.set(piece, i * piece.length);
  return result;
}

function* simpler(bytes: Uint8Array): IterableIterator<Uint8Array> {
  for (let size = bytes.length; size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at + size <= bytes.length; at += size)
      yield replaced(bytes, at, at + size, []);
  }
  if (bytes.length > SIMPLIFIED_SIZE_BYTES_MAX) return;
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at]! > SHRUNK_BYTE) yield replaced(bytes, at, at + 1, [SHRUNK_BYTE]);
  }
}
