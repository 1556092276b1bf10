/** Proposed values: each begins with a number that no other has, and is padded to a drawn size. */

export const VALUE_SIZE_BYTES_MIN = 4;

export function makeValue(number: number, sizeBytes: number): Uint8Array {
  const data = new Uint8Array(Math.max(sizeBytes, VALUE_SIZE_BYTES_MIN));
  data[0] = number >>> 24;
  data[1] = number >>> 16;
  data[2] = number >>> 8;
  data[3] = number;
  return data;
}

/** 0 for the entry that opens a term. */
export function numberOf(data: Uint8Array): number {
  if (data.length < VALUE_SIZE_BYTES_MIN) return 0;
  return ((data[0]! << 24) | (data[1]! << 16) | (data[2]! << 8) | data[3]!) >>> 0;
}
