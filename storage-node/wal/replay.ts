/**
 * Recovery's judgement, pure: segments in, groups out, and a verdict on where the log ends.
 *
 * Batches are written one after the other: batch N+1 is not written before N is synced. So after a
 * crash at most the last batch can be incomplete, and nothing intact can lie behind it. Hence:
 *
 * - a bad batch with nothing intact behind it is a **torn tail**: it was never acknowledged; cut it;
 * - a bad batch with an intact frame behind it that calls it durable is **corruption**: what was
 *   acknowledged is damaged, and dropping it would forget votes and committed entries;
 * - so is an intact frame that has the missing sequence and another predecessor than the last good
 *   batch: that one is a seal whose place in the log the predecessor had taken;
 * - so is everything else that no crash leaves behind: a damaged header, a missing segment, a file
 *   of another size, a bad batch in a segment that has a successor (a segment gets its successor
 *   only when its last batch is durable), a first batch that is bad (it is synced before the file
 *   gets its name), and records that do not continue their group's log.
 *
 * Damage to the very last acknowledged batch is told from a torn write by the seal, a small frame
 * that is written behind it once the log is idle (see wal.ts). Under load, in the milliseconds
 * between a sync and the next frame, there is no seal, and such damage looks like a torn write.
 */
import { AssertionError } from "#shared/assert.ts";
import { EMPTY_BYTES, equalBytes } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import type { GroupId, NodeId } from "#shared/ids.ts";
import type { Entry } from "#storage-node/raft/types.ts";
import {
  decodeSegmentHeader,
  FRAME_HEADER_SIZE_BYTES,
  type Frame,
  frameAt,
  SEGMENT_HEADER_SIZE_BYTES,
  type SegmentHeader,
  WAL_FORMAT_VERSION,
} from "./frame.ts";
import { GroupTable } from "./group-table.ts";
import { type BatchRecord, decodeRecords } from "./records.ts";
import type { RecoveredGroup, WalRecord } from "./types.ts";

/** Where the valid part of a segment ends. */
export type SegmentEnd = {
  readonly header: SegmentHeader;
  /** Offset of the last valid frame. */
  readonly lastFrame: number;
  /** Offset behind the last valid frame. */
  readonly position: number;
  /** Offset behind the last byte that is not zero; above `position` only after a torn write. */
  readonly dirtyEnd: number;
};

export type SegmentInput = {
  /** Named in errors. */
  readonly name: string;
  /** The whole file. Reusable after `add`: what outlives the call is copied. */
  readonly bytes: Uint8Array;
  readonly firstSequence: number;
  /** First sequence of the segment behind it; undefined for the last one. */
  readonly nextFirstSequence: number | undefined;
};

export class Replay {
  readonly table = new GroupTable();
  readonly #nodeId: NodeId;
  readonly #entries = new Map<GroupId, Entry[]>();
  /** Groups with entries that are views of the segment being read. */
  readonly #touched = new Set<GroupId>();
  /** Of the segment read first; 0 before. */
  #oldestNumber = 0;
  #segmentNumber = 0;
  #sequence = 0;
  #crc = 0;
  #lastFrameIsEmpty = false;

  constructor(nodeId: NodeId) {
    this.#nodeId = nodeId;
  }

  /** Sequence of the last valid batch. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Checksum of the last valid batch. */
  get crc(): number {
    return this.#crc;
  }

  /** The last valid frame holds no records: losing it would lose nothing. */
  get lastFrameIsEmpty(): boolean {
    return this.#lastFrameIsEmpty;
  }

