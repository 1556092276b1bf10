/**
 * The frozen hash. A failure here means that stored keys would no longer be found.
 *
 * The reference below is MurmurHash3 x86_32 written down a second time, in the plainest way and over
 * one joined buffer. It is itself checked against published values, among them the verification
 * value of the author's own test suite (SMHasher), so the vectors do not rest on our code.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatBytes, utf8 } from "./bytes.ts";
import { Space, type TenantId, VSHARD_COUNT } from "./ids.ts";
import { type KeyAddress, vshardOf, vshardOfPrefix } from "./vshard.ts";

function murmurHash3(input: Uint8Array, seed: number): number {
  const rotate = (value: number, bits: number) => (value << bits) | (value >>> (32 - bits));
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  const mix = (block: number) => Math.imul(rotate(Math.imul(block, 0xcc9e2d51), 15), 0x1b873593);
  let hash = seed;
  let at = 0;
  for (; at + 4 <= input.length; at += 4) {
    hash = rotate(hash ^ mix(view.getUint32(at, true)), 13);
    hash = (Math.imul(hash, 5) + 0xe6546b64) >>> 0;
  }
  let tail = 0;
  for (let i = 0; at + i < input.length; i++) tail += input[at + i]! * 2 ** (8 * i);
  hash ^= mix(tail);
  hash ^= input.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The address whose hashed bytes are exactly `input`, which has at least five. */
function addressOf(input: Uint8Array): KeyAddress {
  const head = new DataView(input.buffer, input.byteOffset, input.length);
  return {
    tenant: head.getUint32(0) as TenantId,
    space: input[4] as Space,
    key: input.subarray(5),
  };
}

const kv = (tenant: number, key: string): KeyAddress => ({
  tenant: tenant as TenantId,
  space: Space.Kv,
  key: utf8(key),
});

/** Published values for seed 0. */
const PUBLISHED: readonly (readonly [string, number])[] = [
  ["hello", 0x248bfa47],
  ["hello, world", 0x149bbb7f],
  ["Hello, world!", 0xc0363e43],
  ["The quick brown fox jumps over the lazy dog", 0x2e4ff723],
];

describe("the reference hash of this test", () => {
  it("has the verification value that SMHasher gives MurmurHash3 x86_32", () => {
    const hashes = new Uint8Array(256 * 4);
    const results = new DataView(hashes.buffer);
    for (let i = 0; i < 256; i++) {
      const key = Uint8Array.from({ length: i }, (_, at) => at);
      results.setUint32(4 * i, murmurHash3(key, 256 - i), true);
    }
    expect(murmurHash3(hashes, 0)).toBe(0xb0f57ee3);
  });

  it.each(PUBLISHED)("has the published value of %j", (text, hash) => {
    expect(murmurHash3(utf8(text), 0)).toBe(hash);
  });
});

describe("vshardOf()", () => {
  it.each(PUBLISHED)("is the published hash of %j, modulo 256", (text, hash) => {
    expect(vshardOf(addressOf(utf8(text)))).toBe(hash % VSHARD_COUNT);
  });

  it("is the hash of tenant, space and key, for keys of every length", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 5, maxLength: 40 }).filter((input) => !input.includes(0x7b, 5)),
        (input) => {
          expect(vshardOf(addressOf(input))).toBe(murmurHash3(input, 0) % VSHARD_COUNT);
        },
      ),
      { numRuns: 500 },
    );
  });

  it.each([
    [1, "", 155],
    [1, "a", 104],
    [1, "hello", 211],
    [1, "user:1000", 252],
    [1, "user:1001", 83],
    [2, "hello", 9],
    [0xffff_ffff, "hello", 48],
    [1, "ключ", 207],
    [1, "k".repeat(1024), 173],
  ])("puts tenant %i, key %j where it has always been", (tenant, key, vshard) => {
    expect(vshardOf(kv(tenant, key))).toBe(vshard);
  });

  it.each([
    ["{user:1000}.name", "user:1000"],
    ["name.{user:1000}", "user:1000"],
    ["{a}{b}", "a"],
    ["{{a}}", "{a"],
    ["}{a}", "a"],
  ])("hashes only the tag of %j", (key, tag) => {
    const tagged = concatBytes(Uint8Array.of(0, 0, 0, 1, Space.Kv), utf8(tag));
    expect(vshardOf(kv(1, key))).toBe(murmurHash3(tagged, 0) % VSHARD_COUNT);
  });

  it.each(["{}hello", "{hello", "hello}", "a{}{b}"])("hashes the whole of %j", (key) => {
    const whole = concatBytes(Uint8Array.of(0, 0, 0, 1, Space.Kv), utf8(key));
    expect(vshardOf(kv(1, key))).toBe(murmurHash3(whole, 0) % VSHARD_COUNT);
  });

  it("spreads consecutive keys over all vshards", () => {
    const counts = new Array<number>(VSHARD_COUNT).fill(0);
    for (let i = 0; i < 100 * VSHARD_COUNT; i++) counts[vshardOf(kv(1, `user:${i}`))]!++;
    // A fair hash stays within 60 and 140 of the expected 100 for all 256 (four deviations).
    expect(Math.min(...counts)).toBeGreaterThan(60);
    expect(Math.max(...counts)).toBeLessThan(140);
  });
});

describe("vshardOfPrefix()", () => {
  it.each(["{t}", "a{t}", "a{t}b", "{t}{u}", "{{}"])("knows where keys with %j are", (prefix) => {
    const vshard = vshardOfPrefix(kv(1, prefix));
    for (const rest of ["", "x", "}", "{v}", "}{v}"]) {
      expect(vshardOf(kv(1, prefix + rest))).toBe(vshard);
    }
  });

  it.each(["", "a", "{t", "t}", "{}", "{}{t}", "a{"])("knows nothing of %j", (prefix) => {
    expect(vshardOfPrefix(kv(1, prefix))).toBeUndefined();
    const places = ["0", "1", "2}", "3}"].map((rest) => vshardOf(kv(1, prefix + rest)));
    expect(new Set(places).size).toBeGreaterThan(1);
  });
});
