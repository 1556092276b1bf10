/**
 * The job that removes what a deleted tenant has: its keys in the directory, its data, its data keys, and
 * at last its row.
 *
 * No write that was let in before the deletion may be there after it. Such writes are in flight, or are
 * still let in by gateways that have not heard of it. What bounds them: a gateway that has not heard of
 * the directory for `TENANT_SILENCE_MS_MAX` stores nothing for tenants that can be deleted (see
 * `limits/tenant-storage.ts`, which looks right before storage is called, when the body has been
 * received); and what it has stored before is stamped by its deadline or never. So data is removed at
 * once, but the row goes only after a pass that began `TENANT_DELETION_WAIT_MS` after the deletion, when
 * all writes before it were settled (`storage/settle.ts`), has found nothing. The time is counted by the
 * monotonic clock of whoever does the job, as long as it does it; when another takes over, it starts from
 * what was last saved, which can only make it longer.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { shredMutations } from "#gateway/codec/data-key-rows.ts";
import type { Directory, DirectoryMutation } from "#gateway/directory/directory.ts";
import type { JobKind, JobStep, JobStepContext } from "#gateway/jobs/job.ts";
import { settleWrites } from "#gateway/storage/settle.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import { ApiKeyRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import { concatBytes, EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { type TenantId, toTenantId } from "#shared/ids.ts";
import {
  JOB_PAUSE_MS_MAX,
  SCAN_PAGE_BYTES_MAX,
  TENANT_DELETION_KEYS_PER_STEP,
  TENANT_DELETION_ROWS_PER_STEP,
  TENANT_DELETION_WAIT_MS,
} from "#shared/limits.ts";
import { tenantHex, tenantRowName } from "./registry.ts";

const KIND = "tenant-deletion";
const KEY_ROWS = "key/";
const KEY_USE_ROWS = "key-use/";
const BEHIND = new Uint8Array(1);

export const deletionJobName = (id: number): string => `${KIND}/${tenantHex(id)}`;

/** How far it is. JSON in the job's row. */
export type Deletion = {
  /** `keys`: those of the directory. `data`: a pass over the data. `waiting`: for the last pass. */
  readonly phase: "keys" | "data" | "waiting";
  readonly removedObjects: number;
  readonly removedBytes: number;
  /** Until a pass can be the last one. */
  readonly waitMs: number;
  /** Of the pass: the last key that was looked at, in hex. */
  readonly lastKey: string;
  /** Of the pass: how many it has found. */
  readonly found: number;
  /** Of the pass: it began when nothing could come any more. */
  readonly isLast: boolean;
};

const START: Deletion = {
  phase: "keys",
  removedObjects: 0,
  removedBytes: 0,
  waitMs: TENANT_DELETION_WAIT_MS,
  lastKey: "",
  found: 0,
  isLast: false,
};

export const newDeletion = (): Uint8Array => encode(START);

const encode = (deletion: Deletion): Uint8Array => utf8(JSON.stringify(deletion));

/** Written by this code only; what does not decode is done from the start. */
export function decodeDeletion(progress: Uint8Array): Deletion {
  try {
    const read = JSON.parse(Buffer.from(progress).toString("utf8")) as Partial<Deletion>;
    return { ...START, ...read };
  } catch {
    return START;
  }
}

export type DeletionParts = {
  readonly directory: Directory;
  /** Beneath quotas and encryption: it sees keys only. */
  readonly storage: Storage;
  readonly clock: Clock;
};

export class TenantDeletion implements JobKind {
  readonly kind = KIND;
  readonly #directory: Directory;
  readonly #storage: Storage;
  readonly #clock: Clock;
  /** When this gateway has last written what was left to wait, and what. */
  readonly #waits = new Map<string, { readonly waitMs: number; readonly atMs: number }>();

  constructor({ directory, storage, clock }: DeletionParts) {
    this.#directory = directory;
    this.#storage = storage;
    this.#clock = clock;
  }

  async step(progress: Uint8Array, context: JobStepContext): Promise<JobStep> {
    const { id } = context;
    const tenant = toTenantId(Number.parseInt(id, 16));
    const deletion = this.#waited(id, decodeDeletion(progress));
    const next = await this.#advance(tenant, deletion, context);
    if (next === "done") {
      this.#waits.delete(id);
      const mutations = [...this.#rowsOf(tenant), remove(tenantRowName(tenant))];
      return { kind: "done", mutations };
    }
    this.#waits.set(id, { waitMs: next.waitMs, atMs: this.#clock.monotonicMs() });
    const pauseMs = next.phase === "waiting" ? Math.min(next.waitMs, JOB_PAUSE_MS_MAX) : 0;
    return { kind: "more", progress: encode(next), pauseMs };
  }

  #waited(id: string, deletion: Deletion): Deletion {
    const wait = this.#waits.get(id);
    // Another gateway has counted meanwhile: the same time must not be counted twice.
    if (wait === undefined || wait.waitMs !== deletion.waitMs) return deletion;
    const passedMs = this.#clock.monotonicMs() - wait.atMs;
    return { ...deletion, waitMs: Math.max(0, Math.ceil(deletion.waitMs - passedMs)) };
  }

