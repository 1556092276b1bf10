import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { toGroupId, toLogIndex, toReplicaId, toTerm } from "#shared/ids.ts";
import { type Entry, EntryKind } from "#storage-node/raft/types.ts";
import { type BatchRecord, decodeRecords, encodeRecord, recordSizeBytes } from "./records.ts";

const group = fc.integer({ min: 0, max: 0xffff }).map(toGroupId);
const index = fc.maxSafeNat().map(toLogIndex);
const term = fc.maxSafeNat().map(toTerm);
const replica = fc.maxSafeNat().map(toReplicaId);
const start = fc.record({ index, term });
const hardStateFields = fc.record({ term, vote: replica, commit: index });
const replicas = fc.array(replica, { maxLength: 5 });
const configuration = fc.record({
  voters: replicas,
  outgoing: replicas,
  learners: replicas,
  learnersNext: replicas,
  highestId: replica,
});
const someEntries = fc
  .record({
    first: fc.integer({ min: 1, max: 2 ** 52 }),
    rest: fc.array(
      fc.record({
        // Few terms, so that runs of one term come up.
        term: fc.integer({ min: 0, max: 2 }).map(toTerm),
        kind: fc.constantFrom(EntryKind.Normal, EntryKind.Configuration),
        data: fc.uint8Array({ maxLength: 40 }),
      }),
      { minLength: 1, maxLength: 8 },
    ),
  })
  .map(({ first, rest }): Entry[] => {
    return rest.map((fields, i) => ({ index: toLogIndex(first + i), ...fields }));
  });

const record: fc.Arbitrary<BatchRecord> = fc.oneof(
  fc.record({ kind: fc.constant("entries" as const), group, entries: someEntries }),
  fc.record({ kind: fc.constant("hardState" as const), group, hardState: hardStateFields }),
  fc.record({ kind: fc.constant("truncateSuffix" as const), group, from: index }),
  fc.record({ kind: fc.constant("compactPrefix" as const), group, start }),
  fc.record({ kind: fc.constant("snapshotMeta" as const), group, replica, start, configuration }),
  fc.record({ kind: fc.constant("removeGroup" as const), group }),
  fc.record({
    kind: fc.constant("checkpoint" as const),
    group,
    replica,
    hardState: hardStateFields,
    start,
    lastIndex: index,
    configuration,
  }),
);
const records = fc.array(record, { maxLength: 6 });

function encode(list: readonly BatchRecord[]): Uint8Array {
  const bytes = new Uint8Array(list.reduce((size, item) => size + recordSizeBytes(item), 0));
  let offset = 0;
  for (const item of list) offset = encodeRecord(bytes, offset, item);
  expect(offset).toBe(bytes.length);
  return bytes;
}

describe("encodeRecord()", () => {
  it("writes what decodeRecords() reads, in as many bytes as recordSizeBytes() says", () => {
    fc.assert(
      fc.property(records, (list) => {
        const bytes = encode(list);
        expect(decodeRecords(bytes, 0, bytes.length)).toEqual(list);
      }),
    );
  });

  it("spends five bytes on an entry whose term is that of the one before", () => {
    const make = (count: number): BatchRecord => ({
      kind: "entries",
      group: toGroupId(1),
      entries: Array.from({ length: count }, (_, i) => ({
        index: toLogIndex(1 + i),
        term: toTerm(9),
        kind: EntryKind.Normal,
        data: new Uint8Array(0),
      })),
    });
    expect(recordSizeBytes(make(11)) - recordSizeBytes(make(1))).toBe(50);
  });
});

describe("decodeRecords()", () => {
  it("throws RangeError for a part of a record", () => {
    fc.assert(
      fc.property(record, fc.double({ min: 0, max: 1, noNaN: true }), (item, fraction) => {
        const bytes = encode([item]);
        const cut = 1 + Math.floor(fraction * (bytes.length - 2));
        expect(() => decodeRecords(bytes, 0, cut)).toThrow(RangeError);
      }),
    );
  });

  it("answers records or throws RangeError, whatever the bytes", () => {
    const damaged = fc.tuple(records, fc.nat(), fc.nat({ max: 255 }));
    fc.assert(
      fc.property(damaged, ([list, position, value]) => {
        const bytes = encode(list);
        if (bytes.length > 0) bytes[position % bytes.length] = value;
        try {
          decodeRecords(bytes, 0, bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("reads the bytes of format 3", () => {
    // A test vector: these bytes are on disks, and must be readable for ever.
    const hex =
      "01 0003 00000021 0000000000000007 00000002 81 00000002 0000000000000004 6869 " +
      "01 00000001 21 02 0003 00000018 0000000000000004 0000000000000002 0000000000000006";
    const bytes = Uint8Array.fromHex(hex.replaceAll(" ", ""));
    expect(decodeRecords(bytes, 0, bytes.length)).toEqual([
      {
        kind: "entries",
        group: 3,
        entries: [
          { index: 7, term: 4, kind: EntryKind.Normal, data: new TextEncoder().encode("hi") },
          { index: 8, term: 4, kind: EntryKind.Normal, data: new TextEncoder().encode("!") },
        ],
      },
      { kind: "hardState", group: 3, hardState: { term: 4, vote: 2, commit: 6 } },
    ]);
  });
});
