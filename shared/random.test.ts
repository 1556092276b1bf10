/** Seeded and system randomness. */
import { describe, expect, it } from "vitest";
import { type Random, SeededRandom, systemRandom } from "./random.ts";

describe("SeededRandom", () => {
  it("gives the same run for a seed for ever: recorded seeds of failures depend on it", () => {
    const draw = (seed: number): number[] => {
      const random = new SeededRandom(seed);
      return [1, 2, 3].map(() => random.float() * 2 ** 32);
    };
    expect(draw(0)).toEqual([2899526011, 769844623, 220372281]);
    expect(draw(42)).toEqual([1959603763, 2423114712, 2466933512]);
    expect(draw(0xffff_ffff)).toEqual([2300869303, 3917632794, 3726809994]);
  });

  it("gives another run for a neighbouring seed", () => {
    expect(new SeededRandom(1).float()).not.toBe(new SeededRandom(2).float());
  });
});

const SOURCES: readonly (readonly [string, () => Random])[] = [
  ["SeededRandom", () => new SeededRandom(7)],
  ["systemRandom()", systemRandom],
];

describe.each(SOURCES)("%s", (_, create) => {
  it("draws floats from [0, 1) and integers below the bound", () => {
    const random = create();
    const seen = new Set<number>();
    for (let i = 0; i < 1_000; i++) {
      const float = random.float();
      expect(float >= 0 && float < 1).toBe(true);
      seen.add(random.below(4));
    }
    expect([...seen].sort()).toEqual([0, 1, 2, 3]);
    expect(random.below(1)).toBe(0);
  });

  it.each([0, 16, 256, 257, 9_000, 70_000])("fills %i bytes and returns the target", (size) => {
    const random = create();
    const target = new Uint8Array(size);
    expect(random.fill(target)).toBe(target);
    // Large targets are filled in parts: the last one must not be forgotten.
    const tail = target.subarray(Math.max(0, size - 64));
    if (size >= 16) expect(tail.some((byte) => byte !== 0)).toBe(true);
  });

  it("fills what is asked for and nothing beside it", () => {
    const whole = new Uint8Array(40);
    create().fill(whole.subarray(10, 30));
    expect([...whole.subarray(0, 10), ...whole.subarray(30)].every((byte) => byte === 0)).toBe(
      true,
    );
  });

  it("does not repeat itself", () => {
    const random = create();
    const drawn = new Set<string>();
    for (let i = 0; i < 2_000; i++) {
      drawn.add(Buffer.from(random.fill(new Uint8Array(16))).toString("hex"));
    }
    expect(drawn.size).toBe(2_000);
  });
});
