/**
 * The value of a data row: what is stored under one key. Layout in `docs/formats/engine.md`.
 *
 *     version (1) | flags (1) | revision (8) | modified-at-ms (8) | [expires-at-ms (8)] |
 *     [encoding (varint) | logical size (varint)] | content type size (varint) |
 *     content type (UTF-8) | value
 *
 * The value stands last and reaches to the end of the row, so that a reader takes it as a view.
 */
import { EMPTY_BYTES, utf8, writeUint64 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision } from "#shared/ids.ts";
import { readStoredUint64, readVarint, varintSizeBytes, writeVarint } from "./varint.ts";

const VERSION = 1;
const FLAG_EXPIRES = 1;
const FLAG_ENCODED = 2;
const FLAGS_KNOWN = FLAG_EXPIRES | FLAG_ENCODED;
const FIXED_SIZE_BYTES = 18;

/** What apply needs to know of a stored row. */
export type StoredHead = {
  readonly revision: Revision;
  /** Log time from which on the key counts as absent, milliseconds; 0 for never. */
  readonly expiresAtMs: number;
  /** As stored. */
  readonly valueSizeBytes: number;
};

/** All of a stored row but its content type and its value; cheap to read. */
export type DataRowHead = StoredHead & {
  /** Log time of the last change, milliseconds. */
  readonly modifiedAtMs: number;
  /** What a gateway has made of the value; 0 for nothing. */
  readonly encoding: number;
  /** Size of what the client stored. */
  readonly logicalSizeBytes: number;
  readonly contentTypeStart: number;
  readonly valueStart: number;
};

export type DataRow = {
  readonly revision: Revision;
  readonly modifiedAtMs: number;
  /** 0 for never. */
  readonly expiresAtMs: number;
  readonly contentType: string;
  /** When decoded: a view of the row. */
  readonly value: Uint8Array;
  /** What a gateway has made of the value; 0 for nothing. */
  readonly encoding: number;
  /** Size of what the client stored. Without an encoding: the value's own, whatever it says here. */
  readonly logicalSizeBytes: number;
};

/** A fresh buffer with the whole row; the value is copied. */
export function encodeDataRow(row: DataRow): Uint8Array {
  const { contentType, expiresAtMs, value, encoding, logicalSizeBytes } = row;
  const type = typeBytes(contentType);
  const typeSizeBytes = type.length;
  const encodedStart = FIXED_SIZE_BYTES + (expiresAtMs === 0 ? 0 : 8);
  const encodedSizeBytes =
    encoding === 0 ? 0 : varintSizeBytes(encoding) + varintSizeBytes(logicalSizeBytes);
  const fixedSizeBytes = encodedStart + encodedSizeBytes;
  const valueStart = fixedSizeBytes + varintSizeBytes(typeSizeBytes) + typeSizeBytes;
  const bytes = Buffer.allocUnsafe(valueStart + value.length);
  bytes[0] = VERSION;
  bytes[1] = (expiresAtMs === 0 ? 0 : FLAG_EXPIRES) | (encoding === 0 ? 0 : FLAG_ENCODED);
  writeUint64(bytes, 2, row.revision);
  writeUint64(bytes, 10, row.modifiedAtMs);
  if (expiresAtMs !== 0) writeUint64(bytes, FIXED_SIZE_BYTES, expiresAtMs);
  if (encoding !== 0) {
    writeVarint(bytes, writeVarint(bytes, encodedStart, encoding), logicalSizeBytes);
  }
  const typeStart = writeVarint(bytes, fixedSizeBytes, typeSizeBytes);
  for (let i = 0; i < typeSizeBytes; i++) bytes[typeStart + i] = type[i]!;
  bytes.set(value, valueStart);
  return bytes;
}

/** The content type of the last row and its bytes: most rows have the type of the row before. */
let lastType = "";
let lastTypeBytes: Uint8Array = EMPTY_BYTES;

function typeBytes(contentType: string): Uint8Array {
  if (contentType !== lastType) {
    lastTypeBytes = utf8(contentType);
    lastType = contentType;
  }
  return lastTypeBytes;
}

/** @throws KvError DATA_CORRUPT when the bytes are no data row of a known version. */
export function decodeDataRowHead(bytes: Uint8Array): DataRowHead {
  const flags = bytes[1] ?? 0;
  if (bytes.length < FIXED_SIZE_BYTES || bytes[0] !== VERSION || (flags & ~FLAGS_KNOWN) !== 0) {
    throw new KvError("DATA_CORRUPT", "data row has an unknown form");
  }
  const expires = (flags & FLAG_EXPIRES) !== 0;
  let fixedSizeBytes = FIXED_SIZE_BYTES + (expires ? 8 : 0);
  let encoding = 0;
  let logicalSizeBytes = 0;
  if ((flags & FLAG_ENCODED) !== 0) {
    encoding = readVarint(bytes, fixedSizeBytes);
    fixedSizeBytes += varintSizeBytes(encoding);
    logicalSizeBytes = readVarint(bytes, fixedSizeBytes);
    fixedSizeBytes += varintSizeBytes(logicalSizeBytes);
    if (encoding === 0) throw new KvError("DATA_CORRUPT", "data row has an encoding that is none");
  }
  const typeSizeBytes = readVarint(bytes, fixedSizeBytes);
  const contentTypeStart = fixedSizeBytes + varintSizeBytes(typeSizeBytes);
  const valueStart = contentTypeStart + typeSizeBytes;
  if (valueStart > bytes.length) throw new KvError("DATA_CORRUPT", "data row is cut short");
  return {
    revision: readStoredUint64(bytes, 2) as Revision,
    modifiedAtMs: readStoredUint64(bytes, 10),
    expiresAtMs: expires ? readStoredUint64(bytes, FIXED_SIZE_BYTES) : 0,
    encoding,
    logicalSizeBytes: encoding === 0 ? bytes.length - valueStart : logicalSizeBytes,
    contentTypeStart,
    valueStart,
    valueSizeBytes: bytes.length - valueStart,
  };
}

/** @throws KvError DATA_CORRUPT when the bytes are no data row of a known version. */
export function decodeDataRow(bytes: Uint8Array): DataRow {
  const head = decodeDataRowHead(bytes);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, head.valueStart);
  return {
    revision: head.revision,
    modifiedAtMs: head.modifiedAtMs,
    expiresAtMs: head.expiresAtMs,
    contentType: buffer.toString("utf8", head.contentTypeStart),
    value: bytes.subarray(head.valueStart),
    encoding: head.encoding,
    logicalSizeBytes: head.logicalSizeBytes,
  };
}

/** Whether a key counts as absent at `nowMs`, although the sweep has not removed it yet. */
export function isExpired(row: { readonly expiresAtMs: number }, nowMs: number): boolean {
  return row.expiresAtMs !== 0 && row.expiresAtMs <= nowMs;
}
