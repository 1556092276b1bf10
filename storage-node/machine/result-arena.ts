/**
 * Results of commands with several mutations, packed one behind the other in one growing buffer.
 *
 * A gateway's batches leave many such results in the dedupe window, each for seconds. As objects they
 * would take some hundred bytes each and be traced by every collection of the old generation; here
 * one takes about five bytes for each mutation, and none of them is seen by the collector.
 *
 *     number of mutations × 2 + 1 if no condition failed, varint |
 *     for each mutation: status 1 (+ 0x80 if it created the key) | revision varint
 */
import type { MutationResult, MutationStatus, WriteResult } from "#proto/codec/messages.ts";
import type { Revision } from "#shared/ids.ts";
import { readVarint, varintSizeBytes, writeVarint } from "./varint.ts";

const CREATED = 0x80;
const SIZE_BYTES_MIN = 256;
/** Of a varint: an upper bound. */
const VARINT_SIZE_BYTES_MAX = 8;

export class ResultArena {
  #bytes = new Uint8Array(0);
  #usedBytes = 0;

  /** Its memory. */
  get sizeBytes(): number {
    return this.#bytes.length;
  }

  /** Returns where the result lies, for `get`. */
  add({ mutations, applied }: WriteResult): number {
    const at = this.#usedBytes;
    this.#reserve(VARINT_SIZE_BYTES_MAX + mutations.length * (1 + VARINT_SIZE_BYTES_MAX));
    const bytes = this.#bytes;
    let end = writeVarint(bytes, at, mutations.length * 2 + (applied ? 1 : 0));
    for (const { status, created, revision } of mutations) {
      bytes[end] = status | (created ? CREATED : 0);
      end = writeVarint(bytes, end + 1, revision);
    }
    this.#usedBytes = end;
    return at;
  }

  /** The result that `add` put there. */
  get(place: number): WriteResult {
    const bytes = this.#bytes;
    const head = readVarint(bytes, place);
    let at = place + varintSizeBytes(head);
    const mutations: MutationResult[] = [];
    for (let left = Math.floor(head / 2); left > 0; left--) {
      const flags = bytes[at]!;
      const revision = readVarint(bytes, at + 1);
      at += 1 + varintSizeBytes(revision);
      mutations.push({
        status: (flags & ~CREATED) as MutationStatus,
        revision: revision as Revision,
        created: (flags & CREATED) !== 0,
      });
    }
    return { kind: "write", applied: head % 2 === 1, mutations };
  }

  #reserve(sizeBytes: number): void {
    const needed = this.#usedBytes + sizeBytes;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length, SIZE_BYTES_MIN));
    larger.set(this.#bytes.subarray(0, this.#usedBytes));
    this.#bytes = larger;
  }
}
