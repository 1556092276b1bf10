/** Counters rows, and what keeps the counters from going wrong unnoticed. */
import { describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { Counters, decodeCountersRow, encodeCountersRow } from "./counters.ts";
import { GROUP } from "./testing.ts";

describe("encodeCountersRow()", () => {
  it("writes the bytes that are on disk, and decodeCountersRow() reads them", () => {
    const row = encodeCountersRow({ objects: 2, bytes: 258 });
    expect(Buffer.from(row).toString("hex")).toBe("01" + "0000000000000002" + "0000000000000102");
    expect(decodeCountersRow(row)).toEqual({ objects: 2, bytes: 258 });
  });
});

describe("decodeCountersRow()", () => {
  it("refuses another size or version", () => {
    const row = encodeCountersRow({ objects: 2, bytes: 258 });
    expect(() => decodeCountersRow(row.subarray(1))).toThrow(KvError);
    row[0] = 2;
    expect(() => decodeCountersRow(row)).toThrow(KvError);
  });
});

describe("Counters", () => {
  it("refuses to fall below zero, and bytes without objects", () => {
    const counters = new Counters(GROUP, new Map());
    counters.add(DEFAULT_TENANT, 1, 10);
    expect(() => counters.add(DEFAULT_TENANT, -1, -9)).toThrow("no bytes");
    expect(() => counters.add(DEFAULT_TENANT, 0, -11)).toThrow("below zero");
  });
});
