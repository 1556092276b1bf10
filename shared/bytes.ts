/**
 * Small helpers on byte strings. Views are made with `subarray`. `slice` is avoided: it copies a
 * `Uint8Array` but returns a view of a `Buffer`, and both kinds reach this code.
 */
const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const EMPTY_BYTES = new Uint8Array(0);

export const utf8 = (text: string): Uint8Array => encoder.encode(text);

/** The text of `bytes`. @throws TypeError when they are not UTF-8. */
export const utf8Decode = (bytes: Uint8Array): string => strictDecoder.decode(bytes);

/** One character per byte: the cheapest faithful string of bytes, for use as a key of a `Map`. */
export function latin1(bytes: Uint8Array): string {
  const buffer =
    bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return buffer.toString("latin1");
}

/** Order of unsigned bytes, shorter first on a common prefix: RocksDB's default order. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && compareBytes(a, b) === 0;
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** Writes `value` (a safe integer from 0) as 8 big-endian bytes: byte order is number order. */
export function writeUint64(target: Uint8Array, offset: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  const low = value >>> 0;
  target[offset] = high >>> 24;
  target[offset + 1] = high >>> 16;
  target[offset + 2] = high >>> 8;
  target[offset + 3] = high;
  target[offset + 4] = low >>> 24;
  target[offset + 5] = low >>> 16;
  target[offset + 6] = low >>> 8;
  target[offset + 7] = low;
}

/** Reads what `writeUint64` wrote. @throws RangeError beyond 2^53 - 1. */
export function readUint64(source: Uint8Array, offset: number): number {
  const value = readUint32(source, offset) * 2 ** 32 + readUint32(source, offset + 4);
  if (value > Number.MAX_SAFE_INTEGER) throw new RangeError("64-bit value beyond 2^53 - 1");
  return value;
}

export function writeUint32(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}

export function readUint32(source: Uint8Array, offset: number): number {
  return (
    ((source[offset]! << 24) |
      (source[offset + 1]! << 16) |
      (source[offset + 2]! << 8) |
      source[offset + 3]!) >>>
    0
  );
}

/** The least byte string greater than every string with this prefix; undefined if there is none. */
export function prefixEnd(prefix: Uint8Array): Uint8Array | undefined {
  for (let last = prefix.length - 1; last >= 0; last--) {
    if (prefix[last] !== 0xff) {
      const end = new Uint8Array(prefix.subarray(0, last + 1));
      end[last] = end[last]! + 1;
      return end;
    }
  }
  return undefined;
}
