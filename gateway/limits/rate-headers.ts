/**
 * What answers say of rates: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers,
 * structured fields) with every policy that applies, and `X-RateLimit-*`, which minikv always had, with
 * the first of them.
 */
import type { TokenBucket } from "./token-bucket.ts";

/** One bound: its name and quota as answers give them. */
export type RatePolicy = {
  readonly name: "address" | "tenant" | "tenant-bytes";
  /** In a second, of requests or bytes. */
  readonly quota: number;
  /** As an item of `RateLimit-Policy`. */
  readonly item: string;
};

export function ratePolicy(name: RatePolicy["name"], quota: number): RatePolicy {
  const unit = name === "tenant-bytes" ? ';qu="content-bytes"' : "";
  return { name, quota, item: `"${name}";q=${quota};w=1${unit}` };
}

/** A policy and where the caller stands in it. */
export type RateState = { readonly policy: RatePolicy; readonly bucket: TokenBucket };

/** Names and values in turn. `states` has at least one, the one for `X-RateLimit-*` first. */
export function rateHeaders(states: readonly RateState[], nowMs: number): readonly string[] {
  const { policy, bucket } = states[0]!;
  let policies = "";
  let limits = "";
  for (const state of states) {
    const separator = policies === "" ? "" : ", ";
    policies += separator + state.policy.item;
    limits += `${separator}"${state.policy.name}";r=${remaining(state.bucket, nowMs)}`;
    limits += `;t=${resetSeconds(state.bucket, nowMs)}`;
  }
  return [
    ...["RateLimit-Policy", policies, "RateLimit", limits],
    ...["X-RateLimit-Limit", String(policy.quota)],
    ...["X-RateLimit-Remaining", String(remaining(bucket, nowMs))],
    ...["X-RateLimit-Reset", String(resetSeconds(bucket, nowMs))],
  ];
}

const remaining = (bucket: TokenBucket, nowMs: number): number =>
  Math.max(0, Math.floor(bucket.level(nowMs)));

/** Until all of it is there again. */
const resetSeconds = (bucket: TokenBucket, nowMs: number): number =>
  wholeSeconds(bucket.waitMs(bucket.burst, nowMs));

/** For `Retry-After`: at least 1, so that nobody asks again at once. */
export const retrySeconds = (waitMs: number): number => Math.max(1, wholeSeconds(waitMs));

/** A gateway that has no share of a rate gets one soon when it is asked: that is no time to name. */
const wholeSeconds = (waitMs: number): number =>
  Number.isFinite(waitMs) ? Math.ceil(waitMs / 1000) : 1;
