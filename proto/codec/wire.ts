/**
 * The primitives of the protobuf wire format, for the hand-written codec beside this file.
 *
 * Encoding takes two passes over the message: the first (`Sizes`) adds up lengths and remembers
 * those of embedded messages in the order in which they are met; the second (`Writer`) fills one
 * buffer of exactly that size, taking the remembered lengths in the same order. No intermediate
 * buffers or objects. Both passes must visit embedded messages alike: `Writer.finish` checks it.
 *
 * Decoding (`Reader`) treats its input as hostile: every read is bounded by the innermost message,
 * every loop consumes at least one byte per turn, and the number of list elements is bounded, so
 * that a small message cannot claim much memory. It throws `KvError` and nothing else.
 *
 * Stricter than the format asks: groups (wire types 3 and 4) are refused, 64-bit values beyond
 * 2^53 - 1 and 32-bit values beyond 2^32 - 1 are refused where a field is known (skipped fields may
 * hold any), and a second occurrence of a singular embedded message replaces the first one instead
 * of being merged into it. No encoder of these messages produces any of that.
 */
import { assert } from "#shared/assert.ts";
import { EMPTY_BYTES, utf8Decode } from "#shared/bytes.ts";
import { type ErrorCode, KvError } from "#shared/errors.ts";

/** Wire types, the low three bits of a tag. */
export const VARINT = 0;
export const LENGTH_DELIMITED = 2;
const FIXED64 = 1;
const FIXED32 = 5;

const VARINT_SIZE_BYTES_MAX = 10;
const UINT32_MAX = 0xffff_ffff;
/** Below this a loop over the bytes is faster than a call of `set`. */
const COPY_BY_LOOP_BYTES_MAX = 24;

/** Encoded size of an unsigned integer. @throws AssertionError unless a safe integer from 0. */
export function varintSize(value: number): number {
  // Also false for negative, fractional and NaN, which the slow path then reports.
  if ((value & 0x7f) === value) return 1;
  assert(Number.isSafeInteger(value) && value >= 0, "encoded numbers are safe integers from 0");
  let size = 2;
  for (let rest = value / 0x4000; rest >= 1; rest /= 0x80) size++;
  return size;
}

/** Size of a scalar field whose tag takes one byte; default values are left out. */
export function numberFieldSize(value: number): number {
  return value === 0 ? 0 : 1 + varintSize(value);
}

export function bytesFieldSize(bytes: Uint8Array): number {
  return bytes.length === 0 ? 0 : 1 + varintSize(bytes.length) + bytes.length;
}

export function stringFieldSize(text: string): number {
  if (text.length === 0) return 0;
  const length = Buffer.byteLength(text);
  return 1 + varintSize(length) + length;
}

/** Size of an embedded message field: tag, length, contents. */
export function messageFieldSize(contentSize: number): number {
  return 1 + varintSize(contentSize) + contentSize;
}

/** First pass: the sizes of embedded messages, in the order in which they begin. */
export class Sizes {
  readonly #sizes: number[] = [];
  #count = 0;
  #taken = 0;

  clear(): void {
    this.#count = 0;
    this.#taken = 0;
  }

  /** Keeps the place of an embedded message whose size is not known yet. */
  reserve(): number {
    const slot = this.#count++;
    if (slot === this.#sizes.length) this.#sizes.push(0);
    return slot;
  }

  /** Sets the size of the message at `slot` and returns the size of the field around it. */
  fill(slot: number, contentSize: number): number {
    this.#sizes[slot] = contentSize;
    return messageFieldSize(contentSize);
  }

  take(): number {
    return this.#sizes[this.#taken++]!;
  }

  get allTaken(): boolean {
    return this.#taken === this.#count;
  }
}

/** Second pass: fills a buffer of exactly the computed size. */
export class Writer {
  readonly #bytes: Buffer;
  readonly #sizes: Sizes;
  #position = 0;

