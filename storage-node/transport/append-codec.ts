/**
 * Codec of `RaftAppend` in `proto/minikv/v1/node.proto`: the one message that carries entries.
 * Their data are views of the frame at first; see entry-memory.ts.
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

type AppendFields = Pick<Append, "previousIndex" | "previousTerm" | "commit" | "entries">;

/** Reads the fields of an append up to the end of the innermost message. */
export function readAppend(reader: Reader): AppendFields {
  let previousIndex = 0;
  let previousTerm = 0;
  let commit = 0;
  const entries: EntryDraft[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === PREVIOUS_INDEX) previousIndex = reader.uint64();
    else if (tag === PREVIOUS_TERM) previousTerm = reader.uint64();
    else if (tag === COMMIT) commit = reader.uint64();
    else if (tag === ENTRIES) entries.push(readEntry(reader));
    else reader.skip(tag);
  }
  if (previousIndex + entries.length > Number.MAX_SAFE_INTEGER) reader.fail("index is too high");
  for (let i = 0; i < entries.length; i++) entries[i]!.index = (previousIndex + 1 + i) as LogIndex;
  return {
    previousIndex: previousIndex as LogIndex,
    previousTerm: previousTerm as Term,
    commit: commit as LogIndex,
    entries,
  };
}

/** The index of an entry follows from its place, once the whole append is read. */
export type EntryDraft = { -readonly [Field in keyof Entry]: Entry[Field] };

function readEntry(reader: Reader): EntryDraft {
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
  return { index: 0 as LogIndex, term: term as Term, kind, data };
}
