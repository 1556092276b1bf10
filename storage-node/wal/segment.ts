/**
 * The birth of a segment: head and first batch written and synced, then the file gets its name.
 *
 * The order is the safety argument of rotation (see wal.ts): under its real name a segment is never
 * seen without an intact, durable head.
 */
import { WAL_FIRST_SEGMENT_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { datasync, renameFile, syncDirectory, writeFully } from "./file-promises.ts";
import type { WalFileSystem } from "./file-system.ts";
import {
  encodeSegmentHeader,
  FRAME_HEADER_SIZE_BYTES,
  SEGMENT_HEADER_SIZE_BYTES,
  type SegmentHeader,
  sealFrame,
  WAL_FORMAT_VERSION,
} from "./frame.ts";
import type { GroupTable } from "./group-table.ts";
import type { PreparedFile } from "./reserve.ts";

/** Files whose size is a multiple of the page size need no partial page at their end. */
const SIZE_UNIT_BYTES = 4096;

export type Head = {
  /** To be written at offset 0. */
  readonly bytes: Uint8Array;
  /** Of the checkpoint batch. */
  readonly crc: number;
};

/** Header and checkpoint batch of a new segment. All batches before it are durable. */
export function encodeHead(fields: Omit<SegmentHeader, "version">, table: GroupTable): Head {
  const header = { version: WAL_FORMAT_VERSION, ...fields };
  const bytes = new Uint8Array(headSizeBytes(table));
  encodeSegmentHeader(bytes, header);
  table.encodeCheckpoint(bytes, SEGMENT_HEADER_SIZE_BYTES + FRAME_HEADER_SIZE_BYTES);
  const crc = sealFrame(bytes.subarray(SEGMENT_HEADER_SIZE_BYTES), header.salt, {
    sequence: header.firstSequence,
    previousCrc: header.previousCrc,
    durable: header.firstSequence - 1,
  });
  return { bytes, crc };
}

export function headSizeBytes(table: GroupTable): number {
  return SEGMENT_HEADER_SIZE_BYTES + FRAME_HEADER_SIZE_BYTES + table.checkpointSizeBytes;
}

/** Least size of a segment that takes the head, a batch of `batchSizeBytes`, and a seal. */
export function segmentSizeFor(table: GroupTable, batchSizeBytes: number): number {
  const used = headSizeBytes(table) + batchSizeBytes + FRAME_HEADER_SIZE_BYTES;
  return Math.ceil(used / SIZE_UNIT_BYTES) * SIZE_UNIT_BYTES;
}

/** Size of a new log's first segment. */
export const firstSegmentSizeBytes = (segmentSizeBytes: number): number =>
  Math.min(segmentSizeBytes, WAL_FIRST_SEGMENT_SIZE_BYTES_MAX);

export type Names = {
  readonly directory: string;
  readonly from: string;
  readonly to: string;
};

/** Writes `parts` from offset 0 on, syncs, names the file, and makes the name durable. */
export async function publishSegment(
  fs: WalFileSystem,
  prepared: PreparedFile,
  parts: readonly Uint8Array[],
  names: Names,
): Promise<void> {
  let position = 0;
  for (const part of parts) {
    await writeFully(prepared.file, part, position);
    position += part.length;
  }
  await datasync(prepared.file);
  await renameFile(fs, names.from, names.to);
  await syncDirectory(fs, names.directory);
}
