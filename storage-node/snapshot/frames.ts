/**
 * The messages of a snapshot stream, and the records of a staged file; layout in
 * docs/formats/snapshot.md. Pure.
 *
 * Both are the same frames, byte for byte: what arrives is checked, and then stored as it came, so that
 * it can be checked again when it is read back. Decoding trusts nothing, and throws RangeError.
 */
import { crc32 } from "node:zlib";
import { assert, unreachable } from "#shared/assert.ts";
import { readUint32, readUint64, writeUint32, writeUint64 } from "#shared/bytes.ts";
import {
  type GroupId,
  type LogIndex,
  type ReplicaId,
  type Term,
  toGroupId,
  toLogIndex,
  toReplicaId,
  toTerm,
} from "#shared/ids.ts";
import { SNAPSHOT_FRAME_SIZE_BYTES_MAX } from "#shared/limits.ts";
import type { Row } from "#storage-node/engine/engine.ts";
import {
  configurationSizeBytes,
  decodeConfiguration,
  writeConfiguration,
} from "#storage-node/raft/configuration.ts";
import type { Configuration } from "#storage-node/raft/types.ts";

export const SNAPSHOT_FORMAT_VERSION = 1;
export const TRANSFER_ID_SIZE_BYTES = 16;
export const ROWS_HASH_SIZE_BYTES = 32;

