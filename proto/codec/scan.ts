/**
 * Codec of `Scan` and `ScanResult` in `proto/minikv/v1/storage.proto`: one step through a range of
 * keys, and what it found. See `wire.ts` for how it works. Decoded byte fields are views.
 */
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Revision, Space, TenantId } from "#shared/ids.ts";
import type { Scan, ScanResult, ScanRow } from "./messages.ts";
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  numberFieldSize,
  type Reader,
  type Sizes,
  stringFieldSize,
  VARINT,
  type Writer,
} from "./wire.ts";

const SCAN_TENANT = (1 << 3) | VARINT;
const SCAN_SPACE = (2 << 3) | VARINT;
const SCAN_START = (3 << 3) | LENGTH_DELIMITED;
const SCAN_END = (4 << 3) | LENGTH_DELIMITED;
const SCAN_REVERSE = (5 << 3) | VARINT;
const SCAN_ROWS_MAX = (6 << 3) | VARINT;
const SCAN_VALUE_BYTES_MAX = (7 << 3) | VARINT;
const SCAN_KEYS_ONLY = (8 << 3) | VARINT;
const SCAN_COUNT_ONLY = (9 << 3) | VARINT;
const SCAN_STALENESS = (10 << 3) | VARINT;
const RESULT_ROWS = (1 << 3) | LENGTH_DELIMITED;
const RESULT_COUNT = (2 << 3) | VARINT;
const RESULT_NEXT = (3 << 3) | LENGTH_DELIMITED;
const ROW_KEY = (1 << 3) | LENGTH_DELIMITED;
const ROW_REVISION = (2 << 3) | VARINT;
const ROW_VALUE = (3 << 3) | LENGTH_DELIMITED;
const ROW_VALUE_OMITTED = (4 << 3) | VARINT;
const ROW_CONTENT_TYPE = (5 << 3) | LENGTH_DELIMITED;
const ROW_EXPIRES_AT = (6 << 3) | VARINT;
const ROW_MODIFIED_AT = (7 << 3) | VARINT;
const ROW_VALUE_SIZE = (8 << 3) | VARINT;
const ROW_ENCODING = (9 << 3) | VARINT;

export function scanSize(scan: Scan): number {
  return (
    numberFieldSize(scan.tenant) +
    numberFieldSize(scan.space) +
    bytesFieldSize(scan.start) +
    bytesFieldSize(scan.end) +
    (scan.reverse ? 2 : 0) +
    numberFieldSize(scan.rowsMax) +
    numberFieldSize(scan.valueBytesMax) +
    (scan.keysOnly ? 2 : 0) +
    (scan.countOnly ? 2 : 0) +
    numberFieldSize(scan.maxStalenessMs)
  );
}

export function writeScan(scan: Scan, writer: Writer): void {
  writer.numberField(SCAN_TENANT, scan.tenant);
  writer.numberField(SCAN_SPACE, scan.space);
  writer.bytesField(SCAN_START, scan.start);
  writer.bytesField(SCAN_END, scan.end);
  writer.boolField(SCAN_REVERSE, scan.reverse);
  writer.numberField(SCAN_ROWS_MAX, scan.rowsMax);
  writer.numberField(SCAN_VALUE_BYTES_MAX, scan.valueBytesMax);
  writer.boolField(SCAN_KEYS_ONLY, scan.keysOnly);
  writer.boolField(SCAN_COUNT_ONLY, scan.countOnly);
  writer.numberField(SCAN_STALENESS, scan.maxStalenessMs);
}

export function readScan(reader: Reader): Scan {
  const outerEnd = reader.enter();
  let tenant = 0;
  let space = 0;
  let start = EMPTY_BYTES as Uint8Array;
  let end = EMPTY_BYTES as Uint8Array;
  let reverse = false;
  let rowsMax = 0;
  let valueBytesMax = 0;
  let keysOnly = false;
  let countOnly = false;
  let maxStalenessMs = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === SCAN_TENANT) tenant = reader.uint32();
    else if (tag === SCAN_SPACE) space = reader.uint32();
    else if (tag === SCAN_START) start = reader.bytes();
    else if (tag === SCAN_END) end = reader.bytes();
    else if (tag === SCAN_REVERSE) reverse = reader.bool();
    else if (tag === SCAN_ROWS_MAX) rowsMax = reader.uint32();
    else if (tag === SCAN_VALUE_BYTES_MAX) valueBytesMax = reader.uint32();
    else if (tag === SCAN_KEYS_ONLY) keysOnly = reader.bool();
    else if (tag === SCAN_COUNT_ONLY) countOnly = reader.bool();
    else if (tag === SCAN_STALENESS) maxStalenessMs = reader.uint64();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    kind: "scan",
    tenant: tenant as TenantId,
    space: space as Space,
    start,
    end,
    reverse,
    rowsMax,
    valueBytesMax,
    keysOnly,
    countOnly,
    maxStalenessMs,
  };
}

