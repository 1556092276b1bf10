/**
 * A token bucket for each address that was heard of lately, in bounded memory.
 *
 * Only a bucket that is full again is ever dropped: it then says nothing that a new one does not say.
 * So nobody can have his bucket forgotten by bringing many other addresses; what he would gain, time
 * alone gives him. While the table is full of buckets that are not, addresses without one share a few,
 * chosen by a hash: they are limited together, and nobody else is held up.
 */
import { TokenBucket } from "./token-bucket.ts";

/** Of the oldest entries, how many are looked at to make room for one. */
const LOOKED_AT = 8;
const SHARED_BUCKETS = 256;

export type AddressTableOptions = {
  readonly rate: number;
  readonly burst: number;
  readonly addressesMax: number;
};

export class AddressTable {
  readonly #options: AddressTableOptions;
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #shared = new Map<number, TokenBucket>();

  constructor(options: AddressTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#buckets.size;
  }

  bucketOf(network: string, nowMs: number): TokenBucket {
    const known = this.#buckets.get(network);
    if (known !== undefined) return known;
    const { rate, burst } = this.#options;
    if (!this.#makeRoom(nowMs)) return this.#sharedBucket(network, nowMs);
    const bucket = new TokenBucket(rate, burst, nowMs);
    this.#buckets.set(network, bucket);
    return bucket;
  }

  #makeRoom(nowMs: number): boolean {
    const buckets = this.#buckets;
    if (buckets.size < this.#options.addressesMax) return true;
    let looks = 0;
    for (const [network, bucket] of buckets) {
      if (looks++ === LOOKED_AT) break;
      buckets.delete(network);
      if (bucket.isFull(nowMs)) return true;
      // To the end: the next one who needs room looks at others.
      buckets.set(network, bucket);
    }
    return false;
  }

  #sharedBucket(network: string, nowMs: number): TokenBucket {
    const { rate, burst } = this.#options;
    const place = hashOf(network) % SHARED_BUCKETS;
    let bucket = this.#shared.get(place);
    if (bucket === undefined) {
      bucket = new TokenBucket(rate, burst, nowMs);
      this.#shared.set(place, bucket);
    }
    return bucket;
  }
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  return hash >>> 0;
}
