/**
 * Bytes of the records inside a batch; layout in docs/formats/wal.md. Pure.
 *
 * Encoding writes straight into the batch's buffer: `recordSizeBytes` first, so that the buffer can
 * grow once, then `encodeRecord`. Decoded entries are views into the buffer that was decoded.
 * Decoding trusts nothing: a frame whose checksum fits may still come from a faulty program.
 */

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
import {
  configurationSizeBytes,
  readConfiguration,
  writeConfiguration,
} from "#storage-node/raft/configuration.ts";
import {
  type Configuration,
  type Entry,
  EntryKind,
  type HardState,
  type LogStart,
} from "#storage-node/raft/types.ts";
import type { WalRecord } from "./types.ts";

/** State of a group when a segment begins: all that older segments say of it but its entries. */
export type CheckpointRecord = {
  readonly kind: "checkpoint";
  readonly group: GroupId;
  readonly replica: ReplicaId;
  readonly hardState: HardState;
  readonly start: LogStart;
  /** Of the group's last entry; `start.index` when it has none. */
  readonly lastIndex: LogIndex;
  readonly configuration: Configuration;
};

/** All records that a batch can hold. Only the first batch of a segment holds checkpoints. */
export type BatchRecord = WalRecord | CheckpointRecord;

/** Values are on disk: never renumber. */
const RECORD_KIND = {
  entries: 1,
  hardState: 2,
  truncateSuffix: 3,
  compactPrefix: 4,
  snapshotMeta: 5,
  checkpoint: 6,
  removeGroup: 7,
} as const satisfies Record<BatchRecord["kind"], number>;

/** kind u8, group u16, body length u32 */
const HEAD_SIZE_BYTES = 7;
/** first index u64, count u32 */
const ENTRIES_HEAD_SIZE_BYTES = 12;
/** kind u8, data length u32 */
const ENTRY_HEAD_SIZE_BYTES = 5;
/** In an entry's kind byte: a term follows, which holds for all entries up to the next such flag. */
const TERM_FOLLOWS = 0x80;
const HARD_STATE_SIZE_BYTES = 24;
const LOG_START_SIZE_BYTES = 16;
const REPLICA_SIZE_BYTES = 8;

/** Size of a record with its head. */
export function recordSizeBytes(record: BatchRecord): number {
  switch (record.kind) {
    case "entries":
      return HEAD_SIZE_BYTES + entriesSizeBytes(record.entries);
    case "hardState":
      return HEAD_SIZE_BYTES + HARD_STATE_SIZE_BYTES;
    case "truncateSuffix":
      return HEAD_SIZE_BYTES + 8;
    case "compactPrefix":
      return HEAD_SIZE_BYTES + LOG_START_SIZE_BYTES;
    case "snapshotMeta":
      return HEAD_SIZE_BYTES + membershipSizeBytes(record);
    case "checkpoint":
      return HEAD_SIZE_BYTES + membershipSizeBytes(record) + HARD_STATE_SIZE_BYTES + 8;
    case "removeGroup":
      return HEAD_SIZE_BYTES;
    default:
      return unreachable(record);
  }
}

type Membership = Pick<CheckpointRecord, "replica" | "start" | "configuration">;

const membershipSizeBytes = ({ configuration }: Membership): number =>
  REPLICA_SIZE_BYTES + LOG_START_SIZE_BYTES + configurationSizeBytes(configuration);

function entriesSizeBytes(entries: readonly Entry[]): number {
  let size = ENTRIES_HEAD_SIZE_BYTES;
  let term = -1;
  for (const entry of entries) {
    size += ENTRY_HEAD_SIZE_BYTES + entry.data.length;
    if (entry.term !== term) {
      size += 8;
      term = entry.term;
    }
  }
  return size;
}

/** Writes `record` at `offset`, where `recordSizeBytes` bytes are free; answers the next offset. */
export function encodeRecord(target: Uint8Array, offset: number, record: BatchRecord): number {
  const body = offset + HEAD_SIZE_BYTES;
  const end = encodeBody(target, body, record);
  target[offset] = RECORD_KIND[record.kind];
  target[offset + 1] = record.group >>> 8;
  target[offset + 2] = record.group;
  writeUint32(target, offset + 3, end - body);
  return end;
}

function encodeBody(target: Uint8Array, offset: number, record: BatchRecord): number {
  switch (record.kind) {
    case "entries":
      return encodeEntries(target, offset, record.entries);
    case "hardState":
      return encodeHardState(target, offset, record.hardState);
    case "truncateSuffix":
      writeUint64(target, offset, record.from);
      return offset + 8;
    case "compactPrefix":
      return encodeLogStart(target, offset, record.start);
    case "snapshotMeta":
      return encodeMembership(target, offset, record);
    case "checkpoint": {
      const next = encodeHardState(target, offset, record.hardState);
      writeUint64(target, next, record.lastIndex);
      return encodeMembership(target, next + 8, record);
    }
    case "removeGroup":
      return offset;
    default:
      return unreachable(record);
  }
}

function encodeEntries(target: Uint8Array, offset: number, entries: readonly Entry[]): number {
  const first = entries[0];
  assert(first !== undefined, "a record of entries has at least one");
  writeUint64(target, offset, first.index);
  writeUint32(target, offset + 8, entries.length);
  let position = offset + ENTRIES_HEAD_SIZE_BYTES;
  let term = -1;
  for (const entry of entries) {
    const termFollows = entry.term !== term;
    target[position] = termFollows ? entry.kind | TERM_FOLLOWS : entry.kind;
    writeUint32(target, position + 1, entry.data.length);
    position += ENTRY_HEAD_SIZE_BYTES;
    if (termFollows) {
      writeUint64(target, position, entry.term);
      position += 8;
      term = entry.term;
    }
    target.set(entry.data, position);
    position += entry.data.length;
  }
  return position;
}