/** How a transfer ended, as its receiver says. */
export const Verdict = {
  /** It is on disk, and the receiver's core was handed the message. */
  Received: 1,
  /** The receiver has this state, or a later one. */
  Unneeded: 2,
  /** No room now: too many at once, too little disk space, or an installation is under way. */
  Busy: 3,
  /** Not for this node, of a format that it does not know, or damaged. Begin again. */
  Refused: 4,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** What a transfer brings, and to whom. */
export type Opening = {
  /** Drawn for each view of the engine: chunks of different views never make one snapshot. */
  readonly transfer: Uint8Array;
  readonly group: GroupId;
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  /** In which the sender led when it took the view. */
  readonly term: Term;
  readonly snapshotIndex: LogIndex;
  readonly snapshotTerm: Term;
  readonly configuration: Configuration;
};

export type Frame =
  | ({ readonly kind: "open" } & Opening)
  /** `bytes` are encoded rows, see `decodeRows`. */
  | { readonly kind: "rows"; readonly sequence: number; readonly bytes: Uint8Array }
  | {
      readonly kind: "end";
      readonly chunks: number;
      readonly rows: number;
      /** SHA-256 over the bytes of all chunks. */
      readonly hash: Uint8Array;
      /** In which the sender leads now. */
      readonly term: Term;
    }
  /** Receiver: all chunks before this one are stored. Also the answer to the opening. */
  | { readonly kind: "next"; readonly sequence: number }
  /** Receiver: nothing more is taken. */
  | { readonly kind: "over"; readonly verdict: Verdict };

/** Values are on disk and on the wire: never renumber. */
const FRAME_KIND = {
  open: 1,
  rows: 2,
  end: 3,
  next: 4,
  over: 5,
} as const satisfies Record<Frame["kind"], number>;

/** crc u32, length u32, kind u8 */
export const FRAME_HEAD_SIZE_BYTES = 9;
/** version u16, group u16, from, to, term, snapshot index and term u64 */
const OPENING_SIZE_BYTES = 4 + TRANSFER_ID_SIZE_BYTES + 5 * 8;
const SEQUENCE_SIZE_BYTES = 4;
/** chunks u32, rows u64, term u64 */
const END_SIZE_BYTES = 20 + ROWS_HASH_SIZE_BYTES;
/** key length u16, value length u32 */
const ROW_HEAD_SIZE_BYTES = 6;
const ROW_KEY_SIZE_BYTES_MAX = 0xffff;

export const rowSizeBytes = ({ key, value }: Row): number =>
  ROW_HEAD_SIZE_BYTES + key.length + value.length;

/** A chunk of `rows`, whose sizes (`rowSizeBytes`) add up to `sizeBytes`. */
export function encodeRows(sequence: number, rows: readonly Row[], sizeBytes: number): Uint8Array {
  const bytes = newFrame(FRAME_KIND.rows, SEQUENCE_SIZE_BYTES + sizeBytes);
  writeUint32(bytes, FRAME_HEAD_SIZE_BYTES, sequence);
  let position = FRAME_HEAD_SIZE_BYTES + SEQUENCE_SIZE_BYTES;
  for (const { key, value } of rows) {
    assert(key.length <= ROW_KEY_SIZE_BYTES_MAX, "a row's key fits its length field");
    bytes[position] = key.length >>> 8;
    bytes[position + 1] = key.length;
    writeUint32(bytes, position + 2, value.length);
    position += ROW_HEAD_SIZE_BYTES;
    bytes.set(key, position);
    position += key.length;
    bytes.set(value, position);
    position += value.length;
  }
  return sealed(bytes, position);
}

/** The encoded rows of a chunk made by `encodeRows`: a view. */
export const rowBytesOf = (chunk: Uint8Array): Uint8Array =>
  chunk.subarray(FRAME_HEAD_SIZE_BYTES + SEQUENCE_SIZE_BYTES);

export function encodeFrame(frame: Exclude<Frame, { kind: "rows" }>): Uint8Array {
  switch (frame.kind) {
    case "open":
      return encodeOpening(frame);
    case "end": {
      const bytes = newFrame(FRAME_KIND.end, END_SIZE_BYTES);
      writeUint32(bytes, FRAME_HEAD_SIZE_BYTES, frame.chunks);
      writeUint64(bytes, FRAME_HEAD_SIZE_BYTES + 4, frame.rows);
      writeUint64(bytes, FRAME_HEAD_SIZE_BYTES + 12, frame.term);
      bytes.set(frame.hash, FRAME_HEAD_SIZE_BYTES + 20);
      return sealed(bytes, bytes.length);
    }
    case "next": {
      const bytes = newFrame(FRAME_KIND.next, SEQUENCE_SIZE_BYTES);
      writeUint32(bytes, FRAME_HEAD_SIZE_BYTES, frame.sequence);
      return sealed(bytes, bytes.length);
    }
    case "over": {
      const bytes = newFrame(FRAME_KIND.over, 1);
      bytes[FRAME_HEAD_SIZE_BYTES] = frame.verdict;
      return sealed(bytes, bytes.length);
    }
    default:
      return unreachable(frame);
  }
}

function encodeOpening(opening: Opening): Uint8Array {
  const sizeBytes = OPENING_SIZE_BYTES + configurationSizeBytes(opening.configuration);
  const bytes = newFrame(FRAME_KIND.open, sizeBytes);
  let position = FRAME_HEAD_SIZE_BYTES;
  bytes[position] = SNAPSHOT_FORMAT_VERSION >>> 8;
  bytes[position + 1] = SNAPSHOT_FORMAT_VERSION;
  bytes[position + 2] = opening.group >>> 8;
  bytes[position + 3] = opening.group;
  position += 4;
  assert(opening.transfer.length === TRANSFER_ID_SIZE_BYTES, "a transfer's id has 16 bytes");
  bytes.set(opening.transfer, position);
  position += TRANSFER_ID_SIZE_BYTES;
  const { from, to, term, snapshotIndex, snapshotTerm } = opening;
  for (const value of [from, to, term, snapshotIndex, snapshotTerm]) {
    writeUint64(bytes, position, value);
    position += 8;
  }
  return sealed(bytes, writeConfiguration(bytes, position, opening.configuration));
}

function newFrame(kind: number, bodySizeBytes: number): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(FRAME_HEAD_SIZE_BYTES + bodySizeBytes);
  writeUint32(bytes, 4, bytes.length);
  bytes[8] = kind;
  return bytes;
}

function sealed(bytes: Uint8Array, end: number): Uint8Array {
  assert(end === bytes.length, "a frame is as long as it was measured");
  writeUint32(bytes, 0, crc32(bytes.subarray(4)));
  return bytes;
}

