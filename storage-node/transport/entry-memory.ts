/**
 * Where the entries that a node receives live.
 *
 * Decoded data are views of the frame, and a view keeps the whole buffer behind it. A log keeps
 * entries for long, those of an idle group for hours: one small entry could hold a megabyte of its
 * frame, or a slab of Node's buffer pool. So data move, unless they are most of what is behind them,
 * into a slab that only entries of the same group share. They are given up in the order in which they
 * came, and the slab with them.
 */
import type { GroupId } from "#shared/ids.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { EntryDraft } from "./append-codec.ts";

const SLAB_SIZE_BYTES = 8 * 1024;
/** Larger ones get memory of their own, so that the rest of a slab is not wasted. */
const SLAB_SHARE_BYTES_MAX = SLAB_SIZE_BYTES / 4;
/** More than a node has; beyond it slabs are begun anew. */
const GROUPS_MAX = 512;

type Slab = { readonly bytes: Uint8Array; used: number };

export class EntryMemory {
  readonly #slabs = new Map<GroupId, Slab>();

  /** Sees to it that the entries of a message that has just been decoded may be kept. */
  settle(message: Message): void {
    if (message.kind !== "append" || message.entries.length === 0) return;
    let dataBytes = 0;
    let backingBytes = 0;
    for (const { data } of message.entries) {
      dataBytes += data.length;
      if (data.length > 0) backingBytes = data.buffer.byteLength;
    }
    if (2 * dataBytes >= backingBytes) return;
    // Nobody else has seen the message yet.
    const entries: readonly EntryDraft[] = message.entries;
    const memory = this.#take(message.group, dataBytes);
    let position = 0;
    for (const entry of entries) {
      const end = position + entry.data.length;
      memory.set(entry.data, position);
      entry.data = memory.subarray(position, end);
      position = end;
    }
  }

  #take(group: GroupId, sizeBytes: number): Uint8Array {
    if (sizeBytes > SLAB_SHARE_BYTES_MAX) return new Uint8Array(sizeBytes);
    let slab = this.#slabs.get(group);
    if (slab === undefined || slab.used + sizeBytes > SLAB_SIZE_BYTES) {
      if (this.#slabs.size >= GROUPS_MAX) this.#slabs.clear();
      slab = { bytes: new Uint8Array(SLAB_SIZE_BYTES), used: 0 };
      this.#slabs.set(group, slab);
    }
    const start = slab.used;
    slab.used += sizeBytes;
    return slab.bytes.subarray(start, slab.used);
  }
}
