/**
 * Which vshard a key lives in: `hash(tenant, space, partition key) % 256`.
 *
 * The hash is frozen by test vectors: changing it would lose every stored key. It is MurmurHash3
 * x86_32 (Austin Appleby, public domain) with seed 0 over
 *
 *     tenant id (4 bytes, big endian) | space (1 byte) | partition key
 *
 * The fixed-size head keeps the parts apart. The partition key is the whole key, unless the key has
 * a tag: the bytes between the first `{` and the next `}` after it, if there is at least one. Keys
 * with the same tag share a vshard (the rule of Redis Cluster's hash tags).
 */
import { type Space, type TenantId, VSHARD_COUNT, type VshardId } from "./ids.ts";

const OPEN = 0x7b;
const CLOSE = 0x7d;
const HEAD_SIZE_BYTES = 5;

export type KeyAddress = {
  readonly tenant: TenantId;
  readonly space: Space;
  readonly key: Uint8Array;
};

export function vshardOf(address: KeyAddress): VshardId {
  const { tenant, space, key } = address;
  let start = 0;
  let end = key.length;
  const open = key.indexOf(OPEN);
  if (open >= 0) {
    const close = key.indexOf(CLOSE, open + 1);
    if (close > open + 1) {
      start = open + 1;
      end = close;
    }
  }
  return (hash(tenant, space, key, start, end) % VSHARD_COUNT) as VshardId;
}

/**
 * The one vshard of all keys that begin with the bytes of `key`: there is one if these have a whole
 * tag in them. Else undefined, and the keys may be in any vshard.
 */
export function vshardOfPrefix(address: KeyAddress): VshardId | undefined {
  const { key } = address;
  const open = key.indexOf(OPEN);
  const close = open < 0 ? -1 : key.indexOf(CLOSE, open + 1);
  return close > open + 1 ? vshardOf(address) : undefined;
}

/** Byte `i` of head and partition key, without joining them. */
function byteAt(tenant: number, space: number, key: Uint8Array, start: number, i: number): number {
  if (i >= HEAD_SIZE_BYTES) return key[start + i - HEAD_SIZE_BYTES]!;
  return i === 4 ? space : (tenant >>> (24 - 8 * i)) & 0xff;
}

function hash(tenant: number, space: number, key: Uint8Array, start: number, end: number): number {
  const length = HEAD_SIZE_BYTES + end - start;
  const blocksEnd = length & ~3;
  let state = 0;
  for (let i = 0; i < blocksEnd; i += 4) {
    const block =
      byteAt(tenant, space, key, start, i) |
      (byteAt(tenant, space, key, start, i + 1) << 8) |
      (byteAt(tenant, space, key, start, i + 2) << 16) |
      (byteAt(tenant, space, key, start, i + 3) << 24);
    state ^= scramble(block);
    state = (state << 13) | (state >>> 19);
    state = (Math.imul(state, 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  for (let i = length - 1; i >= blocksEnd; i--) {
    tail = (tail << 8) | byteAt(tenant, space, key, start, i);
  }
  if (length > blocksEnd) state ^= scramble(tail);
  state ^= length;
  state ^= state >>> 16;
  state = Math.imul(state, 0x85ebca6b);
  state ^= state >>> 13;
  state = Math.imul(state, 0xc2b2ae35);
  return (state ^ (state >>> 16)) >>> 0;
}

function scramble(block: number): number {
  const mixed = Math.imul(block, 0xcc9e2d51);
  return Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
}
