/**
 * The two checksummed headers of the log: of a segment file and of a batch (its frame).
 *
 * Pure; all numbers are big-endian; layout in docs/formats/wal.md. The checksum is CRC-32 as in
 * gzip (ISO-HDLC), which Node has built in: it finds every single flipped bit and every burst of up
 * to 32 bits. A frame's checksum starts from its segment's random salt, so that neither remains of
 * another file nor a frame that a user stored as a value can pass for a frame of this segment.
 */
import { crc32 } from "node:zlib";
import { readUint32, readUint64, utf8, writeUint32, writeUint64 } from "#shared/bytes.ts";

export const WAL_FORMAT_VERSION = 3;

/** A block of its own: a torn write of the first batch cannot reach the header. */
export const SEGMENT_HEADER_SIZE_BYTES = 4096;
/** crc u32, length u32, sequence u64, crc of the previous batch u32, durable sequence u64 */
export const FRAME_HEADER_SIZE_BYTES = 28;

const MAGIC = utf8("minikvwl");
const SEGMENT_CRC_OFFSET = 48;
/** Number, first sequence and size in a segment's header. */
const UINT64_OFFSETS = [16, 24, 32] as const;
/** Of the upper half of 2^53 - 1. */
const UINT64_HIGH_MAX = 0x1f_ffff;

export type SegmentHeader = {
  readonly version: number;
  readonly nodeId: number;
  /** 1, 2, 3, … without holes over the life of a log. */
  readonly number: number;
  readonly firstSequence: number;
  /** Of the whole file, which never changes its size. */
  readonly sizeBytes: number;
  /** Checksum of the last batch of the segment before; 0 in segment 1. */
  readonly previousCrc: number;
  readonly salt: number;
};

/** Fills `SEGMENT_HEADER_SIZE_BYTES` of `target`, which are zeros. */
export function encodeSegmentHeader(target: Uint8Array, header: SegmentHeader): void {
  target.set(MAGIC, 0);
  writeUint32(target, 8, header.version);
  writeUint32(target, 12, header.nodeId);
  writeUint64(target, 16, header.number);
  writeUint64(target, 24, header.firstSequence);
  writeUint64(target, 32, header.sizeBytes);
  writeUint32(target, 40, header.previousCrc);
  writeUint32(target, 44, header.salt);
  writeUint32(target, SEGMENT_CRC_OFFSET, crc32(target.subarray(0, SEGMENT_CRC_OFFSET)));
}

/** The header at the beginning of a segment; undefined when it is damaged or none. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_SIZE_BYTES) return undefined;
  const crc = readUint32(bytes, SEGMENT_CRC_OFFSET);
  if (crc32(bytes.subarray(0, SEGMENT_CRC_OFFSET)) !== crc) return undefined;
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) return undefined;
  // Beyond 2^53 - 1, which no program of ours writes.
  if (UINT64_OFFSETS.some((offset) => readUint32(bytes, offset) > UINT64_HIGH_MAX))
    return undefined;
  return {
    version: readUint32(bytes, 8),
    nodeId: readUint32(bytes, 12),
    number: readUint64(bytes, 16),
    firstSequence: readUint64(bytes, 24),
    sizeBytes: readUint64(bytes, 32),
    previousCrc: readUint32(bytes, 40),
    salt: readUint32(bytes, 44),
  };
}

export type FrameFields = {
  readonly sequence: number;
  /** Checksum of the batch before this one. */
  readonly previousCrc: number;
  /** Last sequence that was synced when this frame was written. */
  readonly durable: number;
};

export type Frame = FrameFields & {
  readonly crc: number;
  /** Header and records. */
  readonly lengthBytes: number;
};

/**
 * Writes the header of the frame that fills `frame` (records from `FRAME_HEADER_SIZE_BYTES` on) and
 * answers its checksum.
 */
export function sealFrame(frame: Uint8Array, salt: number, fields: FrameFields): number {
  writeUint32(frame, 4, frame.length);
  writeUint64(frame, 8, fields.sequence);
  writeUint32(frame, 16, fields.previousCrc);
  writeUint64(frame, 20, fields.durable);
  const crc = crc32(frame.subarray(4), salt);
  writeUint32(frame, 0, crc);
  return crc;
}

/**
 * The frame at `offset`; undefined unless all of it is there and its checksum fits. Tells frames
 * with a sequence outside of [`sequenceMin`, `sequenceMax`] from noise before summing anything, so
 * that a search over many offsets stays cheap.
 */
export function frameAt(
  bytes: Uint8Array,
  offset: number,
  salt: number,
  sequenceMin: number,
  sequenceMax: number,
): Frame | undefined {
  if (offset + FRAME_HEADER_SIZE_BYTES > bytes.length) return undefined;
  const lengthBytes = readUint32(bytes, offset + 4);
  if (lengthBytes < FRAME_HEADER_SIZE_BYTES || offset + lengthBytes > bytes.length)
    return undefined;
  const sequence = looseUint64(bytes, offset + 8);
  if (sequence < sequenceMin || sequence > sequenceMax) return undefined;
  const crc = readUint32(bytes, offset);
  if (crc32(bytes.subarray(offset + 4, offset + lengthBytes), salt) !== crc) return undefined;
  return {
    crc,
    lengthBytes,
    sequence,
    previousCrc: readUint32(bytes, offset + 16),
    durable: looseUint64(bytes, offset + 20),
  };
}

/** As `readUint64`, but rounds instead of throwing: what is read may be noise. */
function looseUint64(bytes: Uint8Array, offset: number): number {
  return readUint32(bytes, offset) * 2 ** 32 + readUint32(bytes, offset + 4);
}
