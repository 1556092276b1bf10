/**
 * Traces that travel with entries, beside the messages: Raft knows nothing of them.
 *
 * The sender keeps the traces of the last entries of each group, and adds to each frame those of the entries
 * in it. They are not dropped when an entry is committed: the member that was slow or had just connected gets
 * it after that. Bounded, and nothing is owed: a trace that is missing costs a follower its spans.
 */
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  numberFieldSize,
  type Reader,
  VARINT,
  type Writer,
} from "#proto/codec/wire.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { GroupId, LogIndex, Term } from "#shared/ids.ts";
import {
  TRACE_CONTEXT_SIZE_BYTES,
  TRACED_ENTRIES_PER_FRAME_MAX,
  TRACED_ENTRIES_PER_GROUP_MAX,
} from "#shared/limits.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { CarriedTrace } from "./transport.ts";

const NONE: readonly CarriedTrace[] = [];

export class EntryTraces {
  readonly #byGroup = new Map<GroupId, CarriedTrace[]>();

  add(trace: CarriedTrace): void {
    const known = this.#byGroup.get(trace.group);
    if (known === undefined) {
      this.#byGroup.set(trace.group, [trace]);
      return;
    }
    if (known.length >= TRACED_ENTRIES_PER_GROUP_MAX) known.shift();
    known.push(trace);
  }

  /** Those of the entries in `messages`. */
  of(messages: readonly Message[]): readonly CarriedTrace[] {
    if (this.#byGroup.size === 0) return NONE;
    const found: CarriedTrace[] = [];
    for (const message of messages) {
      if (message.kind !== "append" || message.entries.length === 0) continue;
      const { entries, previousIndex } = message;
      for (const trace of this.#byGroup.get(message.group) ?? NONE) {
        if (entries[trace.index - previousIndex - 1]?.term === trace.term) found.push(trace);
        if (found.length >= TRACED_ENTRIES_PER_FRAME_MAX) return found;
      }
    }
    return found;
  }
}

const GROUP = (1 << 3) | VARINT;
const INDEX = (2 << 3) | VARINT;
const TERM = (3 << 3) | VARINT;
const CONTEXT = (4 << 3) | LENGTH_DELIMITED;
const GROUP_MAX = 0xffff;

export const entryTraceSize = ({ group, index, term, context }: CarriedTrace): number =>
  numberFieldSize(group) + numberFieldSize(index) + numberFieldSize(term) + bytesFieldSize(context);

export function writeEntryTrace(
  { group, index, term, context }: CarriedTrace,
  writer: Writer,
): void {
  writer.numberField(GROUP, group);
  writer.numberField(INDEX, index);
  writer.numberField(TERM, term);
  writer.bytesField(CONTEXT, context);
}

/**
 * Reads an embedded message whose tag has just been read. Adds it to `traces`, unless it is of no use or
 * there are enough: a trace is never worth a link.
 */
export function readEntryTrace(reader: Reader, traces: CarriedTrace[]): void {
  reader.countElement();
  const outerEnd = reader.enter();
  let group = 0;
  let index = 0;
  let term = 0;
  let context = EMPTY_BYTES as Uint8Array;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === GROUP) group = reader.uint32();
    else if (tag === INDEX) index = reader.uint64();
    else if (tag === TERM) term = reader.uint64();
    else if (tag === CONTEXT) context = reader.bytes();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  if (context.length !== TRACE_CONTEXT_SIZE_BYTES || group > GROUP_MAX) return;
  if (traces.length >= TRACED_ENTRIES_PER_FRAME_MAX) return;
  traces.push({
    group: group as GroupId,
    index: index as LogIndex,
    term: term as Term,
    // A view would keep the whole frame.
    context: context.slice(),
  });
}
