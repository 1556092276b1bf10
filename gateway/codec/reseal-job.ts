/**
 * The job that brings all values of a tenant under its newest data key, and then drops the older keys:
 * what rotating a key comes to. Values that were stored before encryption was switched on are encrypted
 * by it too.
 *
 * **When an old key may go.** A key that is dropped too early is data lost. Values can come under an old
 * key as long as a gateway has not heard of the newer one, or a write that it has sent is under way. What
 * bounds that: a gateway that has not heard of the directory for `DATA_KEY_SILENCE_MS_MAX` encrypts
 * nothing (`data-keys.ts`), and a write is stamped by its deadline or never. So the keys go only with a
 * pass over all values that began `DATA_KEY_GRACE_MS` after the rotation, when all that was written before it was
 * settled (`storage/settle.ts`), and found nothing under them. A reseal that was held up is such a write too.
 *
 * That time is counted by the monotonic clock of the gateway that does the job, while it does it; when
 * another takes over, it goes on from what was last saved, which can only make it longer.
 *
 * A value that cannot be read is left as it is, and then so are the keys.
 */
import type { Directory, DirectoryMutation } from "#gateway/directory/directory.ts";
import type { JobKind, JobStep, JobStepContext } from "#gateway/jobs/job.ts";
import { settleWrites } from "#gateway/storage/settle.ts";
import type {
  CallOptions,
  ResealableStorage,
  ScannedRow,
  ScanPage,
} from "#gateway/storage/storage.ts";
import { concatBytes, EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { type TenantId, toTenantId } from "#shared/ids.ts";
import { JOB_PAUSE_MS_MAX } from "#shared/limits.ts";
import {
  DATA_KEY_GRACE_MS,
  RESEAL_BYTES_PER_STEP,
  RESEAL_OLD_KEYS_PER_STEP,
  RESEAL_PAUSE_MS,
  RESEAL_ROWS_PER_STEP,
  RESEALS_IN_FLIGHT_MAX,
} from "#shared/limits-codec.ts";
import {
  currentNumberOf,
  dataKeyRowName,
  dataKeyRowsOf,
  parseDataKeyRowName,
} from "./data-key-rows.ts";
import { dataKeyNumberOf, type ValueCodec } from "./value-codec.ts";

const KIND = "reseal";
const BEHIND = new Uint8Array(1);

export const RESEAL_JOBS = `job/${KIND}/`;

export const resealJobName = (tenant: TenantId): string =>
  `${KIND}/${tenant.toString(16).padStart(8, "0")}`;

/** How far it is. JSON in the job's row. */
export type Resealing = {
  /** The data key that all values are to be under, or a newer one. */
  readonly number: number;
  readonly phase: "pass" | "waiting";
  readonly examined: number;
  readonly resealed: number;
  /** Of the pass: values that cannot be read. */
  readonly unreadable: number;
  /** Until a pass can be the last one. */
  readonly waitMs: number;
  /** Of the pass: the last key that was looked at, in hex. */
  readonly lastKey: string;
  /** Of the pass: values that were under another key. */
  readonly found: number;
  /** Of the pass: it began when nothing could come under an old key any more. */
  readonly isLast: boolean;
};

const START: Resealing = {
  number: 0,
  phase: "pass",
  examined: 0,
  resealed: 0,
  unreadable: 0,
  waitMs: DATA_KEY_GRACE_MS,
  lastKey: "",
  found: 0,
  isLast: false,
};

export const newResealing = (number: number): Uint8Array => encode({ ...START, number });

const encode = (resealing: Resealing): Uint8Array => utf8(JSON.stringify(resealing));

/** @throws KvError DATA_CORRUPT: without its number, it could drop keys that are needed */
export function decodeResealing(progress: Uint8Array): Resealing {
  try {
    const read = JSON.parse(Buffer.from(progress).toString("utf8")) as Partial<Resealing>;
    if (Number.isSafeInteger(read.number) && read.number! > 0) return { ...START, ...read };
  } catch (cause) {
    throw new KvError("DATA_CORRUPT", "the job's progress does not decode", { cause });
  }
  throw new KvError("DATA_CORRUPT", "the job's progress names no data key");
}

export type ResealJobParts = {
  readonly directory: Directory;
  /** The storage itself: beneath quotas and encryption. */
  readonly storage: ResealableStorage;
  readonly codec: ValueCodec;
  readonly clock: Clock;
};

/** `number` is that of the rotation's data key: the next rotation of a tenant has the same job. */
type Wait = { readonly number: number; readonly waitMs: number; readonly atMs: number };

export class ResealJob implements JobKind {
  readonly kind = KIND;
  readonly #parts: ResealJobParts;
  /** When this gateway has last said what was left to wait, and what. */
  readonly #waits = new Map<string, Wait>();

  constructor(parts: ResealJobParts) {
    this.#parts = parts;
  }

  async step(progress: Uint8Array, context: JobStepContext): Promise<JobStep> {
    const { id } = context;
    const tenant = toTenantId(Number.parseInt(id, 16));
    const resealing = this.#waited(id, decodeResealing(progress));
    const current = currentNumberOf(this.#parts.directory, tenant);
    // The tenant was deleted, and its keys with it.
    if (current === 0) return this.#done(id, []);
    if (current < resealing.number)
      throw new KvError("UNAVAILABLE", "the data key is not known yet");
    const { next, isDone } = await this.#advance(tenant, resealing, context);
    const oldKeys = isDone ? this.#oldKeysOf(tenant, next) : [];
    const isMuch = oldKeys.length > RESEAL_OLD_KEYS_PER_STEP;
    if (isDone && !isMuch) return this.#done(id, oldKeys);
    // Of earlier rotations, whose values could not be read then. The end of the pass is looked at once more.
    if (isMuch) await this.#drop(oldKeys.slice(0, RESEAL_OLD_KEYS_PER_STEP), context);
    const { number, waitMs } = next;
    this.#waits.set(id, { number, waitMs, atMs: this.#parts.clock.monotonicMs() });
    const isWaiting = next.phase === "waiting";
    const pauseMs = isWaiting ? Math.min(next.waitMs, JOB_PAUSE_MS_MAX) : RESEAL_PAUSE_MS;
    return { kind: "more", progress: encode(next), pauseMs };
  }

  #done(id: string, mutations: readonly DirectoryMutation[]): JobStep {
    this.#waits.delete(id);
    return { kind: "done", mutations };
  }

  #waited(id: string, resealing: Resealing): Resealing {
    const wait = this.#waits.get(id);
    // What was left behind by an earlier rotation, which others have ended, counts for nothing in this one.
    if (wait === undefined || wait.number !== resealing.number) return resealing;
    // Another gateway has counted meanwhile: the same time must not be counted twice.
    if (wait.waitMs !== resealing.waitMs) return resealing;
    const passedMs = this.#parts.clock.monotonicMs() - wait.atMs;
    return { ...resealing, waitMs: Math.max(0, Math.ceil(resealing.waitMs - passedMs)) };
  }

  async #advance(
    tenant: TenantId,
    resealing: Resealing,
    context: JobStepContext,
  ): Promise<{ readonly next: Resealing; readonly isDone: boolean }> {
    const pass = { phase: "pass", lastKey: "", found: 0, unreadable: 0 } as const;
    const goOn = (next: Resealing) => ({ next, isDone: false });
    if (resealing.phase === "waiting") {
      if (resealing.waitMs > 0) return goOn(resealing);
      // Only the step that ends the waiting settles: passes behind it may be the last one.
      await settleWrites(this.#parts.storage, tenant, context.deadlineMs);
      return goOn({ ...resealing, ...pass, isLast: true });
    }
    const page = await this.#page(tenant, resealing, context);
    const next = await this.#resealAll(tenant, page.rows, resealing, context);
    if (page.hasMore && page.lastKey !== undefined) {
      return goOn({ ...next, lastKey: Buffer.from(page.lastKey).toString("hex") });
    }
    if (!next.isLast) return goOn({ ...next, phase: "waiting", lastKey: "" });
    // What was found came late: all is looked at once more.
    if (next.found > next.unreadable) return goOn({ ...next, ...pass });
    return { next, isDone: true };
  }

  #page(tenant: TenantId, { lastKey }: Resealing, options: JobStepContext): Promise<ScanPage> {
    const start = lastKey === "" ? EMPTY_BYTES : concatBytes(Buffer.from(lastKey, "hex"), BEHIND);
    const query = { tenant, start, end: EMPTY_BYTES, reverse: false, keysOnly: false };
    const scan = this.#parts.storage.scan({ ...query, isStream: false });
    const limits = { rowsMax: RESEAL_ROWS_PER_STEP, bytesMax: RESEAL_BYTES_PER_STEP };
    return scan.nextPage(limits, { deadlineMs: options.deadlineMs });
  }

  async #resealAll(
    tenant: TenantId,
    rows: readonly ScannedRow[],
    resealing: Resealing,
    { deadlineMs }: JobStepContext,
  ): Promise<Resealing> {
    const isOld = (row: ScannedRow) => (numberOf(row) ?? 0) < resealing.number;
    const old = rows.filter(isOld);
    let unreadable = 0;
    for (let from = 0; from < old.length; from += RESEALS_IN_FLIGHT_MAX) {
      const some = old.slice(from, from + RESEALS_IN_FLIGHT_MAX);
      const ended = await Promise.all(some.map((row) => this.#reseal(tenant, row, { deadlineMs })));
      unreadable += ended.filter((isReadable) => !isReadable).length;
    }
    return {
      ...resealing,
      examined: resealing.examined + rows.length,
      resealed: resealing.resealed + old.length - unreadable,
      found: resealing.found + old.length,
      unreadable: resealing.unreadable + unreadable,
    };
  }

  /** False when the value cannot be read. A key that is changed meanwhile is under the newest key. */
  async #reseal(tenant: TenantId, row: ScannedRow, options: CallOptions): Promise<boolean> {
    const { storage, codec } = this.#parts;
    const { key, revision, contentType, modifiedAtMs } = row;
    const ref = { tenant, key };
    let value: Uint8Array;
    try {
      value = await codec.open(ref, row, options.deadlineMs);
    } catch (error) {
      if (error instanceof KvError && this.#isFinal(error, tenant, row)) return false;
      throw error;
    }
    const sealed = await codec.seal(ref, value, options.deadlineMs);
    await storage.reseal(ref, { revision, contentType, modifiedAtMs, ...sealed }, options);
    return true;
  }

  /** Whether trying again is of no use: damage, or a data key that is gone. A master key may yet be given. */
  #isFinal({ code }: KvError, tenant: TenantId, row: ScannedRow): boolean {
    if (code !== "ENCRYPTION_KEY_MISSING") return code === "DATA_CORRUPT";
    const number = numberOf(row);
    if (number === undefined) return false;
    return this.#parts.directory.get(dataKeyRowName(tenant, number)) === undefined;
  }

  /** Some of them, when all together are more than one change may have. */
  async #drop(oldKeys: readonly DirectoryMutation[], { deadlineMs }: JobStepContext) {
    if (await this.#parts.directory.change(oldKeys, { deadlineMs })) return;
    throw new KvError("UNAVAILABLE", "old data keys were not removed");
  }

  #oldKeysOf(tenant: TenantId, { number, unreadable }: Resealing): readonly DirectoryMutation[] {
    if (unreadable > 0) return [];
    return this.#parts.directory
      .list(dataKeyRowsOf(tenant))
      .filter(({ name }) => (parseDataKeyRowName(name)?.number ?? number) < number)
      .map(({ name }) => ({ name, value: undefined }));
  }
}

/** Damage counts as "under no key": it is found, and then cannot be read. */
function numberOf(row: ScannedRow): number | undefined {
  try {
    return dataKeyNumberOf(row);
  } catch {
    return undefined;
  }
}
