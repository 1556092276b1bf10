/**
 * Values that prove what they are: whose key, which write, how long, and a checksum over all of it.
 *
 * Half of one write and half of another, a value under a wrong key, or one byte off do not verify.
 */
import { crc32 } from "node:zlib";
import { SeededRandom } from "#shared/random.ts";

const BLOCK_SIZE_BYTES = 1024 * 1024;
/** Every value's filler is a piece of it: drawing so many random numbers per value is slow. */
const BLOCK = Buffer.from(new SeededRandom(1).fill(new Uint8Array(BLOCK_SIZE_BYTES)));

const CHECKSUM_CHARACTERS = 8;

export type Stamp = {
  readonly key: string;
  /** Number of the write among those of its key. */
  readonly sequence: number;
};

/** A value of at least `sizeBytes` (at most 512 KiB are useful) that carries `stamp`. */
export function makePayload(stamp: Stamp, sizeBytes: number): Buffer {
  const head = ` ${sizeBytes} ${stamp.key} ${stamp.sequence}\n`;
  const fillerBytes = Math.max(0, sizeBytes - CHECKSUM_CHARACTERS - head.length);
  const offset = (stamp.sequence * 4099) % (BLOCK_SIZE_BYTES - fillerBytes);
  const rest = Buffer.concat([Buffer.from(head), BLOCK.subarray(offset, offset + fillerBytes)]);
  return Buffer.concat([Buffer.from(checksum(rest)), rest]);
}

/** Sequence of the write that made `value`. @throws Error when it is no whole value of `key`. */
export function verifyPayload(key: string, value: Buffer): number {
  const rest = value.subarray(CHECKSUM_CHARACTERS);
  const expected = value.toString("latin1", 0, CHECKSUM_CHARACTERS);
  if (checksum(rest) !== expected) {
    throw new Error(`the value of ${key} (${value.length} bytes) fails its checksum`);
  }
  const head = rest.toString("latin1", 0, rest.indexOf("\n"));
  const [, , of, sequence] = head.split(" ");
  if (of !== key) throw new Error(`the value of ${key} is one of ${of}`);
  return Number(sequence);
}

const checksum = (bytes: Uint8Array): string =>
  crc32(bytes).toString(16).padStart(CHECKSUM_CHARACTERS, "0");
