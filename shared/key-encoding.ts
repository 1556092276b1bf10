/**
 * The one order-preserving encoding of a key with its tenant and space:
 *
 *     tenant id (4 bytes, big endian) | space (1 byte) | key bytes
 *
 * Encoded keys compare, as unsigned bytes, as their parts do: tenant first, then space, then key.
 * No escaping and no terminator is needed, because the head has a fixed size and the one part of
 * variable size stands last: where two encodings differ first inside the head, number order decides
 * (big endian); behind equal heads nothing is left but the keys, and a key that is a prefix of
 * another sorts before it. For the same reason all keys of a tenant, or of one of its spaces, are
 * one contiguous range.
 */
import { readUint32, writeUint32 } from "./bytes.ts";
import type { Space, TenantId } from "./ids.ts";
import type { KeyAddress } from "./vshard.ts";

/** Bytes before the key. */
export const KEY_HEAD_SIZE_BYTES = 5;

export function encodedKeySizeBytes(address: KeyAddress): number {
  return KEY_HEAD_SIZE_BYTES + address.key.length;
}

/** Writes the encoding to `target` from `offset` on; returns the offset behind it. */
export function encodeKey(target: Uint8Array, offset: number, address: KeyAddress): number {
  writeUint32(target, offset, address.tenant);
  target[offset + 4] = address.space;
  target.set(address.key, offset + KEY_HEAD_SIZE_BYTES);
  return offset + KEY_HEAD_SIZE_BYTES + address.key.length;
}

/**
 * Reads an encoding that reaches from `offset` to the end of `source`. The key is a view.
 * @throws RangeError when the head is not whole.
 */
export function decodeKey(source: Uint8Array, offset: number): KeyAddress {
  if (source.length - offset < KEY_HEAD_SIZE_BYTES)
    throw new RangeError("encoded key is cut short");
  return {
    tenant: readUint32(source, offset) as TenantId,
    space: source[offset + 4] as Space,
    key: source.subarray(offset + KEY_HEAD_SIZE_BYTES),
  };
}
