/** Journal rows, against the bytes that `docs/formats/engine.md` shows, and against damaged bytes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MutationStatus } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { KvError } from "#shared/errors.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type Revision,
  Space,
  type Term,
} from "#shared/ids.ts";
import { journalRowKey } from "#storage-node/engine/layout.ts";
import { decodeJournalRow, encodeJournalRow, type JournalRow, oldestRevision } from "./journal.ts";
import { requestId } from "./testing.ts";

const change = {
  kind: ChangeKind.Put,
  revision: 6 as Revision,
  previousRevision: 4 as Revision,
  tenant: DEFAULT_TENANT,
  space: Space.Kv,
  key: utf8("key"),
  valueSizeBytes: 300,
  expiresAtMs: 0,
};

const ROW: JournalRow = {
  term: 3 as Term,
  logTimeMs: 1_700_000_000_000,
  dedupeUntilMs: 1_700_000_010_000,
  changes: [change, { ...change, kind: ChangeKind.Delete, revision: 7 as Revision }],
  results: [
    {
      requestId: requestId(0x0102),
      deadlineMs: 1_700_000_010_000,
      result: {
        kind: "write",
        applied: true,
        mutations: [
          { status: MutationStatus.Applied, revision: 6 as Revision, created: true },
          { status: MutationStatus.NotFound, revision: 0 as Revision, created: false },
        ],
      },
    },
  ],
};
const POSITION = { revision: 7 as Revision, index: 9 as LogIndex };
const KEY = journalRowKey(1 as GroupId, POSITION);

function withoutViews(row: JournalRow): unknown {
  return {
    ...row,
    changes: row.changes.map((one) => ({ ...one, key: [...one.key] })),
    results: row.results.map((one) => ({ ...one, requestId: [...one.requestId] })),
  };
}

describe("encodeJournalRow()", () => {
  it("writes the bytes that are on disk", () => {
    const head = "01" + "03" + "80d095ffbc31" + "904e" + "02";
    const put = "01" + "01" + "01" + "03" + "6b6579" + "04" + "ac02" + "00";
    const deletion = "02" + "01" + "01" + "03" + "6b6579" + "04" + "ac02" + "00";
    const id = "00000000000000000000000000000102";
    const result = `01${id}${"909e96ffbc31"}01${"02"}${"81"}${"06"}${"03"}${"00"}`;
    const bytes = Buffer.from(encodeJournalRow(ROW)).toString("hex");
    expect(bytes).toBe(`${head}${put}${deletion}${result}`);
  });

  it("writes what decodeJournalRow() reads", () => {
    expect(withoutViews(decodeJournalRow(KEY, encodeJournalRow(ROW)))).toEqual(withoutViews(ROW));
    const bare = { ...ROW, dedupeUntilMs: ROW.logTimeMs, changes: [], results: [] };
    expect(decodeJournalRow(KEY, encodeJournalRow(bare))).toEqual(bare);
  });
});

describe("decodeJournalRow()", () => {
  it("refuses every row that was cut, and one with more bytes", () => {
    const bytes = encodeJournalRow(ROW);
    for (let size = 0; size < bytes.length; size++) {
      expect(() => decodeJournalRow(KEY, bytes.subarray(0, size))).toThrow(KvError);
    }
    expect(() => decodeJournalRow(KEY, Buffer.concat([bytes, Buffer.of(0)]))).toThrow(KvError);
  });

  it("fails on damaged bytes with DATA_CORRUPT, or not at all", () => {
    const bytes = encodeJournalRow(ROW);
    fc.assert(
      fc.property(fc.nat({ max: bytes.length * 8 - 1 }), (bit) => {
        const damaged = Uint8Array.from(bytes);
        damaged[bit >>> 3]! ^= 1 << (bit & 7);
        try {
          decodeJournalRow(KEY, damaged);
        } catch (error) {
          expect(error).toMatchObject({ name: "KvError", code: "DATA_CORRUPT" });
        }
      }),
    );
  });

  it("refuses more changes than there are revisions", () => {
    const key = journalRowKey(1 as GroupId, { ...POSITION, revision: 1 as Revision });
    expect(() => decodeJournalRow(key, encodeJournalRow(ROW))).toThrow("change count");
  });
});

describe("oldestRevision()", () => {
  it("is the first change of the row, or the next one to come when it has none", () => {
    expect(oldestRevision(POSITION, ROW)).toBe(6);
    expect(oldestRevision(POSITION, { ...ROW, changes: [] })).toBe(8);
  });
});
