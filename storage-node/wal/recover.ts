/**
 * Reads a log directory back: the input and output around the judgement in replay.ts.
 *
 * Whatever survived is made durable before it is relied on: after a kill (not a power loss) the
 * last batch may be valid in the page cache and yet not be on disk. A sync alone does not help when
 * the process died of a failed sync: the kernel then counts those pages as clean (see wal.ts), and
 * would write nothing. So the last batch is written once more. A torn tail is overwritten with
 * zeros and synced before the log goes on, because its bytes could otherwise complete a later,
 * shorter batch into something that looks like more log.
 */
import { dirname } from "node:path";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { NodeId } from "#shared/ids.ts";
import {
  closeFile,
  datasync,
  fileSize,
  listDirectory,
  makeDirectory,
  openFile,
  readFully,
  syncDirectory,
  writeFully,
} from "./file-promises.ts";
import type { WalFile, WalFileSystem } from "./file-system.ts";
import type { GroupTable } from "./group-table.ts";
import { Replay, type SegmentEnd } from "./replay.ts";
import type { WalRecovery } from "./types.ts";

/** A segment as the log's bookkeeping sees it. */
export type SegmentFile = {
  readonly path: string;
  readonly number: number;
  readonly sizeBytes: number;
};

/** The segment that batches are written to. */
export type Tail = {
  readonly file: WalFile;
  readonly segment: SegmentFile;
  readonly salt: number;
  /** Where the next batch goes. */
  position: number;
};

export type RecoveredLog = {
  readonly recovery: WalRecovery;
  readonly table: GroupTable;
  /** Oldest first; the last one is the tail's. */
  readonly segments: readonly SegmentFile[];
  /** Undefined when there is no log yet. */
  readonly tail: Tail | undefined;
  /** Of the last batch; 0 before the first. */
  readonly sequence: number;
  readonly crc: number;
  /** The last frame is a seal: nothing would be lost with it. */
  readonly sealed: boolean;
};

const SEGMENT_NAME = /^([0-9a-f]{16})\.wal$/;

/** File name of the segment whose first batch has this sequence. Sorts in log order. */
export function segmentName(firstSequence: number): string {
  return `${firstSequence.toString(16).padStart(16, "0")}.wal`;
}

export const isSegmentName = (name: string): boolean => SEGMENT_NAME.test(name);

/**
 * Judges the whole log first, and changes nothing when it is refused.
 * @throws KvError as `Replay.add`; the file system's errors as they are
 */
export async function recoverLog(
  fs: WalFileSystem,
  directory: string,
  nodeId: NodeId,
): Promise<RecoveredLog> {
  await makeDirectory(fs, directory);
  const names = await listDirectory(fs, directory);
  const sequences = names
    .filter((name) => SEGMENT_NAME.test(name))
    .map((name) => Number.parseInt(name, 16))
    .sort((a, b) => a - b);
  const replay = new Replay(nodeId);
  const segments: SegmentFile[] = [];
  let file: WalFile | undefined;
  let end: SegmentEnd | undefined;
  try {
    let buffer: Uint8Array = EMPTY_BYTES;
    let bytes: Uint8Array = EMPTY_BYTES;
    for (const [i, firstSequence] of sequences.entries()) {
      if (file !== undefined) await closeFile(file);
      const path = `${directory}/${segmentName(firstSequence)}`;
      file = await openFile(fs, path, "existing");
      const sizeBytes = await fileSize(file);
      if (buffer.length < sizeBytes) buffer = new Uint8Array(sizeBytes);
      bytes = buffer.subarray(0, sizeBytes);
      await readFully(file, bytes, 0);
      const nextFirstSequence = sequences[i + 1];
      end = replay.add({ name: path, bytes, firstSequence, nextFirstSequence });
      segments.push({ path, number: end.header.number, sizeBytes });
    }
    const groups = replay.finish();
    if (file !== undefined && end !== undefined) await makeTailDurable(file, end, bytes);
    // The log's own name, and the newest segment's, may still be in memory only.
    await syncDirectory(fs, directory);
    await syncDirectory(fs, dirname(directory));
    return summary(replay, groups, segments, file, end);
  } catch (error) {
    if (file !== undefined) await closeFile(file);
    throw error;
  }
}

/**
 * Writes the last batch again, clears what a torn write left, and syncs: from here on all that was
 * replayed is durable. Every batch before the last one was synced with success before it was written.
 */
async function makeTailDurable(file: WalFile, end: SegmentEnd, bytes: Uint8Array): Promise<void> {
  const { lastFrame, position, dirtyEnd } = end;
  await writeFully(file, bytes.subarray(lastFrame, position), lastFrame);
  if (dirtyEnd > position) {
    await writeFully(file, new Uint8Array(dirtyEnd - position), position);
  }
  await datasync(file);
}

function summary(
  replay: Replay,
  groups: WalRecovery["groups"],
  segments: readonly SegmentFile[],
  file: WalFile | undefined,
  end: SegmentEnd | undefined,
): RecoveredLog {
  let tail: Tail | undefined;
  const segment = segments.at(-1);
  if (file !== undefined && end !== undefined && segment !== undefined) {
    tail = { file, segment, salt: end.header.salt, position: end.position };
  }
  return {
    recovery: {
      groups,
      created: tail === undefined,
      tornTail: end !== undefined && end.dirtyEnd > end.position,
      segments: segments.length,
      bytes: segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    },
    table: replay.table,
    segments,
    tail,
    sequence: replay.sequence,
    crc: replay.crc,
    sealed: replay.lastFrameIsEmpty,
  };
}
