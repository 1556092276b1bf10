/** Helpers on byte strings, for `Uint8Array` and `Buffer` alike. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  compareBytes,
  concatBytes,
  equalBytes,
  latin1,
  prefixEnd,
  readUint32,
  readUint64,
  utf8,
  utf8Decode,
  writeUint32,
  writeUint64,
} from "./bytes.ts";

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const anyBytes = (): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength: 12 });
/** Few distinct bytes, so that common prefixes and equal strings occur. */
const closeBytes = (): fc.Arbitrary<Uint8Array> =>
  fc.array(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), { maxLength: 5 }).map((list) => bytes(...list));

describe("utf8Decode()", () => {
  it("gives back every well-formed text, a byte order mark included", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(utf8Decode(utf8(text))).toBe(text);
      }),
    );
    expect(utf8Decode(utf8("\ufeffa"))).toBe("\ufeffa");
  });

  it.each([
    ["a lone continuation byte", bytes(0x80)],
    ["an overlong form", bytes(0xc0, 0x80)],
    ["a surrogate", bytes(0xed, 0xa0, 0x80)],
    ["a cut sequence", bytes(0xe2, 0x82)],
  ])("rejects %s", (_, malformed) => {
    expect(() => utf8Decode(malformed)).toThrow(TypeError);
  });
});

describe("latin1()", () => {
  it("has one character per byte, also for a view into a larger buffer", () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    const text = latin1(all);
    expect([...text].map((character) => character.charCodeAt(0))).toEqual([...all]);
    expect(latin1(all.subarray(65, 68))).toBe("ABC");
    expect(latin1(Buffer.from(all).subarray(65, 68))).toBe("ABC");
  });
});

describe("compareBytes()", () => {
  it("orders as Buffer.compare does", () => {
    fc.assert(
      fc.property(closeBytes(), closeBytes(), (a, b) => {
        expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
        expect(equalBytes(a, b)).toBe(Buffer.compare(a, b) === 0);
      }),
    );
  });
});

describe("concatBytes()", () => {
  it("joins its parts in a buffer of its own", () => {
    const part = bytes(1, 2);
    const whole = concatBytes(part, bytes(), bytes(3));
    part[0] = 9;
    expect(whole).toEqual(bytes(1, 2, 3));
    expect(concatBytes()).toEqual(bytes());
  });
});

describe("writeUint64()", () => {
  it("writes big endian, as DataView does, and readUint64() reads it", () => {
    const check = (value: number): void => {
      const target = new Uint8Array(10).fill(0xaa);
      writeUint64(target, 1, value);
      expect(new DataView(target.buffer).getBigUint64(1)).toBe(BigInt(value));
      expect([target[0], target[9]]).toEqual([0xaa, 0xaa]);
      expect(readUint64(target, 1)).toBe(value);
    };
    for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      check(value);
    }
    fc.assert(fc.property(fc.maxSafeNat(), check));
  });
});

describe("readUint64()", () => {
  it("rejects 2^53", () => {
    const source = new Uint8Array(8);
    new DataView(source.buffer).setBigUint64(0, 2n ** 53n);
    expect(() => readUint64(source, 0)).toThrow(RangeError);
  });
});

describe("writeUint32()", () => {
  it("writes big endian, as DataView does, and readUint32() reads it", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (value) => {
        const target = new Uint8Array(6);
        writeUint32(target, 1, value);
        expect(new DataView(target.buffer).getUint32(1)).toBe(value);
        expect(readUint32(target, 1)).toBe(value);
      }),
    );
  });
});

describe("prefixEnd()", () => {
  it("lies behind every string with the prefix, and before every other later one", () => {
    fc.assert(
      fc.property(closeBytes(), closeBytes(), anyBytes(), (prefix, other, rest) => {
        const end = prefixEnd(prefix);
        const isBefore = (key: Uint8Array) => end === undefined || compareBytes(key, end) < 0;
        expect(isBefore(concatBytes(prefix, rest))).toBe(true);
        const hasPrefix = equalBytes(other.subarray(0, prefix.length), prefix);
        if (compareBytes(other, prefix) > 0 && !hasPrefix) expect(isBefore(other)).toBe(false);
      }),
    );
  });

  it("carries over 0xff, and is undefined when nothing lies behind", () => {
    expect(prefixEnd(bytes(1, 0xff, 0xff))).toEqual(bytes(2));
    expect(prefixEnd(bytes(0xff, 0xff))).toBeUndefined();
    expect(prefixEnd(bytes())).toBeUndefined();
  });

  it("leaves a Buffer as it was, whose slice() would be a view", () => {
    const prefix = Buffer.from([1, 2]);
    expect([...prefixEnd(prefix)!]).toEqual([1, 3]);
    expect([...prefix]).toEqual([1, 2]);
  });
});
