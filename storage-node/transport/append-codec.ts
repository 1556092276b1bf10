/**
 * Codec of `RaftAppend` in `proto/minikv/v1/node.proto`: the one message that carries entries.
 *
 * Decoded data are views of the frame where that costs no memory. A follower keeps entries for long,
 * and a view keeps the whole buffer behind it, so one small entry could hold a megabyte of others.
 * Hence the entries of an append that are less than half of that buffer get one of their own: what a
 * kept append costs is at most twice its size.
 */
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  numberFieldSize,
  type Reader,
  type Sizes,
  VARINT,
  type Writer,
} from "#proto/codec/wire.ts";
import { assert } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { LogIndex, Term } from "#shared/ids.ts";
import { type Entry, EntryKind, type Message } from "#storage-node/raft/types.ts";

type Append = Extract<Message, { readonly kind: "append" }>;

const PREVIOUS_INDEX = (1 << 3) | VARINT;
const PREVIOUS_TERM = (2 << 3) | VARINT;
const COMMIT = (3 << 3) | VARINT;
const ENTRIES = (4 << 3) | LENGTH_DELIMITED;
const ENTRY_TERM = (1 << 3) | VARINT;
const ENTRY_KIND = (2 << 3) | VARINT;
const ENTRY_DATA = (3 << 3) | LENGTH_DELIMITED;

export function appendSize(append: Append, sizes: Sizes): number {
  let size =
    numberFieldSize(append.previousIndex) +
    numberFieldSize(append.previousTerm) +
    numberFieldSize(append.commit);
  const { entries, previousIndex } = append;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    assert(entry.index === previousIndex + 1 + i, "the entries of an append are consecutive");
    const contentSize =
      numberFieldSize(entry.term) + numberFieldSize(entry.kind) + bytesFieldSize(entry.data);
    size += sizes.fill(sizes.reserve(), contentSize);
  }
  return size;
}

export function writeAppend(append: Append, writer: Writer): void {
  writer.numberField(PREVIOUS_INDEX, append.previousIndex);
  writer.numberField(PREVIOUS_TERM, append.previousTerm);
  writer.numberField(COMMIT, append.commit);
  for (const entry of append.entries) {
    writer.messageField(ENTRIES);
    writer.numberField(ENTRY_TERM, entry.term);
    writer.numberField(ENTRY_KIND, entry.kind);
    writer.bytesField(ENTRY_DATA, entry.data);
  }
}

type AppendBody = Omit<Append, "group" | "from" | "to" | "term">;

/** Reads the fields of an append up to the end of the innermost message. */
export function readAppend(reader: Reader): AppendBody {
  let previousIndex = 0;
  let previousTerm = 0;
  let commit = 0;
  const read: ReadEntry[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === PREVIOUS_INDEX) previousIndex = reader.uint64();
    else if (tag === PREVIOUS_TERM) previousTerm = reader.uint64();
    else if (tag === COMMIT) commit = reader.uint64();
    else if (tag === ENTRIES) read.push(readEntry(reader));
    else reader.skip(tag);
  }
  if (previousIndex + read.length > Number.MAX_SAFE_INTEGER) reader.fail("index beyond 2^53 - 1");
  return {
    kind: "append",
    previousIndex: previousIndex as LogIndex,
    previousTerm: previousTerm as Term,
    commit: commit as LogIndex,
    entries: indexed(read, previousIndex + 1),
  };
}

/** The index of an entry follows from its place, once the whole append is read. */
type ReadEntry = Omit<Entry, "index">;

function readEntry(reader: Reader): ReadEntry {
  reader.countElement();
  const outerEnd = reader.enter();
  let term = 0;
  let kind = 0;
  let data = EMPTY_BYTES as Uint8Array;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === ENTRY_TERM) term = reader.uint64();
    else if (tag === ENTRY_KIND) kind = reader.uint64();
    else if (tag === ENTRY_DATA) data = reader.bytes();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  if (kind !== EntryKind.Normal && kind !== EntryKind.Configuration) {
    reader.fail("entry of an unknown kind");
  }
  return { term: term as Term, kind, data };
}

function indexed(read: readonly ReadEntry[], firstIndex: number): readonly Entry[] {
  let dataBytes = 0;
  for (const { data } of read) dataBytes += data.length;
  const backing = read.find(({ data }) => data.length > 0)?.data.buffer;
  const copied = backing !== undefined && 2 * dataBytes < backing.byteLength;
  const own = copied ? new Uint8Array(dataBytes) : EMPTY_BYTES;
  let position = 0;
  return read.map(({ term, kind, data }, i) => {
    const index = (firstIndex + i) as LogIndex;
    if (!copied) return { index, term, kind, data };
    own.set(data, position);
    const end = position + data.length;
    const kept = own.subarray(position, end);
    position = end;
    return { index, term, kind, data: kept };
  });
}
