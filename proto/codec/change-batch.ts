/**
 * Codec of `ChangeBatch` and `ChangeHeads` in `proto/minikv/v1/changes.proto`: on the Changes stream,
 * and by themselves over the bus.
 *
 * Wire-compatible with the generated code (property-tested both ways). See `wire.ts` for how it works.
 * Decoded byte fields are views of the message. What comes over the bus may come from anybody who can
 * publish there, so decoding holds all to the bounds of a change: ids, kinds, sizes.
 */
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { ChangeKind } from "#shared/change.ts";
import {
  type Revision,
  type Space,
  type TenantId,
  VSHARD_COUNT,
  type VshardId,
} from "#shared/ids.ts";
import {
  CHANGE_VALUE_SIZE_BYTES_MAX,
  DECODED_ELEMENTS_MAX,
  KEY_SIZE_BYTES_MAX,
  TRACE_CONTEXT_SIZE_BYTES,
  TRANSACTION_ID_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import type { ChangeBatch, ChangedValue, ChangeHeads, ChangeRecord } from "./change-messages.ts";
import { packedFieldSize, readOne, readPacked, writePacked } from "./packed.ts";
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  numberFieldSize,
  Reader,
  Sizes,
  stringFieldSize,
  VARINT,
  Writer,
} from "./wire.ts";

const BATCH_VSHARD = (1 << 3) | VARINT;
const BATCH_PREVIOUS = (2 << 3) | VARINT;
const BATCH_CHANGES = (3 << 3) | LENGTH_DELIMITED;
const RECORD_KIND = (1 << 3) | VARINT;
const RECORD_TENANT = (2 << 3) | VARINT;
const RECORD_SPACE = (3 << 3) | VARINT;
const RECORD_KEY = (4 << 3) | LENGTH_DELIMITED;
const RECORD_PREVIOUS = (5 << 3) | VARINT;
const RECORD_VALUE_SIZE = (6 << 3) | VARINT;
const RECORD_EXPIRES_AT = (7 << 3) | VARINT;
const RECORD_TIME = (8 << 3) | VARINT;
const RECORD_TRANSACTION = (9 << 3) | LENGTH_DELIMITED;
const RECORD_VALUE = (10 << 3) | LENGTH_DELIMITED;
const RECORD_TRACE = (11 << 3) | LENGTH_DELIMITED;
const VALUE_VALUE = (1 << 3) | LENGTH_DELIMITED;
const VALUE_ENCODING = (2 << 3) | VARINT;
const VALUE_CONTENT_TYPE = (3 << 3) | LENGTH_DELIMITED;
const HEADS_NODE = (1 << 3) | VARINT;
const HEADS_VSHARDS = (2 << 3) | LENGTH_DELIMITED;
const HEADS_VSHARDS_ONE = (2 << 3) | VARINT;
const HEADS_REVISIONS = (3 << 3) | LENGTH_DELIMITED;
const HEADS_REVISIONS_ONE = (3 << 3) | VARINT;

// Encoding is synchronous and never re-entered: one list of sizes serves all calls.
const sizes = new Sizes();

/** The buffer belongs to the caller. */
export function encodeChangeBatch(batch: ChangeBatch): Uint8Array {
  sizes.clear();
  const writer = new Writer(changeBatchSize(batch, sizes), sizes);
  writeChangeBatch(batch, writer);
  return writer.finish();
}

/**
 * Byte fields of the result are views of `bytes`.
 *
 * @throws KvError INVALID_ARGUMENT when malformed
 */
export function decodeChangeBatch(bytes: Uint8Array): ChangeBatch {
  return readBatchFields(new Reader(bytes, "INVALID_ARGUMENT", DECODED_ELEMENTS_MAX));
}

/** The buffer belongs to the caller. */
export function encodeChangeHeads({ nodeId, heads }: ChangeHeads): Uint8Array {
  const vshards = heads.map(({ vshard }) => vshard);
  const revisions = heads.map(({ revision }) => revision);
  sizes.clear();
  const size = numberFieldSize(nodeId) + packedFieldSize(vshards) + packedFieldSize(revisions);
  const writer = new Writer(size, sizes);
  writer.numberField(HEADS_NODE, nodeId);
  writePacked(HEADS_VSHARDS, vshards, writer);
  writePacked(HEADS_REVISIONS, revisions, writer);
  return writer.finish();
}

