/**
 * The rates of one tenant at this gateway: the tenant's limits times the share of them that the leader
 * of the meta group has given to this gateway, by what was asked of each gateway.
 *
 * Shares add up to 1, so what all gateways let through adds up to the limit, but for: a share that has
 * shrunk and of which its gateway has not heard, while another has heard of its larger one (for as long
 * as news is under way); one operation for each gateway, which a bucket of less than one lets pass; and a
 * gateway that the leader has given up while it still runs. When the leader has been silent for
 * `RATE_SHARE_KEPT_MS`, a gateway gives out at most an equal part, whatever it had: gateways that are all
 * cut off stay within the limit together, and one that is cut off alone exceeds it by its part at most.
 * `rate-model.test.ts` holds it.
 */
import type { Directory, TenantDemand } from "#gateway/directory/directory.ts";
import type { Tenant } from "#gateway/tenants/registry.ts";
import { RATE_BURST_SECONDS, RATE_SHARE_KEPT_MS, RATE_SHARE_REFRESH_MS } from "#shared/limits.ts";
import { type RateState, ratePolicy } from "./rate-headers.ts";
import { TokenBucket } from "./token-bucket.ts";

export class TenantRate {
  readonly #tenant: Tenant;
  readonly #directory: Directory;
  /** Undefined without that limit. */
  readonly requests: RateState | undefined;
  readonly bytes: RateState | undefined;
  /** Those of the two that there are. */
  readonly states: readonly RateState[];
  #refreshedAtMs: number;
  #requestsAsked = 0;
  #bytesAsked = 0;
  #askedSinceMs: number;

  /** Takes over what is left of `before`, so that a change of quotas fills no bucket. */
  constructor(tenant: Tenant, directory: Directory, nowMs: number, before?: TenantRate) {
    this.#tenant = tenant;
    this.#directory = directory;
    this.#refreshedAtMs = nowMs;
    this.#askedSinceMs = nowMs;
    const { requestsPerSecond, requestBytesPerSecond } = tenant.quotas;
    const share = this.#share();
    const state = (
      name: "tenant" | "tenant-bytes",
      rate: number,
      part: number,
      old?: RateState,
    ) => {
      if (rate === 0) return undefined;
      const bucket = new TokenBucket(rate * part, rate * part * RATE_BURST_SECONDS, nowMs);
      if (old !== undefined) bucket.lower(old.bucket.level(nowMs), nowMs);
      return { policy: ratePolicy(name, rate), bucket };
    };
    this.requests = state("tenant", requestsPerSecond, share.requests, before?.requests);
    this.bytes = state("tenant-bytes", requestBytesPerSecond, share.bytes, before?.bytes);
    this.states = [this.requests, this.bytes].filter((kind) => kind !== undefined);
  }

  /** To be called before the buckets are looked at. */
  refresh(nowMs: number): void {
    if (nowMs - this.#refreshedAtMs < RATE_SHARE_REFRESH_MS) return;
    this.#refreshedAtMs = nowMs;
    const share = this.#share();
    const resize = (state: RateState | undefined, part: number): void => {
      if (state === undefined) return;
      const rate = state.policy.quota * part;
      if (rate !== state.bucket.rate) state.bucket.resize(rate, rate * RATE_BURST_SECONDS, nowMs);
    };
    resize(this.requests, share.requests);
    resize(this.bytes, share.bytes);
  }

  #share() {
    const directory = this.#directory;
    const share = directory.shareOf(this.#tenant.id);
    if (directory.silenceMs() <= RATE_SHARE_KEPT_MS) return share;
    const equal = 1 / Math.max(1, directory.gateways);
    return { requests: Math.min(share.requests, equal), bytes: Math.min(share.bytes, equal) };
  }

  /** Notes what was asked, admitted or not. */
  note(requests: number, bytes: number): void {
    this.#requestsAsked += requests;
    this.#bytesAsked += bytes;
  }

  /** Since it was last asked for; undefined when nothing was. */
  takeDemand(nowMs: number): TenantDemand | undefined {
    const seconds = Math.max(nowMs - this.#askedSinceMs, 1) / 1000;
    const demand = {
      requestsPerSecond: this.#requestsAsked / seconds,
      bytesPerSecond: this.#bytesAsked / seconds,
    };
    const isAsked = this.#requestsAsked > 0 || this.#bytesAsked > 0;
    this.#requestsAsked = 0;
    this.#bytesAsked = 0;
    this.#askedSinceMs = nowMs;
    return isAsked ? demand : undefined;
  }
}
