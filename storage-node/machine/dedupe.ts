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
 * **Buckets.** Records die in buckets of `DEDUPE_BUCKET_MS` of their deadline, all of a bucket when
 * log time has reached a later one. That makes "is recorded" a function of the entries alone: a record
 * lives as long as the bucket of its deadline is not before the bucket of the log time. Replicas agree
 * on it, and so does a replica that was restarted. The width is therefore part of the state machine:
 * change it for all replicas at once, or never.
 *
 * **An id is looked for in all buckets**, not only in that of the command's own deadline. A gateway
 * sends all copies of a write with one deadline, but nothing in a command binds its id to it, and
 * whoever repeats a request under an id of its own comes with a later deadline: if only the bucket of
 * that deadline were asked, the copy would be applied again.
 *
 * **Memory** is bounded by rate × life: a record lives until its deadline and at most one bucket
 * longer (DEADLINE_MS_MAX + DEDUPE_BUCKET_MS at the most, about 15 s at the default deadline). All of
 * it lies outside the heap: the result of a command with one mutation is a number in a table (some
 * 80 to 160 bytes each, see `dedupe-table.ts`), that of one with several lies packed in a buffer of its
 * bucket (see `result-arena.ts`), and the number in the table says where. Only what fits neither is
 * kept as it is.
 */
import type { MutationStatus, WriteResult } from "#proto/codec/messages.ts";
import { MutationStatus as Status } from "#proto/codec/messages.ts";
import { latin1 } from "#shared/bytes.ts";
import type { Revision } from "#shared/ids.ts";
import { REQUEST_ID_SIZE_BYTES } from "#shared/limits.ts";
import { DedupeTable, TABLE_BUCKET_MAX } from "./dedupe-table.ts";
import { ResultArena } from "./result-arena.ts";

export const DEDUPE_BUCKET_MS = 5_000;

export const bucketOf = (timeMs: number): number => Math.floor(timeMs / DEDUPE_BUCKET_MS);

/** Four low bits of a packed result hold status and `created`. */
const PACK = 16;
/** Larger ones are kept as objects. At a million changes a second that takes 17 years. */
const PACKED_REVISION_MAX = 2 ** 49 - 1;

/** In the place of a status: the number says where the result lies. No status has this value. */
const ELSEWHERE = 0;
/** A place is the bucket modulo this, and the offset in the bucket's arena. */
const ARENA_BUCKETS = 2 ** 12;
const ARENA_OFFSET_MAX = 2 ** 32 - 1;

/** The result as a safe integer; undefined if it does not fit one. */
function pack(result: WriteResult): number | undefined {
  const only = result.mutations[0];
  if (result.mutations.length !== 1 || !only || only.revision > PACKED_REVISION_MAX) return;
  return only.revision * PACK + only.status * 2 + (only.created ? 1 : 0);
}

function unpack(packed: number): WriteResult {
  const bits = packed % PACK;
  const status = (bits >>> 1) as MutationStatus;
  const revision = ((packed - bits) / PACK) as Revision;
  return {
    kind: "write",
    // With a single mutation nothing but its own condition can keep the command from being applied.
    applied: status !== Status.ConditionFailed,
    mutations: [{ status, revision, created: (bits & 1) === 1 }],
  };
}

export class DedupeWindow {
  readonly #packed = new DedupeTable();
  /** By bucket modulo ARENA_BUCKETS. Buckets that live at the same time are near one another. */
  readonly #arenas = new Map<number, { readonly bucket: number; readonly arena: ResultArena }>();
  /** Results that neither can hold, by bucket. */
  readonly #others = new Map<number, Map<string, WriteResult>>();

  /** Number of records. Looks at all of them. */
  get size(): number {
    let { size } = this.#packed;
    for (const bucket of this.#others.values()) size += bucket.size;
    return size;
  }

  /** The result of the command with this id, if it is recorded. */
  get(requestId: Uint8Array): WriteResult | undefined {
    // A command with an id of another size is refused: there is no record of any.
    if (requestId.length !== REQUEST_ID_SIZE_BYTES) return undefined;
    const packed = this.#packed.get(requestId);
    if (packed !== undefined) return this.#unpack(packed);
    if (this.#others.size === 0) return undefined;
    const name = latin1(requestId);
    for (const bucket of this.#others.values()) {
      const result = bucket.get(name);
      if (result !== undefined) return result;
    }
    return undefined;
  }

  /**
   * Records the result of a command whose id is not recorded, and whose deadline's bucket has not
   * been dropped. The id is copied.
   */
  record(requestId: Uint8Array, deadlineMs: number, result: WriteResult): void {
    const at = bucketOf(deadlineMs);
    const packed =
      at > TABLE_BUCKET_MAX ? undefined : (pack(result) ?? this.#packElsewhere(at, result));
    if (packed !== undefined) {
      this.#packed.add(requestId, packed, at);
      return;
    }
    let bucket = this.#others.get(at);
    if (bucket === undefined) {
      bucket = new Map();
      this.#others.set(at, bucket);
    }
    bucket.set(latin1(requestId), result);
  }

  /** Drops the buckets that lie before `logTimeMs`. */
  advance(logTimeMs: number): void {
    const now = bucketOf(logTimeMs);
    this.#packed.dropBefore(now);
    for (const [slot, { bucket }] of this.#arenas) if (bucket < now) this.#arenas.delete(slot);
    for (const at of this.#others.keys()) if (at < now) this.#others.delete(at);
  }

  /** Puts the result into its bucket's arena; the number that leads there, unless there is none. */
  #packElsewhere(bucket: number, result: WriteResult): number | undefined {
    const slot = bucket % ARENA_BUCKETS;
    let place = this.#arenas.get(slot);
    if (place === undefined) {
      place = { bucket, arena: new ResultArena() };
      this.#arenas.set(slot, place);
    }
    if (place.bucket !== bucket || place.arena.sizeBytes > ARENA_OFFSET_MAX) return undefined;
    return (slot * 2 ** 32 + place.arena.add(result)) * PACK + ELSEWHERE;
  }

  #unpack(packed: number): WriteResult {
    if (packed % PACK !== ELSEWHERE) return unpack(packed);
    const place = (packed - ELSEWHERE) / PACK;
    const slot = Math.floor(place / 2 ** 32);
    return this.#arenas.get(slot)!.arena.get(place % 2 ** 32);
  }
}
