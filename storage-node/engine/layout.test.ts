/** The keys of stored rows, against the bytes that `docs/formats/engine.md` shows. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareBytes, utf8 } from "#shared/bytes.ts";
import {
  type GroupId,
  type LogIndex,
  META_GROUP,
  type Revision,
  Space,
  type TenantId,
} from "#shared/ids.ts";
import {
  configurationRowKey,
  countersRowKey,
  countersRowTenant,
  dataRowAddress,
  dataRowKey,
  dataRowsRange,
  expiryRowAddress,
  expiryRowKey,
  expiryRowsStart,
  expiryRowTimeMs,
  journalRowKey,
  journalRowPosition,
  RowKind,
  rowHead,
  rowsOf,
} from "./layout.ts";

const GROUP = 0x0102 as GroupId;
const address = { tenant: 3 as TenantId, space: Space.Kv, key: utf8("key") };
const position = { revision: 5 as Revision, index: 9 as LogIndex };
const TIME_MS = 1_700_000_000_000;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("row keys", () => {
  it("are the bytes that are on disk", () => {
    expect(hex(dataRowKey(GROUP, address))).toBe("01" + "0102" + "00000003" + "01" + "6b6579");
    expect(hex(journalRowKey(GROUP, position))).toBe(
      "02" + "0102" + "0000000000000005" + "0000000000000009",
    );
    expect(hex(expiryRowKey(GROUP, TIME_MS, address))).toBe(
      "03" + "0102" + "0000018bcfe56800" + "00000003" + "01" + "6b6579",
    );
    expect(hex(countersRowKey(GROUP, 3 as TenantId))).toBe("04" + "0102" + "00000003");
    expect(hex(configurationRowKey(GROUP))).toBe("05" + "0102");
  });

  it("give back what they were made of", () => {
    expect(dataRowAddress(dataRowKey(GROUP, address))).toEqual({
      ...address,
      key: Buffer.from("key"),
    });
    expect(journalRowPosition(journalRowKey(GROUP, position))).toEqual(position);
    const expiry = expiryRowKey(GROUP, TIME_MS, address);
    expect(expiryRowTimeMs(expiry)).toBe(TIME_MS);
    expect(expiryRowAddress(expiry).key).toEqual(Buffer.from("key"));
    expect(rowHead(expiry)).toEqual({ kind: RowKind.Expiry, group: GROUP });
    expect(rowHead(configurationRowKey(META_GROUP)).group).toBe(META_GROUP);
    expect(countersRowTenant(countersRowKey(GROUP, 0xffff_ffff as TenantId))).toBe(0xffff_ffff);
  });

  it("order the journal by revision, then by index, and expiry rows by time", () => {
    const big = fc.maxSafeNat();
    fc.assert(
      fc.property(big, big, big, big, (revisionA, indexA, revisionB, indexB) => {
        const key = (revision: number, index: number) =>
          journalRowKey(GROUP, { revision: revision as Revision, index: index as LogIndex });
        const order = Math.sign(compareBytes(key(revisionA, indexA), key(revisionB, indexB)));
        expect(order).toBe(Math.sign(revisionA - revisionB) || Math.sign(indexA - indexB));
        const start = expiryRowsStart(GROUP, revisionA);
        const atOrAfter = compareBytes(expiryRowKey(GROUP, revisionB, address), start) >= 0;
        expect(atOrAfter).toBe(revisionB >= revisionA);
      }),
    );
  });
});

describe("dataRowsRange()", () => {
  it("holds the rows of its keys, and none of another group, tenant or space", () => {
    const anyKey = fc.uint8Array({ maxLength: 3, max: 255 });
    const anyPlace = fc.record({
      group: fc.constantFrom(0 as GroupId, GROUP, META_GROUP),
      tenant: fc.constantFrom(1 as TenantId, 2 as TenantId, 0xffff_ffff as TenantId),
      space: fc.constantFrom(Space.Kv, 255 as Space),
    });
    fc.assert(
      fc.property(anyPlace, anyPlace, anyKey, anyKey, anyKey, (place, other, start, end, key) => {
        const range = dataRowsRange(place.group, { ...place, start, end });
        const row = dataRowKey(other.group, { ...other, key });
        const isIn = compareBytes(row, range.start) >= 0 && compareBytes(row, range.end) < 0;
        const isBefore = end.length === 0 || compareBytes(key, end) < 0;
        const samePlace = JSON.stringify(place) === JSON.stringify(other);
        expect(isIn).toBe(samePlace && compareBytes(key, start) >= 0 && isBefore);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("rowsOf()", () => {
  it("holds all rows of its kind and group, and no others", () => {
    const kinds = Object.values(RowKind);
    const groups = [0, 1, 0xff, 0x100, META_GROUP - 1, META_GROUP] as GroupId[];
    for (const kind of kinds) {
      for (const group of groups) {
        const { start, end } = rowsOf(kind, group);
        for (const otherKind of kinds) {
          for (const otherGroup of groups) {
            const head = [otherKind, otherGroup >>> 8, otherGroup & 0xff];
            const first = Uint8Array.from(head);
            const last = Uint8Array.from([...head, ...new Array(40).fill(0xff)]);
            const same = kind === otherKind && group === otherGroup;
            const within = (key: Uint8Array) =>
              compareBytes(key, start) >= 0 && compareBytes(key, end) < 0;
            expect([within(first), within(last)]).toEqual([same, same]);
          }
        }
      }
    }
  });
});
