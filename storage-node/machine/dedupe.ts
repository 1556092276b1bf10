/**
 * The dedupe window: results of commands by request id, until their deadline has passed.
 *
 * A gateway that got no answer sends its command again with the same request id. The second copy
 * must not be applied, and is answered with the result of the first.
 *
 * **Why a record may go when its deadline has passed in log time**: a command is refused when its
 * deadline lies before the entry's log time, and log time never decreases. From then on no copy can
 * be applied, recorded or not.
 *
 * **Buckets.** Records are dropped in buckets of `DEDUPE_BUCKET_MS` of their deadline, when log time
 * has reached a later bucket. A bucket is dropped whole in O(1), and a look-up asks few buckets. That
 * makes "is recorded" a function of the entries alone: a record lives as long as the bucket of its
 * deadline is not before the bucket of the log time. Replicas agree on it, and so does a replica that
 * was restarted. The width is therefore part of the state machine: change it for all replicas at
 * once, or never.
 *
 * **Memory** is bounded by rate × life: a record lives until its deadline and at most one bucket
 * longer (DEADLINE_MS_MAX + DEDUPE_BUCKET_MS at the most, about 15 s at the default deadline), and
 * takes about 100 bytes when its command has one mutation, because such a result is kept as a number.
 */
import type { MutationStatus, WriteResult } from "#proto/codec/messages.ts";
import { MutationStatus as Status } from "#proto/codec/messages.ts";
import { latin1 } from "#shared/bytes.ts";
import type { Revision } from "#shared/ids.ts";

export const DEDUPE_BUCKET_MS = 5_000;

export const bucketOf = (timeMs: number): number => Math.floor(timeMs / DEDUPE_BUCKET_MS);

/** Four low bits of a packed result hold status and `created`. */
const PACK = 16;
/** Larger ones are kept as objects. At a million changes a second that takes 17 years. */
const PACKED_REVISION_MAX = 2 ** 49 - 1;

type Kept = number | WriteResult;

function pack(result: WriteResult): Kept {
  const only = result.mutations[0];
  if (result.mutations.length !== 1 || !only || only.revision > PACKED_REVISION_MAX) return result;
  return only.revision * PACK + only.status * 2 + (only.created ? 1 : 0);
}

function unpack(kept: Kept): WriteResult {
  if (typeof kept !== "number") return kept;
  const bits = kept % PACK;
  const status = (bits >>> 1) as MutationStatus;
  const revision = ((kept - bits) / PACK) as Revision;
  return {
    kind: "write",
    // With a single mutation nothing but its own condition can keep the command from being applied.
    applied: status !== Status.ConditionFailed,
    mutations: [{ status, revision, created: (bits & 1) === 1 }],
  };
}

export class DedupeWindow {
  readonly #buckets = new Map<number, Map<string, Kept>>();

  /** Number of records. */
  get size(): number {
    let size = 0;
    for (const bucket of this.#buckets.values()) size += bucket.size;
    return size;
  }

  /** The result of the command with this id, if it is recorded. */
  get(requestId: Uint8Array): WriteResult | undefined {
    if (this.#buckets.size === 0) return undefined;
    const name = latin1(requestId);
    // All buckets are asked, and not only that of the command's own deadline: a client may retry
    // with a later one.
    for (const bucket of this.#buckets.values()) {
      const kept = bucket.get(name);
      if (kept !== undefined) return unpack(kept);
    }
    return undefined;
  }

  record(requestId: Uint8Array, deadlineMs: number, result: WriteResult): void {
    const at = bucketOf(deadlineMs);
    let bucket = this.#buckets.get(at);
    if (bucket === undefined) {
      bucket = new Map();
      this.#buckets.set(at, bucket);
    }
    bucket.set(latin1(requestId), pack(result));
  }

  /** Drops the buckets that lie before `logTimeMs`. */
  advance(logTimeMs: number): void {
    const now = bucketOf(logTimeMs);
    for (const at of this.#buckets.keys()) if (at < now) this.#buckets.delete(at);
  }
}