/** @throws KvError INVALID_ARGUMENT when malformed */
export function decodeChangeHeads(bytes: Uint8Array): ChangeHeads {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", 2 * VSHARD_COUNT);
  let nodeId = 0;
  const vshards: number[] = [];
  const revisions: number[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === HEADS_NODE) nodeId = reader.uint32();
    else if (tag === HEADS_VSHARDS) readPacked(reader, vshards);
    else if (tag === HEADS_VSHARDS_ONE) readOne(reader, vshards);
    else if (tag === HEADS_REVISIONS) readPacked(reader, revisions);
    else if (tag === HEADS_REVISIONS_ONE) readOne(reader, revisions);
    else reader.skip(tag);
  }
  if (vshards.length !== revisions.length) reader.fail("not one revision for each vshard");
  const heads = vshards.map((vshard, index) => ({
    vshard: checkedVshard(vshard, reader),
    revision: revisions[index] as Revision,
  }));
  return { nodeId, heads };
}

/** Content size of a batch; its embedded sizes go to `target`. */
export function changeBatchSize(batch: ChangeBatch, target: Sizes): number {
  let size = numberFieldSize(batch.vshard) + numberFieldSize(batch.previousRevision);
  for (const change of batch.changes) {
    const slot = target.reserve();
    size += target.fill(slot, recordSize(change, target));
  }
  return size;
}

export function writeChangeBatch(batch: ChangeBatch, writer: Writer): void {
  writer.numberField(BATCH_VSHARD, batch.vshard);
  writer.numberField(BATCH_PREVIOUS, batch.previousRevision);
  for (const change of batch.changes) {
    writer.messageField(BATCH_CHANGES);
    writeRecord(change, writer);
  }
}

export function readChangeBatch(reader: Reader): ChangeBatch {
  reader.countElement();
  const outerEnd = reader.enter();
  const batch = readBatchFields(reader);
  reader.leave(outerEnd);
  return batch;
}

export function checkedVshard(value: number, reader: Reader): VshardId {
  if (value >= VSHARD_COUNT) reader.fail("unknown vshard");
  return value as VshardId;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function readBatchFields(reader: Reader): ChangeBatch {
  let vshard = 0;
  let previousRevision = 0;
  const changes: Writable<ChangeRecord>[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === BATCH_VSHARD) vshard = reader.uint32();
    else if (tag === BATCH_PREVIOUS) previousRevision = reader.uint64();
    else if (tag === BATCH_CHANGES) changes.push(readRecord(reader));
    else reader.skip(tag);
  }
  if (previousRevision + changes.length > Number.MAX_SAFE_INTEGER) {
    reader.fail("revision is beyond 2^53 - 1");
  }
  // Fields may come in any order, so only now is it known where the revisions begin.
  for (let i = 0; i < changes.length; i++) {
    changes[i]!.revision = (previousRevision + 1 + i) as Revision;
  }
  return {
    vshard: checkedVshard(vshard, reader),
    previousRevision: previousRevision as Revision,
    changes,
  };
}

function recordSize(change: ChangeRecord, target: Sizes): number {
  const { value } = change;
  const size =
    numberFieldSize(change.kind) +
    numberFieldSize(change.tenant) +
    numberFieldSize(change.space) +
    bytesFieldSize(change.key) +
    numberFieldSize(change.previousRevision) +
    numberFieldSize(change.valueSizeBytes) +
    numberFieldSize(change.expiresAtMs) +
    numberFieldSize(change.timeMs) +
    bytesFieldSize(change.transactionId) +
    bytesFieldSize(change.traceContext);
  if (value === undefined) return size;
  return size + target.fill(target.reserve(), valueSize(value));
}

function valueSize({ value, encoding, contentType }: ChangedValue): number {
  return bytesFieldSize(value) + numberFieldSize(encoding) + stringFieldSize(contentType);
}

