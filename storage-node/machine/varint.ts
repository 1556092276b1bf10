/**
 * Variable-size unsigned integers, seven bits per byte, least significant first (LEB128), up to
 * 2^53 - 1; and a writer and a reader for rows that are made of them.
 */
import { readUint32 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";

const BYTES_MAX = 8;
/** Of the upper half of 2^53 - 1. */
const UINT64_HIGH_MAX = 0x1f_ffff;

export function varintSizeBytes(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

/** Returns the offset behind the number. `value` is a safe integer from 0. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  // Bit operators see the low 32 bits only, and are several times faster than `%` and `floor`.
  while (rest > 0x7fff_ffff) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}

/** @throws KvError DATA_CORRUPT when no whole number of the shortest form stands there. */
export function readVarint(source: Uint8Array, offset: number): number {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < BYTES_MAX; i++) {
    const byte = source[offset + i];
    if (byte === undefined) break;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      // One number has one encoding: size and value then follow from each other.
      if ((byte === 0 && i > 0) || value > Number.MAX_SAFE_INTEGER) break;
      return value;
    }
    scale *= 0x80;
  }
  throw new KvError("DATA_CORRUPT", "number in a stored row does not decode");
}

/** What `writeUint64` wrote. @throws KvError DATA_CORRUPT beyond 2^53 - 1, which it never writes. */
export function readStoredUint64(source: Uint8Array, offset: number): number {
  const high = readUint32(source, offset);
  if (high > UINT64_HIGH_MAX) {
    throw new KvError("DATA_CORRUPT", "number in a stored row is beyond 2^53 - 1");
  }
  return high * 2 ** 32 + readUint32(source, offset + 4);
}

/** Builds a row in a scratch buffer that is kept from row to row. */
export class RowWriter {
  #scratch = Buffer.allocUnsafe(4096);
  #sizeBytes = 0;

  byte(value: number): void {
    this.#reserve(1);
    this.#scratch[this.#sizeBytes++] = value;
  }

  varint(value: number): void {
    this.#reserve(BYTES_MAX);
    this.#sizeBytes = writeVarint(this.#scratch, this.#sizeBytes, value);
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#scratch.set(value, this.#sizeBytes);
    this.#sizeBytes += value.length;
  }

  /** The row in a buffer of its own; the writer is empty again. */
  take(): Uint8Array {
    const row = Buffer.allocUnsafe(this.#sizeBytes);
    this.#scratch.copy(row, 0, 0, this.#sizeBytes);
    this.#sizeBytes = 0;
    return row;
  }

  #reserve(sizeBytes: number): void {
    const needed = this.#sizeBytes + sizeBytes;
    if (needed <= this.#scratch.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#scratch.length));
    this.#scratch.copy(larger, 0, 0, this.#sizeBytes);
    this.#scratch = larger;
  }
}

/** Reads what `RowWriter` wrote. Every method throws KvError DATA_CORRUPT past the end. */
export class RowReader {
  readonly #source: Uint8Array;
  #offset = 0;

  constructor(source: Uint8Array) {
    this.#source = source;
  }

  byte(): number {
    const value = this.#source[this.#offset++];
    if (value === undefined) throw new KvError("DATA_CORRUPT", "stored row is cut short");
    return value;
  }

  varint(): number {
    const value = readVarint(this.#source, this.#offset);
    this.#offset += varintSizeBytes(value);
    return value;
  }

  /** A view of the row. */
  bytes(sizeBytes: number): Uint8Array {
    const end = this.#offset + sizeBytes;
    if (end > this.#source.length) throw new KvError("DATA_CORRUPT", "stored row is cut short");
    const view = this.#source.subarray(this.#offset, end);
    this.#offset = end;
    return view;
  }

  end(): void {
    if (this.#offset !== this.#source.length) {
      throw new KvError("DATA_CORRUPT", "stored row has bytes behind its end");
    }
  }
}
