/** Cursors: good for the query that they came from, and for nothing else. */
import { describe, expect, it } from "vitest";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { type CursorQuery, decodeCursor, encodeCursor } from "./cursor.ts";

const queryOf = (start: string, end: string, reverse = false): CursorQuery => ({
  ...{ tenant: DEFAULT_TENANT, start: utf8(start), end: utf8(end), reverse },
});

const decode = (query: CursorQuery, key: Uint8Array) => (): Uint8Array =>
  // Not a Buffer, which equals no plain array.
  new Uint8Array(decodeCursor(encodeCursor(query, key), query));

describe("decodeCursor()", () => {
  it("gives the key back that the cursor was made of", () => {
    for (const query of [queryOf("b", "d"), queryOf("b", "d", true), queryOf("", "")]) {
      expect(decode(query, utf8("c"))()).toEqual(utf8("c"));
    }
    expect(decode(queryOf("b", ""), utf8("b"))()).toEqual(utf8("b"));
  });

  it.each([
    ["before the range", utf8("a")],
    ["at its end", utf8("d")],
    ["behind it", utf8("e")],
  ])("refuses a key %s, with which a scan would leave the range", (_, key) => {
    expect(decode(queryOf("b", "d"), key)).toThrow(/none that this server gave/);
    expect(decode(queryOf("b", "d", true), key)).toThrow(/none that this server gave/);
  });

  it("refuses the cursor of another tenant, for the same query", () => {
    const mine = queryOf("b", "d");
    const theirs = { ...mine, tenant: toTenantId(2) };
    const cursor = encodeCursor(theirs, utf8("c"));
    expect(() => decodeCursor(cursor, mine)).toThrow(/belongs to another query/);
    expect(() => decodeCursor(encodeCursor(mine, utf8("c")), theirs)).toThrow(/another query/);
  });

  it("refuses what is no key at all", () => {
    const long = new Uint8Array(KEY_SIZE_BYTES_MAX + 1).fill(1);
    expect(decode(queryOf("", ""), long)).toThrow(/none that this server gave/);
    expect(decode(queryOf("", ""), EMPTY_BYTES)).toThrow(/none that this server gave/);
  });
});
