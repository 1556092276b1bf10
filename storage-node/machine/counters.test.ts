/** Counters rows, and what keeps the counters from going wrong unnoticed. */
import { describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type TenantId } from "#shared/ids.ts";
import { countersRowKey } from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { Counters, decodeCountersRow, encodeCountersRow } from "./counters.ts";
import { atOnce, GROUP } from "./testing.ts";
import { ApplyView } from "./view.ts";

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
    const view = new ApplyView(openMemory().batch());
    counters.add(DEFAULT_TENANT, 1, 10, view);
    expect(() => counters.add(DEFAULT_TENANT, -1, -9, view)).toThrow("no bytes");
    expect(() => counters.add(DEFAULT_TENANT, 0, -11, view)).toThrow("below zero");
  });

  it("writes one row per tenant and round, with what stands at its end", () => {
    const engine = openMemory();
    const batch = engine.batch();
    const view = new ApplyView(batch);
    const counters = new Counters(GROUP, new Map());
    const [kept, gone] = [DEFAULT_TENANT, 9 as TenantId];
    const keys = [countersRowKey(GROUP, kept), countersRowKey(GROUP, gone)];
    const round = (...changes: [TenantId, number, number][]) => {
      for (const [tenant, objects, bytes] of changes) counters.add(tenant, objects, bytes, view);
      view.finish();
      const { count } = batch;
      atOnce(engine.write(batch));
      batch.clear();
      view.reset();
      const rows = atOnce(engine.getMany(keys));
      return { count, rows: rows.map((row) => row && decodeCountersRow(row)) };
    };
    expect(round([kept, 1, 10], [gone, 1, 5], [kept, 1, 10])).toEqual({
      count: 2,
      rows: [
        { objects: 2, bytes: 20 },
        { objects: 1, bytes: 5 },
      ],
    });
    expect(round([gone, 0, 3], [gone, -1, -8])).toEqual({
      count: 1,
      rows: [{ objects: 2, bytes: 20 }, undefined],
    });
    expect(round([kept, 0, 0])).toMatchObject({ count: 0 });
  });
});
