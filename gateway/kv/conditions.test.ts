import { describe, expect, it } from "vitest";
import type { Exchange } from "#gateway/http/exchange.ts";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { toRevision } from "#shared/ids.ts";
import { ifRangeHolds, readConditions, writeCondition } from "./conditions.ts";

const NEVER = Number.MAX_SAFE_INTEGER;

const withHeaders = (headers: Record<string, string>): Exchange => ({
  method: "PUT",
  target: "/v1/kv/a",
  peerAddress: "",
  requestId: "r",
  cancellation: new Cancellation(),
  isBodyUnannounced: false,
  header: (name) => headers[name],
  readBody: () => Promise.reject(new Error("not asked for")),
});

const nothing = { mustBeAbsent: false, mustExist: false, revisionIs: [], revisionIsNot: [] };

describe("writeCondition()", () => {
  it.each([
    [{}, undefined],
    [{ "if-none-match": "*" }, { ...nothing, mustBeAbsent: true }],
    [{ "if-match": "*" }, { ...nothing, mustExist: true }],
    [{ "if-match": '"7"' }, { ...nothing, revisionIs: [7] }],
    [{ "if-match": ' "7" ,, "8"' }, { ...nothing, revisionIs: [7, 8] }],
    [{ "if-none-match": '"7", W/"8"' }, { ...nothing, revisionIsNot: [7, 8] }],
    [
      { "if-match": '"7"', "if-none-match": '"8"' },
      { ...nothing, revisionIs: [7], revisionIsNot: [8] },
    ],
  ])("turns %j into %j", (headers, expected) => {
    expect(writeCondition(withHeaders(headers as Record<string, string>))).toEqual(expected);
  });

  it.each(['W/"7"', '"abc"', '"07"', '"0"', '"7,8"', '""', '"99999999999999999999"'])(
    "makes If-Match: %s a condition that never holds",
    (tag) => {
      expect(writeCondition(withHeaders({ "if-match": tag }))).toEqual({
        ...nothing,
        revisionIs: [NEVER],
      });
    },
  );

  it.each(["", "7", '"7', '7"', "*, *", '*, "7"', '"7" "8"', "W/7", ",", 'w/"7"', "W/"])(
    "refuses %j in either header",
    (text) => {
      for (const name of ["if-match", "if-none-match"]) {
        expect(() => writeCondition(withHeaders({ [name]: text }))).toThrow(
          expect.objectContaining({ code: "INVALID_ARGUMENT" }),
        );
      }
    },
  );

  it("bounds the number of tags", () => {
    const tags = (count: number) => Array.from({ length: count }, (_, i) => `"${i + 1}"`).join();
    expect(writeCondition(withHeaders({ "if-match": tags(256) }))?.revisionIs).toHaveLength(256);
    expect(() => writeCondition(withHeaders({ "if-match": tags(257) }))).toThrow("256");
  });

  it("refuses Idempotency-Key, which nothing here would honour", () => {
    expect(() => writeCondition(withHeaders({ "idempotency-key": '"k"' }))).toThrow(
      "Idempotency-Key is not supported",
    );
  });

  it("refuses If-Unmodified-Since, which nothing here would honour", () => {
    const headers = { "if-unmodified-since": "Sat, 29 Oct 1994 19:43:31 GMT" };
    expect(() => writeCondition(withHeaders(headers))).toThrow("If-Match");
  });
});

describe("readConditions()", () => {
  const verdict = (headers: Record<string, string>) =>
    readConditions(withHeaders(headers))(toRevision(7));

  it.each([
    [{}, "proceed"],
    [{ "if-none-match": '"7"' }, "notModified"],
    [{ "if-none-match": 'W/"7"' }, "notModified"],
    [{ "if-none-match": "*" }, "notModified"],
    [{ "if-none-match": '"6", "8"' }, "proceed"],
    [{ "if-match": '"7"' }, "proceed"],
    [{ "if-match": "*" }, "proceed"],
    [{ "if-match": '"8"' }, "failed"],
    [{ "if-match": 'W/"7"' }, "failed"],
    [{ "if-match": '"8"', "if-none-match": '"7"' }, "failed"],
  ])("judges %j at revision 7: %s", (headers, expected) => {
    expect(verdict(headers as Record<string, string>)).toBe(expected);
  });
});

describe("ifRangeHolds()", () => {
  it.each([
    [{}, true],
    [{ "if-range": '"7"' }, true],
    [{ "if-range": 'W/"7"' }, false],
    [{ "if-range": '"8"' }, false],
    [{ "if-range": "Sat, 29 Oct 1994 19:43:31 GMT" }, false],
  ])("says of %j at revision 7: %s", (headers, expected) => {
    expect(ifRangeHolds(withHeaders(headers as Record<string, string>), toRevision(7))).toBe(
      expected,
    );
  });
});
