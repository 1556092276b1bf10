/** Numbers of variable size, and rows made of them. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RowReader, RowWriter, readVarint, varintSizeBytes, writeVarint } from "./varint.ts";

const EDGES = [
  0,
  1,
  0x7f,
  0x80,
  0x3fff,
  0x4000,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 49 - 1,
  2 ** 49,
];

describe("writeVarint()", () => {
  it("writes what readVarint() reads, in varintSizeBytes() bytes", () => {
    const target = new Uint8Array(10);
    const check = (value: number) => {
      const end = writeVarint(target, 1, value);
      expect(end - 1).toBe(varintSizeBytes(value));
      expect(readVarint(target.subarray(0, end), 1)).toBe(value);
    };
    for (const value of [...EDGES, Number.MAX_SAFE_INTEGER]) check(value);
    fc.assert(fc.property(fc.maxSafeNat(), check));
  });

  it("writes seven bits a byte, least significant first", () => {
    const target = new Uint8Array(2);
    writeVarint(target, 0, 300);
    expect([...target]).toEqual([0xac, 0x02]);
  });
});

describe("readVarint()", () => {
  it.each([
    ["an end inside the number", [0x80]],
    ["nothing", []],
    ["a longer form than needed", [0x80, 0x00]],
    ["a number beyond 2^53 - 1", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10]],
    ["a number without end", new Array(12).fill(0xff)],
  ])("refuses %s", (_, bytes) => {
    expect(() => readVarint(Uint8Array.from(bytes), 0)).toThrow("does not decode");
  });
});

describe("RowWriter", () => {
  it("grows, and gives rows that later rows do not touch", () => {
    const writer = new RowWriter();
    const large = new Uint8Array(10_000).fill(7);
    writer.byte(1);
    writer.bytes(large);
    writer.varint(Number.MAX_SAFE_INTEGER);
    const first = writer.take();
    writer.byte(2);
    expect([...writer.take()]).toEqual([2]);
    const reader = new RowReader(first);
    expect(reader.byte()).toBe(1);
    expect(Buffer.from(reader.bytes(10_000)).equals(large)).toBe(true);
    expect(reader.varint()).toBe(Number.MAX_SAFE_INTEGER);
    reader.end();
  });
});

describe("RowReader", () => {
  it("refuses to read past the end, and bytes that nobody read", () => {
    const reader = new RowReader(Uint8Array.of(1, 2));
    expect(() => reader.bytes(3)).toThrow("cut short");
    expect(() => reader.end()).toThrow("behind its end");
    reader.bytes(2);
    reader.end();
    expect(() => reader.byte()).toThrow("cut short");
  });
});
