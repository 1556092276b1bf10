/**
 * The buffer in which a batch gathers: room for the frame's header, then the encoded records.
 *
 * Batches are reused, so that the steady state allocates nothing per batch but closures.
 */
import { assert } from "#shared/assert.ts";
import { FRAME_HEADER_SIZE_BYTES, type FrameFields, sealFrame } from "./frame.ts";
import { encodeRecord, recordSizeBytes } from "./records.ts";
import type { WalRecord } from "./types.ts";

const BUFFER_SIZE_BYTES_START = 64 * 1024;
/** A buffer that a burst has grown beyond this is given back to the heap. */
const BUFFER_SIZE_BYTES_KEPT_MAX = 4 * 1024 * 1024;
/** The length field has 32 bits, and Node writes at most 2 GiB at once. */
const FRAME_SIZE_BYTES_MAX = 1024 * 1024 * 1024;

export class Batch {
  #buffer: Uint8Array = Buffer.allocUnsafeSlow(BUFFER_SIZE_BYTES_START);
  /** Size of the frame so far, header included. */
  sizeBytes = FRAME_HEADER_SIZE_BYTES;
  /** What was encoded, kept because it takes effect on the bookkeeping only once durable. */
  readonly records: (readonly WalRecord[])[] = [];
  /** To run in order once the batch is durable. */
  readonly callbacks: (() => void)[] = [];
  /** Monotonic, when its writing began. */
  begunMs = 0;
  /** Somebody waits for this batch: it holds more than lazy records. */
  wanted = false;

  get isEmpty(): boolean {
    return this.sizeBytes === FRAME_HEADER_SIZE_BYTES;
  }

  /** Encodes `records`, whose sizes add up to `sizeBytes`, behind what is there. */
  add(records: readonly WalRecord[], sizeBytes: number): void {
    const end = this.sizeBytes + sizeBytes;
    assert(end <= FRAME_SIZE_BYTES_MAX, "a batch has at most 1 GiB");
    if (end > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(end, 2 * this.#buffer.length));
      grown.set(this.#buffer.subarray(0, this.sizeBytes));
      this.#buffer = grown;
    }
    let position = this.sizeBytes;
    for (const record of records) position = encodeRecord(this.#buffer, position, record);
    assert(position === end, "records are as long as they were measured");
    this.sizeBytes = end;
    this.records.push(records);
  }

  /**
   * Completes the frame, and answers a view of it (valid until `add` or `reset`) with its checksum.
   */
  seal(salt: number, fields: FrameFields): { readonly frame: Uint8Array; readonly crc: number } {
    const frame = this.#buffer.subarray(0, this.sizeBytes);
    return { frame, crc: sealFrame(frame, salt, fields) };
  }

  reset(): void {
    if (this.#buffer.length > BUFFER_SIZE_BYTES_KEPT_MAX) {
      this.#buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE_BYTES_START);
    }
    this.sizeBytes = FRAME_HEADER_SIZE_BYTES;
    this.records.length = 0;
    this.callbacks.length = 0;
    this.wanted = false;
  }
}

/** Encoded size of `records` together. */
export function recordsSizeBytes(records: readonly WalRecord[]): number {
  let size = 0;
  for (const record of records) size += recordSizeBytes(record);
  return size;
}
