/** Parsers of what a storage node reads from its disk: log, rows, snapshots. */
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { MutationStatus } from "#proto/codec/messages.ts";
import { equalBytes, readUint32, writeUint32 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import {
  type GroupId,
  type LogIndex,
  type Revision,
  Space,
  type TenantId,
  toGroupId,
  toLogIndex,
  toNodeId,
  toReplicaId,
  toTerm,
} from "#shared/ids.ts";
import type { Row } from "#storage-node/engine/engine.ts";
import {
  countersRowTenant,
  dataRowAddress,
  dataRowKey,
  expiryRowAddress,
  expiryRowKey,
  expiryRowTimeMs,
  journalRowKey,
  journalRowPosition,
  RowKind,
  rowHead,
} from "#storage-node/engine/layout.ts";
import { decodeCountersRow, encodeCountersRow } from "#storage-node/machine/counters.ts";
import { decodeDataRow, encodeDataRow } from "#storage-node/machine/data-row.ts";
import { decodeJournalRow, encodeJournalRow } from "#storage-node/machine/journal.ts";
import { decodeConfiguration, encodeConfiguration } from "#storage-node/raft/configuration.ts";
import { EntryKind } from "#storage-node/raft/types.ts";
import {
  decodeFrame,
  decodeRows,
  encodeFrame,
  encodeRows,
  rowBytesOf,
  rowSizeBytes,
  Verdict,
} from "#storage-node/snapshot/frames.ts";
import {
  FRAME_HEADER_SIZE_BYTES,
  SEGMENT_HEADER_SIZE_BYTES,
  sealFrame,
} from "#storage-node/wal/frame.ts";
import { GroupTable } from "#storage-node/wal/group-table.ts";
import {
  type BatchRecord,
  decodeRecords,
  encodeRecord,
  recordSizeBytes,
} from "#storage-node/wal/records.ts";
import { Replay } from "#storage-node/wal/replay.ts";
import { encodeHead } from "#storage-node/wal/segment.ts";
import {
  accepted,
  type FuzzTarget,
  holds,
  kvError,
  rangeError,
  samplesOf,
} from "#test/fuzz/target.ts";

const corrupt = kvError("DATA_CORRUPT");

const index = fc.maxSafeNat().map(toLogIndex);
const term = fc.maxSafeNat().map(toTerm);
const replica = fc.maxSafeNat().map(toReplicaId);
const group = fc.nat({ max: 0xffff }).map(toGroupId);
const start = fc.record({ index, term });
const hardState = fc.record({ term, vote: replica, commit: index });
const replicas = fc.array(replica, { maxLength: 4 });
const configuration = fc.record({
  ...{ voters: replicas, outgoing: replicas, learners: replicas, learnersNext: replicas },
  highestId: replica,
});
const entries = fc
  .array(fc.record({ data: fc.uint8Array({ maxLength: 30 }), term: fc.nat({ max: 2 }) }), {
    ...{ minLength: 1, maxLength: 5 },
  })
  .map((list) =>
    list.map(({ data, term: number }, at) => ({
      ...{ index: toLogIndex(1 + at), term: toTerm(number), kind: EntryKind.Normal, data },
    })),
  );

const record: fc.Arbitrary<BatchRecord> = fc.oneof(
  fc.record({ kind: fc.constant("entries" as const), group, entries }),
  fc.record({ kind: fc.constant("hardState" as const), group, hardState }),
  fc.record({ kind: fc.constant("truncateSuffix" as const), group, from: index }),
  fc.record({ kind: fc.constant("compactPrefix" as const), group, start }),
  fc.record({ kind: fc.constant("snapshotMeta" as const), group, replica, start, configuration }),
  fc.record({ kind: fc.constant("removeGroup" as const), group }),
  fc.record({
    ...{ kind: fc.constant("checkpoint" as const), group, replica, hardState },
    ...{ start, lastIndex: index, configuration },
  }),
);

function recordBytes(list: readonly BatchRecord[]): Uint8Array {
  const bytes = new Uint8Array(list.reduce((size, item) => size + recordSizeBytes(item), 0));
  let offset = 0;
  for (const item of list) offset = encodeRecord(bytes, offset, item);
  return bytes;
}

const walRecords: FuzzTarget = {
  name: "wal-records",
  samples: samplesOf(fc.array(record, { maxLength: 4 }), recordBytes),
  check: (input) => {
    const list = accepted(rangeError, () => decodeRecords(input, 0, input.length))?.value;
    if (list === undefined) return false;
    const once = recordBytes(list);
    holds(equalBytes(recordBytes(decodeRecords(once, 0, once.length)), once), "they come back");
    return true;
  },
};

const NODE = toNodeId(7);
const SALT = 0x1234_5678;
/** What of the header is not padding. */
const HEADER_SIZE_BYTES = 52;
const FILE_SIZE_BYTES = 16 * 1024;

/** A segment as an input: header without its padding, and the batches behind it. */
function segmentInput(batches: readonly (readonly BatchRecord[])[]): Uint8Array {
  const fields = { nodeId: NODE, number: 1, firstSequence: 1, sizeBytes: FILE_SIZE_BYTES };
  const head = encodeHead({ ...fields, previousCrc: 0, salt: SALT }, new GroupTable());
  const parts = [head.bytes.subarray(0, HEADER_SIZE_BYTES)];
  parts.push(head.bytes.subarray(SEGMENT_HEADER_SIZE_BYTES));
  let previousCrc = head.crc;
  batches.forEach((batch, at) => {
    const records = recordBytes(batch);
    const frame = new Uint8Array(FRAME_HEADER_SIZE_BYTES + records.length);
    frame.set(records, FRAME_HEADER_SIZE_BYTES);
    previousCrc = sealFrame(frame, SALT, { sequence: 2 + at, previousCrc, durable: 1 + at });
    parts.push(frame);
  });
  return Buffer.concat(parts);
}

/** The file that an input stands for. */
function segmentFile(input: Uint8Array): Uint8Array {
  const file = new Uint8Array(FILE_SIZE_BYTES);
  file.set(input.subarray(0, HEADER_SIZE_BYTES));
  const rest = input.subarray(HEADER_SIZE_BYTES);
  file.set(
    rest.subarray(0, FILE_SIZE_BYTES - SEGMENT_HEADER_SIZE_BYTES),
    SEGMENT_HEADER_SIZE_BYTES,
  );
  return file;
}

/** All checksums, lengths and sequences, so that what the records say is looked at. */
function resealedSegment(bytes: Uint8Array): Uint8Array {
  if (bytes.length < HEADER_SIZE_BYTES) return bytes;
  const copy = new Uint8Array(bytes);
  writeUint32(copy, 48, crc32(copy.subarray(0, 48)));
  const salt = readUint32(copy, 44);
  let previousCrc = 0;
  let sequence = 1;
  for (let at = HEADER_SIZE_BYTES; at + FRAME_HEADER_SIZE_BYTES <= copy.length; sequence++) {
    const length = readUint32(copy, at + 4);
    const whole = length >= FRAME_HEADER_SIZE_BYTES && at + length <= copy.length;
    const end = whole ? at + length : copy.length;
    const fields = { sequence, previousCrc, durable: sequence - 1 };
    previousCrc = sealFrame(copy.subarray(at, end), salt, fields);
    at = end;
  }
  return copy;
}

const GROUP = toGroupId(3);
const walBatch = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("entries" as const), group: fc.constant(GROUP), entries }),
    fc.record({ kind: fc.constant("hardState" as const), group: fc.constant(GROUP), hardState }),
    record,
  ),
  { maxLength: 3 },
);
const founding: BatchRecord = {
  ...{ kind: "snapshotMeta", group: GROUP, replica: toReplicaId(2) },
  start: { index: toLogIndex(0), term: toTerm(0) },
  configuration: {
    ...{ voters: [toReplicaId(2)], outgoing: [], learners: [], learnersNext: [] },
    highestId: toReplicaId(2),
  },
};

