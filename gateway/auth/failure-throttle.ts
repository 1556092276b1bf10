/**
 * How often something may fail: a bucket of tokens for each name, of which a failure takes one.
 *
 * Only names with failures are remembered, and at most so many; the one whose last failure is longest ago
 * is forgotten first. Whoever can use more names than that (a whole IPv6 network counts as one) is not
 * held by this, and is held by what bounds all attempts together.
 */
import { limitedNetwork, normalAddress } from "#gateway/limits/address.ts";
import type { Clock } from "#shared/clock.ts";

type Bucket = { tokens: number; atMs: number };

export type ThrottleOptions = {
  readonly clock: Clock;
  readonly burst: number;
  readonly perSecond: number;
  readonly trackedMax: number;
};

export class FailureThrottle {
  readonly #options: ThrottleOptions;
  /** The one whose last failure is longest ago first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: ThrottleOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** How long to wait before the next attempt, milliseconds; 0 when it is allowed now. */
  waitMs(name: string): number {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) return 0;
    const { clock, perSecond } = this.#options;
    const tokens = this.#tokensOf(bucket, clock.monotonicMs());
    return tokens >= 1 ? 0 : Math.ceil(((1 - tokens) / perSecond) * 1000);
  }

  fail(name: string): void {
    const { clock, burst, trackedMax } = this.#options;
    const atMs = clock.monotonicMs();
    const bucket = this.#buckets.get(name);
    const tokens = bucket === undefined ? burst : this.#tokensOf(bucket, atMs);
    this.#buckets.delete(name);
    this.#buckets.set(name, { tokens: Math.max(0, tokens - 1), atMs });
    if (this.#buckets.size <= trackedMax) return;
    for (const oldest of this.#buckets.keys()) {
      this.#buckets.delete(oldest);
      break;
    }
  }

  /** Takes back a failure that was none: work that was counted before its end was known. */
  forgive(name: string): void {
    const bucket = this.#buckets.get(name);
    if (bucket !== undefined) bucket.tokens = Math.min(this.#options.burst, bucket.tokens + 1);
  }

  #tokensOf({ tokens, atMs }: Bucket, nowMs: number): number {
    const { burst, perSecond } = this.#options;
    return Math.min(burst, tokens + ((nowMs - atMs) / 1000) * perSecond);
  }
}

/** One name for all addresses of one host. All that is no address has one name too. */
export const throttledAddress = (address: string): string =>
  limitedNetwork(normalAddress(address) ?? "");
