/** Data rows, against the bytes that `docs/formats/engine.md` shows, and against damaged bytes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision } from "#shared/ids.ts";
import {
  type DataRow,
  decodeDataRow,
  decodeDataRowHead,
  encodeDataRow,
  isExpired,
} from "./data-row.ts";

const ROW: DataRow = {
  revision: 258 as Revision,
  modifiedAtMs: 1_700_000_000_000,
  expiresAtMs: 0,
  contentType: "text/plain",
  value: utf8("hello"),
  encoding: 0,
  logicalSizeBytes: 5,
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const anyRow = (): fc.Arbitrary<DataRow> =>
  fc
    .record({
      revision: fc.maxSafeNat() as fc.Arbitrary<Revision>,
      modifiedAtMs: fc.maxSafeNat(),
      expiresAtMs: fc.oneof(fc.constant(0), fc.maxSafeNat()),
      contentType: fc.oneof(
        fc.string({ unit: "grapheme", maxLength: 20 }),
        fc.constant("x".repeat(200)),
      ),
      value: fc.uint8Array({ maxLength: 50 }),
      encoding: fc.oneof(fc.constant(0), fc.constant(1), fc.nat({ max: 0xffff_ffff })),
      logicalSizeBytes: fc.maxSafeNat(),
    })
    .map((row) => (row.encoding === 0 ? { ...row, logicalSizeBytes: row.value.length } : row));

describe("encodeDataRow()", () => {
  it("writes the bytes that are on disk", () => {
    const head = "01" + "00" + "0000000000000102" + "0000018bcfe56800";
    const type = "0a" + "746578742f706c61696e";
    expect(hex(encodeDataRow(ROW))).toBe(`${head}${type}68656c6c6f`);
    const expiring = { ...ROW, expiresAtMs: 1_700_000_060_000, contentType: "" };
    const expiringHead = "01" + "01" + "0000000000000102" + "0000018bcfe56800" + "0000018bcfe65260";
    expect(hex(encodeDataRow(expiring))).toBe(`${expiringHead}0068656c6c6f`);
    const encoded = { ...expiring, encoding: 1, logicalSizeBytes: 300 };
    const encodedHead = `${expiringHead.replace("0101", "0103")}01ac02`;
    expect(hex(encodeDataRow(encoded))).toBe(`${encodedHead}0068656c6c6f`);
  });

  it("writes what decodeDataRow() and decodeDataRowHead() read", () => {
    fc.assert(
      fc.property(anyRow(), (row) => {
        const bytes = encodeDataRow(row);
        const decoded = decodeDataRow(bytes);
        expect({ ...decoded, value: [...decoded.value] }).toEqual({
          ...row,
          value: [...row.value],
        });
        const head = decodeDataRowHead(bytes);
        const { revision, modifiedAtMs, expiresAtMs, valueSizeBytes } = head;
        const { encoding, logicalSizeBytes } = head;
        expect({ encoding, logicalSizeBytes }).toEqual({
          encoding: row.encoding,
          logicalSizeBytes: row.logicalSizeBytes,
        });
        expect({ revision, modifiedAtMs, expiresAtMs, valueSizeBytes }).toEqual({
          revision: row.revision,
          modifiedAtMs: row.modifiedAtMs,
          expiresAtMs: row.expiresAtMs,
          valueSizeBytes: row.value.length,
        });
      }),
    );
  });
});

describe("decodeDataRow()", () => {
  it("returns the value as a view", () => {
    const bytes = encodeDataRow(ROW);
    expect(decodeDataRow(bytes).value.buffer).toBe(bytes.buffer);
  });

  it("refuses other versions, unknown flags, and rows cut before the value", () => {
    const bytes = encodeDataRow({ ...ROW, expiresAtMs: 5, encoding: 1 });
    const changed = (at: number, value: number) => {
      const copy = Uint8Array.from(bytes);
      copy[at] = value;
      return copy;
    };
    expect(() => decodeDataRow(changed(0, 2))).toThrow(KvError);
    expect(() => decodeDataRow(changed(1, 7))).toThrow(KvError);
    // An encoding that is none: the same row would have two forms.
    expect(() => decodeDataRow(changed(26, 0))).toThrow(KvError);
    const valueStart = bytes.length - ROW.value.length;
    for (let size = 0; size < valueStart; size++) {
      expect(() => decodeDataRow(bytes.subarray(0, size))).toThrow(KvError);
    }
  });
});

describe("isExpired()", () => {
  it("holds from the time itself on, and never for 0", () => {
    expect([99, 100, 101].map((nowMs) => isExpired({ expiresAtMs: 100 }, nowMs))).toEqual([
      ...[false, true, true],
    ]);
    expect(isExpired({ expiresAtMs: 0 }, Number.MAX_SAFE_INTEGER)).toBe(false);
  });
});