function encodeHardState(target: Uint8Array, offset: number, hardState: HardState): number {
  writeUint64(target, offset, hardState.term);
  writeUint64(target, offset + 8, hardState.vote);
  writeUint64(target, offset + 16, hardState.commit);
  return offset + HARD_STATE_SIZE_BYTES;
}

function encodeLogStart(target: Uint8Array, offset: number, start: LogStart): number {
  writeUint64(target, offset, start.index);
  writeUint64(target, offset + 8, start.term);
  return offset + LOG_START_SIZE_BYTES;
}

function encodeMembership(target: Uint8Array, offset: number, record: Membership): number {
  writeUint64(target, offset, record.replica);
  const next = encodeLogStart(target, offset + REPLICA_SIZE_BYTES, record.start);
  return writeConfiguration(target, next, record.configuration);
}

/**
 * The records in `bytes[start, end)`, in order; data of entries are views of `bytes`.
 * @throws RangeError when the bytes are not exactly a sequence of records.
 */
export function decodeRecords(bytes: Uint8Array, start: number, end: number): BatchRecord[] {
  const records: BatchRecord[] = [];
  const batch = new Reader(bytes, start, end);
  while (batch.remaining > 0) {
    const kind = batch.uint8();
    const group = toGroupId(batch.uint16());
    const length = batch.uint32();
    const bodyStart = batch.skip(length);
    const body = new Reader(bytes, bodyStart, bodyStart + length);
    records.push(decodeBody(body, kind, group));
    if (body.remaining !== 0)
      throw new RangeError(`record of kind ${kind} is longer than its body`);
  }
  return records;
}

function decodeBody(body: Reader, kind: number, group: GroupId): BatchRecord {
  switch (kind) {
    case RECORD_KIND.entries:
      return { kind: "entries", group, entries: decodeEntries(body) };
    case RECORD_KIND.hardState:
      return { kind: "hardState", group, hardState: decodeHardState(body) };
    case RECORD_KIND.truncateSuffix:
      return { kind: "truncateSuffix", group, from: toLogIndex(body.uint64()) };
    case RECORD_KIND.compactPrefix:
      return { kind: "compactPrefix", group, start: decodeLogStart(body) };
    case RECORD_KIND.snapshotMeta:
      return { kind: "snapshotMeta", group, ...decodeMembership(body) };
    case RECORD_KIND.checkpoint: {
      const hardState = decodeHardState(body);
      const lastIndex = toLogIndex(body.uint64());
      return { kind: "checkpoint", group, hardState, lastIndex, ...decodeMembership(body) };
    }
    case RECORD_KIND.removeGroup:
      return { kind: "removeGroup", group };
    default:
      throw new RangeError(`unknown kind of record: ${kind}`);
  }
}

function decodeEntries(body: Reader): Entry[] {
  const first = body.uint64();
  const count = body.uint32();
  if (count === 0) throw new RangeError("a record of entries without entries");
  const entries: Entry[] = [];
  let term: Term | undefined;
  for (let i = 0; i < count; i++) {
    const head = body.uint8();
    const length = body.uint32();
    if ((head & TERM_FOLLOWS) !== 0) term = toTerm(body.uint64());
    if (term === undefined) throw new RangeError("the first entry of a record has no term");
    const kind = decodeEntryKind(head & ~TERM_FOLLOWS);
    entries.push({ index: toLogIndex(first + i), term, kind, data: body.bytes(length) });
  }
  return entries;
}

function decodeEntryKind(value: number): EntryKind {
  if (value === EntryKind.Normal || value === EntryKind.Configuration) return value;
  throw new RangeError(`unknown kind of entry: ${value}`);
}

function decodeHardState(body: Reader): HardState {
  const term = toTerm(body.uint64());
  const vote = toReplicaId(body.uint64());
  return { term, vote, commit: toLogIndex(body.uint64()) };
}

function decodeLogStart(body: Reader): LogStart {
  const index = toLogIndex(body.uint64());
  return { index, term: toTerm(body.uint64()) };
}

function decodeMembership(body: Reader): Membership {
  const replica = toReplicaId(body.uint64());
  const start = decodeLogStart(body);
  return { replica, start, configuration: body.configuration() };
}

/** Reads numbers from `bytes[position, end)`, and throws RangeError rather than leave it. */
class Reader {
  readonly #bytes: Uint8Array;
  #position: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#position = start;
    this.#end = end;
  }

  get remaining(): number {
    return this.#end - this.#position;
  }

  /** Moves on by `length` and answers the position before. */
  skip(length: number): number {
    if (length > this.remaining) throw new RangeError("a record ends before its last field");
    const position = this.#position;
    this.#position += length;
    return position;
  }

  uint8(): number {
    return this.#bytes[this.skip(1)]!;
  }

  uint16(): number {
    const position = this.skip(2);
    return (this.#bytes[position]! << 8) | this.#bytes[position + 1]!;
  }

  uint32(): number {
    return readUint32(this.#bytes, this.skip(4));
  }

  uint64(): number {
    return readUint64(this.#bytes, this.skip(8));
  }

  configuration(): Configuration {
    const { configuration, end } = readConfiguration(this.#bytes, this.#position);
    this.skip(end - this.#position);
    return configuration;
  }

  bytes(length: number): Uint8Array {
    const position = this.skip(length);
    return this.#bytes.subarray(position, position + length);
  }
}