const walSegment: FuzzTarget = {
  name: "wal-segment",
  samples: (seed) => [
    segmentInput([]),
    segmentInput([[founding]]),
    ...samplesOf(fc.array(walBatch, { maxLength: 3 }), (batches) =>
      segmentInput([[founding], ...batches]),
    )(seed),
  ],
  reseal: resealedSegment,
  check: (input) => {
    const bytes = segmentFile(input);
    const replayed = accepted(kvError("DATA_CORRUPT", "INVALID_ARGUMENT"), () => {
      const replay = new Replay(NODE);
      const segment = { name: "s", bytes, firstSequence: 1, nextFirstSequence: undefined };
      const end = replay.add(segment);
      holds(end.position <= end.dirtyEnd && end.dirtyEnd <= bytes.length, "ends lie in order");
      holds(end.lastFrame >= SEGMENT_HEADER_SIZE_BYTES, "the last frame is behind the header");
      const groups = replay.finish();
      return { groups, sequence: replay.sequence };
    })?.value;
    if (replayed === undefined) return false;
    for (const { entries: list } of replayed.groups.values()) {
      list.forEach((entry, at) => {
        holds(at === 0 || entry.index === list[at - 1]!.index + 1, "entries without a hole");
      });
    }
    return true;
  },
};

const plainFrame = fc.oneof(
  fc.record({
    ...{
      kind: fc.constant("open" as const),
      transfer: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    },
    ...{ group, from: replica, to: replica, term, snapshotIndex: index, snapshotTerm: term },
    configuration,
  }),
  fc.record({
    ...{ kind: fc.constant("end" as const), chunks: fc.nat(), rows: fc.maxSafeNat(), term },
    hash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  }),
  fc.record({ kind: fc.constant("next" as const), sequence: fc.nat() }),
  fc.record({
    kind: fc.constant("over" as const),
    verdict: fc.constantFrom(...Object.values(Verdict)),
  }),
);
const rows = fc.array(
  fc.record({ key: fc.uint8Array({ maxLength: 12 }), value: fc.uint8Array({ maxLength: 30 }) }),
  { maxLength: 5 },
);
const rowsFrame = (list: readonly Row[]): Uint8Array =>
  encodeRows(
    5,
    list,
    list.reduce((size, row) => size + rowSizeBytes(row), 0),
  );