  /** `sizes` must be what the first pass over the same message left, `size` its result. */
  constructor(size: number, sizes: Sizes) {
    this.#bytes = Buffer.allocUnsafe(size);
    this.#sizes = sizes;
  }

  varint(value: number): void {
    let rest = value;
    while (rest > UINT32_MAX) {
      this.#bytes[this.#position++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    while (rest > 0x7f) {
      this.#bytes[this.#position++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#position++] = rest;
  }

  numberField(tag: number, value: number): void {
    if (value === 0) return;
    this.#bytes[this.#position++] = tag;
    this.varint(value);
  }

  boolField(tag: number, value: boolean): void {
    if (!value) return;
    this.#bytes[this.#position++] = tag;
    this.#bytes[this.#position++] = 1;
  }

  bytesField(tag: number, value: Uint8Array): void {
    const length = value.length;
    if (length === 0) return;
    this.#bytes[this.#position++] = tag;
    this.varint(length);
    if (length <= COPY_BY_LOOP_BYTES_MAX) {
      for (let i = 0; i < length; i++) this.#bytes[this.#position + i] = value[i]!;
    } else {
      this.#bytes.set(value, this.#position);
    }
    this.#position += length;
  }

  stringField(tag: number, text: string): void {
    if (text.length === 0) return;
    this.#bytes[this.#position++] = tag;
    const length = Buffer.byteLength(text);
    this.varint(length);
    this.#position += this.#bytes.write(text, this.#position, length, "utf8");
  }

  /** Opens an embedded message; its fields are written next. */
  messageField(tag: number): void {
    this.#bytes[this.#position++] = tag;
    this.varint(this.#sizes.take());
  }

  /** An embedded message that has been encoded before. */
  encodedField(tag: number, bytes: Uint8Array): void {
    this.#bytes[this.#position++] = tag;
    this.varint(bytes.length);
    this.#bytes.set(bytes, this.#position);
    this.#position += bytes.length;
  }

  /** The encoded message. @throws AssertionError when the two passes disagree. */
  finish(): Uint8Array {
    const complete = this.#position === this.#bytes.length && this.#sizes.allTaken;
    assert(complete, "the size of an encoded message is known beforehand");
    return this.#bytes;
  }
}

export class Reader {
  readonly #bytes: Uint8Array;
  readonly #code: ErrorCode;
  readonly #elementsMax: number;
  #elements = 0;
  #position = 0;
  #end: number;

  /**
   * @param code of the error that malformed input throws
   * @param elementsMax list elements that the whole input may have
   */
  constructor(bytes: Uint8Array, code: ErrorCode, elementsMax: number) {
    this.#bytes = bytes;
    this.#code = code;
    this.#elementsMax = elementsMax;
    this.#end = bytes.length;
  }

  /** Whether the innermost open message has further fields. */
  get more(): boolean {
    return this.#position < this.#end;
  }

  /** The next field's number and wire type, as one number. */
  tag(): number {
    const tag = this.uint32();
    if (tag < 8) this.fail("field number 0");
    return tag;
  }

  /** An unsigned integer up to 2^53 - 1. */
  uint64(): number {
    const bytes = this.#bytes;
    let position = this.#position;
    if (position >= this.#end) this.fail("message is cut short");
    let byte = bytes[position++]!;
    let value = byte & 0x7f;
    // Beyond 2^53 sums are rounded, but never to below 2^53: the check at the end stands.
    for (let factor = 0x80; byte >= 0x80; factor *= 0x80) {
      if (position >= this.#end) this.fail("message is cut short");
      if (position - this.#position === VARINT_SIZE_BYTES_MAX) this.fail("number is too long");
      byte = bytes[position++]!;
      value += (byte & 0x7f) * factor;
    }
    if (value > Number.MAX_SAFE_INTEGER) this.fail("number is beyond 2^53 - 1");
    this.#position = position;
    return value;
  }

  uint32(): number {
    const value = this.uint64();
    if (value > UINT32_MAX) this.fail("number is beyond 2^32 - 1");
    return value;
  }

  bool(): boolean {
    return this.uint64() !== 0;
  }

  /** A view into the input. */
  bytes(): Uint8Array {
    const length = this.#length();
    if (length === 0) return EMPTY_BYTES;
    const start = this.#position;
    this.#position = start + length;
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + start, length);
  }

  string(): string {
    const length = this.#length();
    if (length === 0) return "";
    const start = this.#position;
    this.#position = start + length;
    const known = recall(this.#bytes, start, length);
    if (known !== undefined) return known;
    const view = this.#bytes.subarray(start, start + length);
    try {
      const text = utf8Decode(view);
      remember(view, text);
      return text;
    } catch (cause) {
      throw new KvError(this.#code, "malformed message: string is not UTF-8", { cause });
    }
  }

  /** Enters an embedded message (or packed list); returns what `leave` needs. */
  enter(): number {
    const length = this.#length();
    const outerEnd = this.#end;
    this.#end = this.#position + length;
    return outerEnd;
  }

  /** Leaves an embedded message, which must have been read to its end. */
  leave(outerEnd: number): void {
    this.#end = outerEnd;
  }

  /** To be called before each element of a list is kept. */
  countElement(): void {
    if (++this.#elements > this.#elementsMax) this.fail("too many list elements");
  }

  /** Steps over a field that this version does not know. */
  skip(tag: number): void {
    switch (tag & 7) {
      case VARINT:
        this.#skipVarint();
        break;
      case FIXED64:
        this.#skipBytes(8);
        break;
      case LENGTH_DELIMITED:
        this.#skipBytes(this.#length());
        break;
      case FIXED32:
        this.#skipBytes(4);
        break;
      default:
        this.fail("unknown wire type");
    }
  }

  fail(what: string): never {
    throw new KvError(this.#code, `malformed message: ${what}, at byte ${this.#position}`);
  }

  #length(): number {
    const length = this.uint64();
    if (length > this.#end - this.#position) this.fail("length reaches beyond its message");
    return length;
  }

  #skipBytes(count: number): void {
    if (count > this.#end - this.#position) this.fail("message is cut short");
    this.#position += count;
  }

  #skipVarint(): void {
    for (let i = 0; i < VARINT_SIZE_BYTES_MAX; i++) {
      if (this.#position >= this.#end) this.fail("message is cut short");
      if (this.#bytes[this.#position++]! < 0x80) return;
    }
    this.fail("number is too long");
  }
}

/**
 * Strings on the hot path are content types: few and always the same. Comparing bytes with the last
 * string that fell on the same slot is several times cheaper than decoding UTF-8 anew.
 */
const RECALLED_SIZE_BYTES_MAX = 64;
const RECALLED_SLOTS = 64;
type Recalled = { readonly bytes: Uint8Array; readonly text: string };
const recalled: (Recalled | undefined)[] = new Array(RECALLED_SLOTS).fill(undefined);

function slotOf(bytes: Uint8Array, start: number, length: number): number {
  const mixed = length + 7 * bytes[start + (length >> 1)]! + 31 * bytes[start + length - 1]!;
  return mixed % RECALLED_SLOTS;
}

function recall(bytes: Uint8Array, start: number, length: number): string | undefined {
  if (length > RECALLED_SIZE_BYTES_MAX) return undefined;
  const candidate = recalled[slotOf(bytes, start, length)];
  if (candidate === undefined || candidate.bytes.length !== length) return undefined;
  for (let i = 0; i < length; i++) {
    if (candidate.bytes[i] !== bytes[start + i]) return undefined;
  }
  return candidate.text;
}

function remember(view: Uint8Array, text: string): void {
  if (view.length > RECALLED_SIZE_BYTES_MAX) return;
  // A copy: the view's buffer belongs to the caller and must not be kept alive from here.
  recalled[slotOf(view, 0, view.length)] = { bytes: new Uint8Array(view), text };
}