  /**
   * Replays the next segment, oldest first.
   * @throws KvError DATA_CORRUPT; INVALID_ARGUMENT for another node's or another format's log.
   */
  add(input: SegmentInput): SegmentEnd {
    const header = this.#checkHeader(input);
    const { bytes, nextFirstSequence } = input;
    const sequenceEnd = nextFirstSequence ?? Number.MAX_SAFE_INTEGER;
    const sequenceMax = header.firstSequence + bytes.length / FRAME_HEADER_SIZE_BYTES;
    let position = SEGMENT_HEADER_SIZE_BYTES;
    let lastFrame = position;
    // A frame from `nextFirstSequence` on is a seal whose place in the log the next segment's first
    // batch has taken.
    while (this.#sequence + 1 < sequenceEnd) {
      const frame = frameAt(bytes, position, header.salt, 0, sequenceMax);
      if (frame === undefined) break;
      this.#replayFrame(input, header, frame, position);
      lastFrame = position;
      position += frame.lengthBytes;
    }
    this.#keepEntries(bytes);
    if (nextFirstSequence === undefined) {
      return { header, lastFrame, position, dirtyEnd: this.#checkTail(input, header, position) };
    }
    if (this.#sequence + 1 !== nextFirstSequence) {
      throw corrupt(
        input.name,
        position,
        `batch ${this.#sequence + 1} is damaged or missing, and a later segment follows`,
      );
    }
    return { header, lastFrame, position, dirtyEnd: position };
  }

  /** The groups found. @throws KvError DATA_CORRUPT when entries are missing. */
  finish(): ReadonlyMap<GroupId, RecoveredGroup> {
    const incomplete = this.table.groupWithMissingEntries();
    if (incomplete !== undefined) {
      throw new KvError(
        "DATA_CORRUPT",
        `write-ahead log damaged: entries of group ${incomplete} are missing; a segment that was ` +
          `still needed is gone. ${REMEDY}`,
      );
    }
    const groups = new Map<GroupId, RecoveredGroup>();
    for (const [id, { replica, hardState, start, configuration }] of this.table.groups) {
      const entries = this.#entries.get(id) ?? [];
      groups.set(id, { replica, hardState, start, configuration, entries });
    }
    return groups;
  }

  #checkHeader({ name, bytes, firstSequence }: SegmentInput): SegmentHeader {
    const header = decodeSegmentHeader(bytes);
    if (header === undefined) throw corrupt(name, 0, "the segment's header is damaged");
    if (header.version !== WAL_FORMAT_VERSION) {
      const remedy =
        header.version < WAL_FORMAT_VERSION
          ? "No release of minikv wrote it: begin with an empty data directory"
          : "Start the version of minikv that wrote it";
      throw new KvError(
        "INVALID_ARGUMENT",
        `write-ahead log ${name} has format ${header.version}, and this program knows only ` +
          `${WAL_FORMAT_VERSION}. ${remedy}.`,
      );
    }
    if (header.nodeId !== this.#nodeId) {
      throw new KvError(
        "INVALID_ARGUMENT",
        `write-ahead log ${name} belongs to node ${header.nodeId}, and this is node ` +
          `${this.#nodeId}. Give each node its own data directory; never copy one to another node.`,
      );
    }
    if (header.sizeBytes !== bytes.length) {
      const sizes = `${bytes.length} bytes instead of ${header.sizeBytes}`;
      throw corrupt(name, bytes.length, `the file was cut or extended: it has ${sizes}`);
    }
    if (header.firstSequence !== firstSequence) {
      throw corrupt(name, 0, "the file was renamed: its name and its header disagree");
    }
    if (this.#oldestNumber === 0) {
      this.#oldestNumber = header.number;
      // The oldest segment that is left: there is nothing before it that it could disagree with.
      this.#sequence = header.firstSequence - 1;
      this.#crc = header.previousCrc;
    } else if (header.number !== this.#segmentNumber + 1) {
      throw corrupt(name, 0, `segment ${this.#segmentNumber + 1} is missing before it`);
    } else if (header.previousCrc !== this.#crc) {
      throw corrupt(name, 0, "it does not continue the segment before it");
    }
    this.#segmentNumber = header.number;
    return header;
  }