/** Content size of a result; its embedded sizes go to `target`. */
export function scanResultSize(result: ScanResult, target: Sizes): number {
  let size = numberFieldSize(result.count) + bytesFieldSize(result.next);
  for (const row of result.rows) size += target.fill(target.reserve(), rowSize(row));
  return size;
}

export function writeScanResult(result: ScanResult, writer: Writer): void {
  for (const row of result.rows) {
    writer.messageField(RESULT_ROWS);
    writeRow(row, writer);
  }
  writer.numberField(RESULT_COUNT, result.count);
  writer.bytesField(RESULT_NEXT, result.next);
}

export function readScanResult(reader: Reader): ScanResult {
  const outerEnd = reader.enter();
  const rows: ScanRow[] = [];
  let count = 0;
  let next = EMPTY_BYTES as Uint8Array;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === RESULT_ROWS) rows.push(readRow(reader));
    else if (tag === RESULT_COUNT) count = reader.uint64();
    else if (tag === RESULT_NEXT) next = reader.bytes();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return { kind: "scan", rows, count, next };
}

function rowSize(row: ScanRow): number {
  return (
    bytesFieldSize(row.key) +
    numberFieldSize(row.revision) +
    bytesFieldSize(row.value) +
    (row.valueOmitted ? 2 : 0) +
    stringFieldSize(row.contentType) +
    numberFieldSize(row.expiresAtMs) +
    numberFieldSize(row.modifiedAtMs) +
    numberFieldSize(row.valueSizeBytes) +
    numberFieldSize(row.encoding ?? 0)
  );
}

function writeRow(row: ScanRow, writer: Writer): void {
  writer.bytesField(ROW_KEY, row.key);
  writer.numberField(ROW_REVISION, row.revision);
  writer.bytesField(ROW_VALUE, row.value);
  writer.boolField(ROW_VALUE_OMITTED, row.valueOmitted);
  writer.stringField(ROW_CONTENT_TYPE, row.contentType);
  writer.numberField(ROW_EXPIRES_AT, row.expiresAtMs);
  writer.numberField(ROW_MODIFIED_AT, row.modifiedAtMs);
  writer.numberField(ROW_VALUE_SIZE, row.valueSizeBytes);
  writer.numberField(ROW_ENCODING, row.encoding ?? 0);
}

function readRow(reader: Reader): ScanRow {
  reader.countElement();
  const outerEnd = reader.enter();
  let key = EMPTY_BYTES as Uint8Array;
  let revision = 0;
  let value = EMPTY_BYTES as Uint8Array;
  let valueOmitted = false;
  let contentType = "";
  let expiresAtMs = 0;
  let modifiedAtMs = 0;
  let valueSizeBytes = 0;
  let encoding = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === ROW_KEY) key = reader.bytes();
    else if (tag === ROW_REVISION) revision = reader.uint64();
    else if (tag === ROW_VALUE) value = reader.bytes();
    else if (tag === ROW_VALUE_OMITTED) valueOmitted = reader.bool();
    else if (tag === ROW_CONTENT_TYPE) contentType = reader.string();
    else if (tag === ROW_EXPIRES_AT) expiresAtMs = reader.uint64();
    else if (tag === ROW_MODIFIED_AT) modifiedAtMs = reader.uint64();
    else if (tag === ROW_VALUE_SIZE) valueSizeBytes = reader.uint64();
    else if (tag === ROW_ENCODING) encoding = reader.uint32();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    key,
    revision: revision as Revision,
    value,
    valueOmitted,
    contentType,
    expiresAtMs,
    modifiedAtMs,
    valueSizeBytes,
    encoding,
  };
}