const snapshotFrame: FuzzTarget = {
  name: "snapshot-frame",
  samples: (seed) => [
    ...samplesOf(plainFrame, encodeFrame, 40)(seed),
    ...samplesOf(rows, rowsFrame, 40)(seed),
  ],
  reseal: (bytes) => {
    if (bytes.length < 9) return bytes;
    const copy = new Uint8Array(bytes);
    writeUint32(copy, 4, copy.length);
    writeUint32(copy, 0, crc32(copy.subarray(4)));
    return copy;
  },
  check: (input) => {
    const frame = accepted(rangeError, () => decodeFrame(input))?.value;
    if (frame === undefined) return false;
    if (frame.kind !== "rows") {
      const once = encodeFrame(frame);
      holds(equalBytes(encodeFrame(decodeFrame(once) as typeof frame), once), "it comes back");
      return true;
    }
    const list: Row[] = [];
    const read = accepted(rangeError, () => decodeRows(frame.bytes, (row) => list.push(row)));
    if (read === undefined) return false;
    holds(equalBytes(rowBytesOf(rowsFrame(list)), frame.bytes), "rows have one form");
    return true;
  },
};

const dataRow: FuzzTarget = {
  name: "data-row",
  samples: samplesOf(
    fc.record({
      revision: fc.maxSafeNat() as fc.Arbitrary<Revision>,
      modifiedAtMs: fc.maxSafeNat(),
      expiresAtMs: fc.oneof(fc.constant(0), fc.maxSafeNat()),
      contentType: fc.oneof(fc.string({ unit: "grapheme", maxLength: 9 }), fc.constant("a/b")),
      value: fc.uint8Array({ maxLength: 30 }),
      encoding: fc.oneof(fc.constant(0), fc.nat()),
      logicalSizeBytes: fc.nat(),
    }),
    encodeDataRow,
  ),
  check: (input) => {
    const row = accepted(corrupt, () => decodeDataRow(input))?.value;
    if (row === undefined) return false;
    const once = encodeDataRow(row);
    holds(equalBytes(encodeDataRow(decodeDataRow(once)), once), "it comes back");
    return true;
  },
};

const journalKey = journalRowKey(toGroupId(1), {
  revision: 9 as Revision,
  index: 9 as LogIndex,
});

const change = fc.record({
  kind: fc.constantFrom(...Object.values(ChangeKind)),
  revision: fc.constant(9 as Revision),
  previousRevision: fc.maxSafeNat() as fc.Arbitrary<Revision>,
  tenant: fc.nat() as unknown as fc.Arbitrary<TenantId>,
  space: fc.constant(Space.Kv as Space),
  key: fc.uint8Array({ maxLength: 12 }),
  valueSizeBytes: fc.nat(),
  expiresAtMs: fc.maxSafeNat(),
});