  #replayFrame(input: SegmentInput, header: SegmentHeader, frame: Frame, position: number): void {
    const { name, bytes } = input;
    if (frame.sequence !== this.#sequence + 1 || frame.previousCrc !== this.#crc) {
      throw corrupt(name, position, `batch ${frame.sequence} does not continue the log`);
    }
    const start = position + FRAME_HEADER_SIZE_BYTES;
    const end = position + frame.lengthBytes;
    if (position === SEGMENT_HEADER_SIZE_BYTES) {
      this.#replayCheckpoint(name, bytes.subarray(start, end), header, start);
    } else {
      for (const record of decoded(name, bytes, start, end)) {
        if (record.kind === "checkpoint")
          throw corrupt(name, start, "a checkpoint inside a segment");
        this.#replayRecord(name, record, header.number, position);
      }
    }
    this.#sequence = frame.sequence;
    this.#crc = frame.crc;
    this.#lastFrameIsEmpty = frame.lengthBytes === FRAME_HEADER_SIZE_BYTES;
  }

  /** The oldest checkpoint is where replay starts; every later one must agree with it. */
  #replayCheckpoint(
    name: string,
    payload: Uint8Array,
    header: SegmentHeader,
    position: number,
  ): void {
    if (header.number === this.#oldestNumber) {
      for (const record of decoded(name, payload, 0, payload.length)) {
        if (record.kind !== "checkpoint")
          throw corrupt(name, position, "no checkpoint at its head");
        restore(this.table, record, name, position);
      }
      return;
    }
    const expected = new Uint8Array(this.table.checkpointSizeBytes);
    this.table.encodeCheckpoint(expected, 0);
    if (!equalBytes(expected, payload)) {
      throw corrupt(name, position, "its checkpoint disagrees with the segments before it");
    }
  }

  #replayRecord(name: string, record: WalRecord, segment: number, position: number): void {
    try {
      this.table.admit([record]);
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error;
      throw corrupt(name, position, `group ${record.group}: ${error.message}`, error);
    }
    this.table.commit([record], segment);
    let entries = this.#entries.get(record.group);
    if (entries === undefined) this.#entries.set(record.group, (entries = []));
    switch (record.kind) {
      case "entries":
        for (const entry of record.entries) entries.push(entry);
        this.#touched.add(record.group);
        return;
      case "truncateSuffix":
        while (entries.length > 0 && entries.at(-1)!.index >= record.from) entries.pop();
        return;
      case "compactPrefix":
        if (entries.length > 0) {
          entries.splice(0, Math.max(0, record.start.index + 1 - entries[0]!.index));
        }
        return;
      case "snapshotMeta":
        entries.length = 0;
        return;
      case "removeGroup":
        this.#entries.delete(record.group);
        this.#touched.delete(record.group);
        return;
      case "hardState":
        return;
      default:
        record satisfies never;
    }
  }

  /** Copies the data that is still wanted, so that the segment's buffer can be used again. */
  #keepEntries(segment: Uint8Array): void {
    for (const group of this.#touched) {
      const entries = this.#entries.get(group)!;
      for (let i = entries.length - 1; i >= 0; i--) {
        const entry = entries[i]!;
        if (entry.data.buffer !== segment.buffer) break;
        const data = entry.data.length === 0 ? EMPTY_BYTES : new Uint8Array(entry.data);
        entries[i] = { ...entry, data };
      }
    }
    this.#touched.clear();
  }

  /** Decides between a clean end, a torn tail and corruption; answers the end of what to clear. */
  #checkTail(input: SegmentInput, header: SegmentHeader, position: number): number {
    const { bytes, name } = input;
    const dirtyEnd = endOfNonZero(bytes, position);
    if (position === SEGMENT_HEADER_SIZE_BYTES) {
      throw corrupt(name, position, "the segment's first batch is damaged");
    }
    const missing = this.#sequence + 1;
    const sequenceMax = missing + bytes.length / FRAME_HEADER_SIZE_BYTES;
    const searchEnd = Math.min(dirtyEnd, bytes.length - FRAME_HEADER_SIZE_BYTES + 1);
    for (let offset = position; offset < searchEnd; offset++) {
      const frame = frameAt(bytes, offset, header.salt, missing, sequenceMax);
      if (frame === undefined) continue;
      const behind = `an intact batch ${frame.sequence} follows at offset ${offset}`;
      if (frame.durable >= missing) {
        throw corrupt(name, position, `batch ${missing} is damaged, but was durable: ${behind}`);
      }
      // Its predecessor was written over a seal, but never reached the disk: the seal is still there.
      if (frame.previousCrc !== this.#crc) {
        throw corrupt(name, position, `another batch ${this.#sequence} was durable: ${behind}`);
      }
    }
    return Math.max(position, dirtyEnd);
  }
}

const REMEDY =
  "Nothing was changed. Keep a copy of the directory, then restore this node from a backup, or let " +
  "it rejoin its cluster as a new node with an empty data directory (docs/operations.md, corruption).";

/** The error for a damaged log: names the file, the offset, and what to do. */
export function corrupt(name: string, offset: number, what: string, cause?: unknown): KvError {
  return new KvError(
    "DATA_CORRUPT",
    `write-ahead log damaged: ${name} at offset ${offset}: ${what}. ${REMEDY}`,
    { cause },
  );
}

function decoded(name: string, bytes: Uint8Array, start: number, end: number): BatchRecord[] {
  try {
    return decodeRecords(bytes, start, end);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw corrupt(name, start, `its records do not decode: ${error.message}`, error);
  }
}

function restore(
  table: GroupTable,
  record: Extract<BatchRecord, { kind: "checkpoint" }>,
  name: string,
  position: number,
): void {
  try {
    table.restore(record);
  } catch (error) {
    if (!(error instanceof AssertionError)) throw error;
    throw corrupt(name, position, `group ${record.group}: ${error.message}`, error);
  }
}

const ZEROS = new Uint8Array(64 * 1024);

/** Offset behind the last byte that is not zero, at least `from`. */
function endOfNonZero(bytes: Uint8Array, from: number): number {
  let end = bytes.length;
  while (end > from) {
    const start = Math.max(from, end - ZEROS.length);
    const length = end - start;
    const view = Buffer.from(bytes.buffer, bytes.byteOffset + start, length);
    if (view.compare(ZEROS, 0, length) !== 0) break;
    end = start;
  }
  while (end > from && bytes[end - 1] === 0) end--;
  return end;
}
