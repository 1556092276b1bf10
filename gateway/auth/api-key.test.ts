import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Random, SeededRandom, systemRandom } from "#shared/random.ts";
import { API_KEY_LENGTH, formatApiKey, isApiKeyId, makeApiKey, parseApiKey } from "./api-key.ts";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const word = (length: number) =>
  fc.string({ unit: fc.constantFrom(...ALPHABET), minLength: length, maxLength: length });
const seeds = fc.nat().map((seed) => new SeededRandom(seed));

describe("formatApiKey() and parseApiKey()", () => {
  it("round-trip what makeApiKey() makes", () => {
    fc.assert(
      fc.property(seeds, (random) => {
        const key = makeApiKey(random);
        const text = formatApiKey(key);
        expect(text).toMatch(/^mkv_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}$/);
        expect(text).toHaveLength(API_KEY_LENGTH);
        expect(parseApiKey(text)).toEqual(key);
        expect(isApiKeyId(key.id)).toBe(true);
      }),
    );
  });

  it("keep their form: this very key is on clients' disks", () => {
    const key = { id: "0123456789ABCDEF", secret: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG" };
    expect(formatApiKey(key)).toBe(
      "mkv_0123456789ABCDEF_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG2fuGbC",
    );
  });

  it("find every wrong character, and every two neighbours that were swapped", () => {
    const place = fc.nat({ max: API_KEY_LENGTH - 1 });
    fc.assert(
      fc.property(seeds, place, fc.nat({ max: 61 }), (random, at, digit) => {
        const text = formatApiKey(makeApiKey(random));
        const wrong = text.slice(0, at) + ALPHABET[digit] + text.slice(at + 1);
        if (wrong !== text) expect(parseApiKey(wrong)).toBeUndefined();
        const swapped = text.slice(0, at) + (text[at + 1] ?? "") + text[at] + text.slice(at + 2);
        if (swapped !== text) expect(parseApiKey(swapped)).toBeUndefined();
      }),
      { numRuns: 2_000 },
    );
  });

  it("refuse any other text without throwing", () => {
    const key = formatApiKey(makeApiKey(new SeededRandom(1)));
    for (const text of [`${key}\n`, ` ${key}`, key.slice(1), key.toUpperCase(), `${key}0`, ""]) {
      expect(parseApiKey(text)).toBeUndefined();
    }
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: "binary" }),
      fc.tuple(word(16), word(49)).map(([id, rest]) => `mkv_${id}_${rest}`),
      fc.string({ minLength: API_KEY_LENGTH, maxLength: API_KEY_LENGTH }),
    );
    fc.assert(
      fc.property(text, (any) => {
        expect(parseApiKey(any)).toBeUndefined();
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("makeApiKey()", () => {
  it("prefers no character", () => {
    // With a bare remainder the first eight would come a quarter more often than the others.
    const random = new SeededRandom(1);
    const counts = new Map<string, number>();
    for (let i = 0; i < 3_000; i++) {
      const { id, secret } = makeApiKey(random);
      for (const character of id + secret) {
        counts.set(character, (counts.get(character) ?? 0) + 1);
      }
    }
    expect(counts.size).toBe(62);
    expect(Math.max(...counts.values()) / Math.min(...counts.values())).toBeLessThan(1.15);
  });

  it("draws again what would be unfair", () => {
    let isFirst = true;
    const unfairFirst: Random = {
      ...systemRandom(),
      fill: (target) => {
        target.fill(isFirst ? 248 : 1);
        isFirst = false;
        return target;
      },
    };
    expect(makeApiKey(unfairFirst).id).toBe("1".repeat(16));
  });
});