function writeRecord(change: ChangeRecord, writer: Writer): void {
  const { value } = change;
  writer.numberField(RECORD_KIND, change.kind);
  writer.numberField(RECORD_TENANT, change.tenant);
  writer.numberField(RECORD_SPACE, change.space);
  writer.bytesField(RECORD_KEY, change.key);
  writer.numberField(RECORD_PREVIOUS, change.previousRevision);
  writer.numberField(RECORD_VALUE_SIZE, change.valueSizeBytes);
  writer.numberField(RECORD_EXPIRES_AT, change.expiresAtMs);
  writer.numberField(RECORD_TIME, change.timeMs);
  writer.bytesField(RECORD_TRANSACTION, change.transactionId);
  if (value !== undefined) {
    writer.messageField(RECORD_VALUE);
    writer.bytesField(VALUE_VALUE, value.value);
    writer.numberField(VALUE_ENCODING, value.encoding);
    writer.stringField(VALUE_CONTENT_TYPE, value.contentType);
  }
  writer.bytesField(RECORD_TRACE, change.traceContext);
}

function readRecord(reader: Reader): Writable<ChangeRecord> {
  reader.countElement();
  const outerEnd = reader.enter();
  const record: Writable<ChangeRecord> = {
    kind: 0 as ChangeKind,
    revision: 0 as Revision,
    previousRevision: 0 as Revision,
    tenant: 0 as TenantId,
    space: 0 as Space,
    key: EMPTY_BYTES,
    valueSizeBytes: 0,
    expiresAtMs: 0,
    timeMs: 0,
    transactionId: EMPTY_BYTES,
    value: undefined,
    traceContext: EMPTY_BYTES,
  };
  while (reader.more) {
    const tag = reader.tag();
    if (tag === RECORD_KIND) record.kind = reader.uint32() as ChangeKind;
    else if (tag === RECORD_TENANT) record.tenant = reader.uint32() as TenantId;
    else if (tag === RECORD_SPACE) record.space = reader.uint32() as Space;
    else if (tag === RECORD_KEY) record.key = reader.bytes();
    else if (tag === RECORD_PREVIOUS) record.previousRevision = reader.uint64() as Revision;
    else if (tag === RECORD_VALUE_SIZE) record.valueSizeBytes = reader.uint64();
    else if (tag === RECORD_EXPIRES_AT) record.expiresAtMs = reader.uint64();
    else if (tag === RECORD_TIME) record.timeMs = reader.uint64();
    else if (tag === RECORD_TRANSACTION) record.transactionId = reader.bytes();
    else if (tag === RECORD_VALUE) record.value = readValue(reader);
    else if (tag === RECORD_TRACE) record.traceContext = reader.bytes();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  checkRecord(record, reader);
  return record;
}

/** The last moment that a `Date` can be (ECMA-262, 21.4.1.1). */
const DATE_MS_MAX = 8_640_000_000_000_000;

function checkRecord(record: ChangeRecord, reader: Reader): void {
  const { kind, key, transactionId, traceContext, timeMs } = record;
  // A kind of a later version must not be taken for another: the reader would show what never happened.
  if (kind < 1 || kind > 3) reader.fail("unknown kind of a change");
  if (key.length > KEY_SIZE_BYTES_MAX) reader.fail("key is too long");
  // Whoever makes a date of it throws behind that, in the midst of what all watches are told.
  if (timeMs > DATE_MS_MAX) reader.fail("time of a change is no date");
  if (transactionId.length > TRANSACTION_ID_SIZE_BYTES_MAX)
    reader.fail("transaction id is too long");
  if (traceContext.length !== 0 && traceContext.length !== TRACE_CONTEXT_SIZE_BYTES) {
    reader.fail("trace context of another size");
  }
}

function readValue(reader: Reader): ChangedValue {
  const outerEnd = reader.enter();
  let value = EMPTY_BYTES as Uint8Array;
  let encoding = 0;
  let contentType = "";
  while (reader.more) {
    const tag = reader.tag();
    if (tag === VALUE_VALUE) value = reader.bytes();
    else if (tag === VALUE_ENCODING) encoding = reader.uint32();
    else if (tag === VALUE_CONTENT_TYPE) contentType = reader.string();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  if (value.length > CHANGE_VALUE_SIZE_BYTES_MAX) reader.fail("value is too large for a change");
  return { value, encoding, contentType };
}