  async #advance(
    tenant: TenantId,
    deletion: Deletion,
    context: JobStepContext,
  ): Promise<Deletion | "done"> {
    // Only the step that ends the waiting settles what was written before: passes behind it may be the last one.
    const pass = { lastKey: "", found: 0, isLast: deletion.isLast };
    switch (deletion.phase) {
      case "keys":
        if (await this.#removeRows(this.#keyRowsOf(tenant), context)) return deletion;
        return { ...deletion, phase: "data", ...pass };
      case "waiting":
        if (deletion.waitMs > 0) return deletion;
        await settleWrites(this.#storage, tenant, context.deadlineMs);
        return { ...deletion, phase: "data", ...pass, isLast: true };
      case "data": {
        const { deletion: next, hasMore } = await this.#removePage(tenant, deletion, context);
        if (hasMore) return next;
        if (next.found > 0) return { ...next, ...pass };
        if (!next.isLast) return { ...next, phase: "waiting" };
        // So few are left that they fit the change that also ends the job.
        const isMuch = this.#rowsOf(tenant).length > TENANT_DELETION_ROWS_PER_STEP;
        if (isMuch) await this.#removeRows(this.#rowsOf(tenant), context);
        return isMuch ? next : "done";
      }
    }
  }

  async #removePage(tenant: TenantId, deletion: Deletion, { deadlineMs }: JobStepContext) {
    const { lastKey } = deletion;
    const start = lastKey === "" ? EMPTY_BYTES : concatBytes(Uint8Array.fromHex(lastKey), BEHIND);
    const query = { tenant, start, end: EMPTY_BYTES, reverse: false, keysOnly: true };
    const scan = this.#storage.scan({ ...query, isStream: false });
    const limits = { rowsMax: TENANT_DELETION_KEYS_PER_STEP, bytesMax: SCAN_PAGE_BYTES_MAX };
    const page = await scan.nextPage(limits, { deadlineMs });
    let { removedObjects, removedBytes } = deletion;
    if (page.rows.length > 0) {
      const operations = page.rows.map(({ key }) => ({ kind: "delete", key }) as const);
      const admitValue = () => undefined;
      const outcomes = await this.#storage.batch(tenant, operations, { deadlineMs, admitValue });
      for (const [place, outcome] of outcomes.entries()) {
        if (outcome.kind === "failed") throw outcome.error;
        if (outcome.kind !== "deleted") continue;
        removedObjects++;
        removedBytes += page.rows[place]!.key.length + page.rows[place]!.valueSizeBytes;
      }
    }
    const found = deletion.found + page.rows.length;
    const next = { ...deletion, removedObjects, removedBytes, found };
    const hasMore = page.hasMore && page.lastKey !== undefined;
    return { deletion: hasMore ? { ...next, lastKey: page.lastKey.toHex() } : next, hasMore };
  }

  /** A part of them. False when there were none. @throws KvError */
  async #removeRows(rows: readonly DirectoryMutation[], { deadlineMs }: JobStepContext) {
    if (rows.length === 0) return false;
    const part = rows.slice(0, TENANT_DELETION_ROWS_PER_STEP);
    if (await this.#directory.change(part, { deadlineMs })) return true;
    throw new KvError("UNAVAILABLE", "rows of the directory were not removed");
  }

  #rowsOf(tenant: TenantId): readonly DirectoryMutation[] {
    return [...this.#keyRowsOf(tenant), ...shredMutations(this.#directory, tenant)];
  }

  #keyRowsOf(tenant: TenantId): readonly DirectoryMutation[] {
    const mutations: DirectoryMutation[] = [];
    for (const { name, value } of this.#directory.list(KEY_ROWS)) {
      if (tenantOfKey(value) !== tenant) continue;
      const use = KEY_USE_ROWS + name.slice(KEY_ROWS.length);
      mutations.push(remove(name), remove(use));
    }
    return mutations;
  }
}

/** Undefined for a row that cannot be read: it lets nobody in, and is nobody's to remove. */
function tenantOfKey(value: Uint8Array): number | undefined {
  try {
    return fromBinary(ApiKeyRecordSchema, value).tenantId;
  } catch {
    return undefined;
  }
}

const remove = (name: string): DirectoryMutation => ({ name, value: undefined });