/** Length of the frame whose head this is. @throws RangeError when no frame is as short or long */
export function frameSizeBytes(head: Uint8Array): number {
  const sizeBytes = readUint32(head, 4);
  if (sizeBytes < FRAME_HEAD_SIZE_BYTES || sizeBytes > SNAPSHOT_FRAME_SIZE_BYTES_MAX) {
    throw new RangeError(`no frame has ${sizeBytes} bytes`);
  }
  return sizeBytes;
}

/** Byte fields are views. @throws RangeError unless `bytes` are exactly one intact frame. */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.length < FRAME_HEAD_SIZE_BYTES) throw new RangeError("a frame ends in its head");
  if (frameSizeBytes(bytes) !== bytes.length) throw new RangeError("a frame has another length");
  if (crc32(bytes.subarray(4)) !== readUint32(bytes, 0)) {
    throw new RangeError("a frame's checksum does not fit");
  }
  const kind = bytes[8]!;
  const body = bytes.subarray(FRAME_HEAD_SIZE_BYTES);
  switch (kind) {
    case FRAME_KIND.open:
      return decodeOpening(body);
    case FRAME_KIND.rows:
      if (body.length < SEQUENCE_SIZE_BYTES) throw new RangeError("a chunk ends too early");
      return {
        kind: "rows",
        sequence: readUint32(body, 0),
        bytes: body.subarray(SEQUENCE_SIZE_BYTES),
      };
    case FRAME_KIND.end:
      requireSize(body, END_SIZE_BYTES);
      return {
        kind: "end",
        chunks: readUint32(body, 0),
        rows: readUint64(body, 4),
        term: toTerm(readUint64(body, 12)),
        hash: body.subarray(20),
      };
    case FRAME_KIND.next:
      requireSize(body, SEQUENCE_SIZE_BYTES);
      return { kind: "next", sequence: readUint32(body, 0) };
    case FRAME_KIND.over:
      requireSize(body, 1);
      return { kind: "over", verdict: decodeVerdict(body[0]!) };
    default:
      throw new RangeError(`unknown kind of frame: ${kind}`);
  }
}

function requireSize(body: Uint8Array, sizeBytes: number): void {
  if (body.length !== sizeBytes) throw new RangeError("a frame's body has another length");
}

function decodeVerdict(value: number): Verdict {
  const known = Object.values(Verdict).find((verdict) => verdict === value);
  if (known === undefined) throw new RangeError(`unknown verdict: ${value}`);
  return known;
}

function decodeOpening(body: Uint8Array): Frame {
  if (body.length < OPENING_SIZE_BYTES) throw new RangeError("an opening ends too early");
  const version = (body[0]! << 8) | body[1]!;
  if (version !== SNAPSHOT_FORMAT_VERSION) {
    throw new RangeError(`a snapshot of format ${version}`);
  }
  let position = 4;
  const transfer = new Uint8Array(body.subarray(position, position + TRANSFER_ID_SIZE_BYTES));
  position += TRANSFER_ID_SIZE_BYTES;
  const take = (): number => {
    position += 8;
    return readUint64(body, position - 8);
  };
  return {
    kind: "open",
    transfer,
    group: toGroupId((body[2]! << 8) | body[3]!),
    from: toReplicaId(take()),
    to: toReplicaId(take()),
    term: toTerm(take()),
    snapshotIndex: toLogIndex(take()),
    snapshotTerm: toTerm(take()),
    configuration: decodeConfiguration(body.subarray(position)),
  };
}

/** Hands the rows of a chunk to `take`, in order; views. @throws RangeError */
export function decodeRows(bytes: Uint8Array, take: (row: Row) => void): void {
  let position = 0;
  while (position < bytes.length) {
    const keyStart = position + ROW_HEAD_SIZE_BYTES;
    if (keyStart > bytes.length) throw new RangeError("a row ends in its head");
    const keyEnd = keyStart + ((bytes[position]! << 8) | bytes[position + 1]!);
    const end = keyEnd + readUint32(bytes, position + 2);
    if (end > bytes.length) throw new RangeError("a row ends too early");
    take({ key: bytes.subarray(keyStart, keyEnd), value: bytes.subarray(keyEnd, end) });
    position = end;
  }
}
