/**
 * Trap of both RocksDB bindings: a zero-length buffer of its own has no address, and RocksDB compiled
 * with assertions aborts the process when it compares such a key. A zero-length view of a byte has an
 * address.
 */
const EMPTY_KEY = new Uint8Array(1).subarray(0, 0);

export function nativeKey(key: Uint8Array): Uint8Array {
  return key.length === 0 ? EMPTY_KEY : key;
}