const journalRow: FuzzTarget = {
  name: "journal-row",
  samples: samplesOf(
    fc.record({
      ...{ term, logTimeMs: fc.nat(), dedupeUntilMs: fc.integer({ min: 2 ** 31, max: 2 ** 40 }) },
      changes: fc.array(change, { maxLength: 4 }),
      results: fc.array(
        fc.record({
          requestId: fc.uint8Array({ minLength: 16, maxLength: 16 }),
          deadlineMs: fc.maxSafeNat(),
          result: fc.record({
            kind: fc.constant("write" as const),
            applied: fc.boolean(),
            mutations: fc.array(
              fc.record({
                status: fc.constant(MutationStatus.Applied as MutationStatus),
                revision: fc.maxSafeNat() as fc.Arbitrary<Revision>,
                created: fc.boolean(),
              }),
              { maxLength: 3 },
            ),
          }),
        }),
        { maxLength: 3 },
      ),
    }),
    encodeJournalRow,
  ),
  check: (input) => {
    const row = accepted(corrupt, () => decodeJournalRow(journalKey, input))?.value;
    const anyKey = Buffer.concat([journalKey.subarray(0, 3), input.subarray(-16)]);
    accepted(corrupt, () => decodeJournalRow(anyKey, input));
    if (row === undefined) return false;
    holds(Number.isSafeInteger(row.dedupeUntilMs), "times are whole numbers");
    const once = encodeJournalRow(row);
    holds(equalBytes(encodeJournalRow(decodeJournalRow(journalKey, once)), once), "it comes back");
    return true;
  },
};

const countersRow: FuzzTarget = {
  name: "counters-row",
  samples: samplesOf(
    fc.record({ objects: fc.maxSafeNat(), bytes: fc.maxSafeNat() }),
    encodeCountersRow,
  ),
  check: (input) => {
    const counters = accepted(corrupt, () => decodeCountersRow(input))?.value;
    if (counters === undefined) return false;
    holds(equalBytes(encodeCountersRow(counters), input), "it comes back");
    return true;
  },
};

const address = fc.record({
  tenant: fc.nat() as unknown as fc.Arbitrary<TenantId>,
  space: fc.constant(Space.Kv as Space),
  key: fc.uint8Array({ maxLength: 12 }),
});

const rowKey: FuzzTarget = {
  name: "row-key",
  samples: samplesOf(fc.tuple(group, address, fc.maxSafeNat(), fc.nat({ max: 2 })), (parts) => {
    const [id, where, number, kind] = parts;
    if (kind === 0) return dataRowKey(id, where);
    if (kind === 1) return expiryRowKey(id, number, where);
    return journalRowKey(id, { revision: number as Revision, index: number as LogIndex });
  }),
  check: (input) => {
    if (input.length < 3) return false;
    const { kind, group: id } = rowHead(input);
    const again = accepted(rangeError, () => keyOfParts(kind, id, input))?.value;
    if (again === undefined) return false;
    holds(equalBytes(again, input), "a row's key has one form");
    return true;
  },
};

/** Takes a row's key apart as what its kind says, and puts it together again. */
function keyOfParts(kind: number, id: GroupId, input: Uint8Array): Uint8Array {
  switch (kind) {
    case RowKind.Data:
      return dataRowKey(id, dataRowAddress(input));
    case RowKind.Expiry:
      return expiryRowKey(id, expiryRowTimeMs(input), expiryRowAddress(input));
    case RowKind.Journal: {
      if (input.length !== 19) throw new RangeError("keys of journal rows have one length");
      return journalRowKey(id, journalRowPosition(input));
    }
    case RowKind.Counters: {
      const tenant = countersRowTenant(input);
      return tenant >= 0 ? input : new Uint8Array(0);
    }
    default:
      throw new RangeError("another kind of row");
  }
}

const members: FuzzTarget = {
  name: "configuration",
  samples: samplesOf(configuration, encodeConfiguration),
  check: (input) => {
    const decoded = accepted(rangeError, () => decodeConfiguration(input))?.value;
    if (decoded === undefined) return false;
    holds(equalBytes(encodeConfiguration(decoded), input), "a configuration has one form");
    return true;
  },
};

export const STORAGE_TARGETS: readonly FuzzTarget[] = [
  ...[walRecords, walSegment, snapshotFrame, dataRow, journalRow, countersRow, rowKey, members],
];
