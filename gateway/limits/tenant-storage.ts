/**
 * The last door before storage: nothing is stored for a tenant that is being deleted, nor beyond its
 * quota, and a batch is charged for its operations.
 *
 * It stands right before the storage client, beneath compression and encryption: what it counts is what
 * is stored, and it decides when the body has been received, so that an upload that was let in before a
 * deletion does not outlive it (`tenants/deletion.ts` has the argument). Deletions always pass.
 *
 * **How exact a quota is.** A put passes when usage as last heard, what this gateway has stored since,
 * and what it has under way leave room for its key and value. Usage is some two seconds old, and other
 * gateways are seen through it only, so all gateways together can exceed a quota by what they store
 * within that time, and what they have under way; not by more, however long it goes on.
 * An overwrite is taken for a new key as long as it fits. When it does not, the key is looked at, and only
 * the difference counts: who has reached his quota can still replace values by ones that are no larger.
 * A batch does not look: its overwrites count in full until usage is heard again.
 */
import type { Directory } from "#gateway/directory/directory.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type {
  BatchOperation,
  BatchOptions,
  BatchOutcome,
  CallOptions,
  DeleteOutcome,
  GetOptions,
  KeyRef,
  PutInput,
  PutOutcome,
  RowsQuery,
  Scan,
  ScanQuery,
  Storage,
  StoredValue,
} from "#gateway/storage/storage.ts";
import type { Tenant, Tenants } from "#gateway/tenants/registry.ts";
import type { Condition } from "#proto/codec/messages.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type TenantId } from "#shared/ids.ts";
import { TENANT_SILENCE_MS_MAX } from "#shared/limits.ts";
import { type StoredSize, TenantUse } from "./tenant-use.ts";

export type TenantStorageOptions = {
  readonly inner: Storage;
  readonly directory: Directory;
  readonly tenants: Tenants;
  /** Of a batch, before any of them is begun. @throws RequestRefused RATE_LIMITED */
  readonly chargeOperations: (tenant: TenantId, operations: number) => void;
};

export class TenantStorage implements Storage {
  readonly #inner: Storage;
  readonly #directory: Directory;
  readonly #tenants: Tenants;
  readonly #chargeOperations: (tenant: TenantId, operations: number) => void;
  /** Of tenants with a quota that have stored something. */
  readonly #uses = new Map<TenantId, TenantUse>();

  constructor({ inner, directory, tenants, chargeOperations }: TenantStorageOptions) {
    this.#inner = inner;
    this.#directory = directory;
    this.#tenants = tenants;
    this.#chargeOperations = chargeOperations;
    tenants.subscribe((id, tenant) => {
      if (tenant === undefined || !isCounted(tenant)) this.#uses.delete(id);
    });
  }

  put(key: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome> {
    const tenant = this.#tenants.get(key.tenant);
    const refusal = this.#refusalOf(key.tenant, tenant);
    if (refusal !== undefined) return Promise.reject(refusal);
    if (!isCounted(tenant!)) return this.#inner.put(key, input, options);
    return this.#countedPut(tenant!, key, input, options);
  }

  async batch(
    tenantId: TenantId,
    operations: readonly BatchOperation[],
    options: BatchOptions,
  ): Promise<readonly BatchOutcome[]> {
    this.#chargeOperations(tenantId, operations.length);
    if (!operations.some(({ kind }) => kind === "put")) {
      return await this.#inner.batch(tenantId, operations, options);
    }
    const tenant = this.#tenants.get(tenantId);
    const refusal = this.#refusalOf(tenantId, tenant);
    if (refusal !== undefined) throw refusal;
    if (!isCounted(tenant!)) return await this.#inner.batch(tenantId, operations, options);
    return await this.#countedBatch(tenant!, operations, options);
  }

  #refusalOf(id: TenantId, tenant: Tenant | undefined): KvError | undefined {
    if (id === DEFAULT_TENANT) return undefined;
    if (tenant === undefined || tenant.state === "deleting") {
      return new RequestRefused("FORBIDDEN", "the tenant was deleted");
    }
    if (this.#directory.silenceMs() <= TENANT_SILENCE_MS_MAX) return undefined;
    return new RequestRefused(
      "UNAVAILABLE",
      "the gateway has not heard for long whether the tenant still exists",
    );
  }

  #useOf(id: TenantId): TenantUse {
    let use = this.#uses.get(id);
    if (use === undefined) {
      use = new TenantUse(id, this.#directory);
      this.#uses.set(id, use);
    }
    return use;
  }

  async #countedPut(
    tenant: Tenant,
    ref: KeyRef,
    input: PutInput,
    options: CallOptions,
  ): Promise<PutOutcome> {
    const use = this.#useOf(tenant.id);
    let size = sizeOf(ref.key, input.value.length);
    if (use.overrunOf(tenant.quotas, size) !== undefined) {
      // With its value: only that tells what is stored. Sizes that clients see are from before
      // compression, and by them a value that compresses well could be replaced by one that does not.
      const current = await this.#inner.get(ref, options);
      if (current !== undefined) size = growthOf(size, sizeOf(ref.key, current.value.length));
      const overrun = use.overrunOf(tenant.quotas, size);
      if (overrun !== undefined) throw overrun;
    }
    use.begin(size);
    let stored: StoredSize | undefined = size;
    try {
      const outcome = await this.#inner.put(ref, input, options);
      stored = storedSize(size, outcome);
      return outcome;
    } catch (error) {
      if (isNotApplied(error)) stored = undefined;
      throw error;
    } finally {
      use.end(size, stored);
    }
  }

  async #countedBatch(
    { id, quotas }: Tenant,
    operations: readonly BatchOperation[],
    options: BatchOptions,
  ): Promise<readonly BatchOutcome[]> {
    const use = this.#useOf(id);
    const sizes: (StoredSize | undefined)[] = [];
    const refused = new Map<number, KvError>();
    const passed = operations.filter((operation, place) => {
      const size =
        operation.kind === "put" ? sizeOf(operation.key, operation.value.length) : undefined;
      const overrun = size && use.overrunOf(quotas, size);
      if (overrun !== undefined) {
        refused.set(place, overrun);
        return false;
      }
      if (size !== undefined) use.begin(size);
      sizes.push(size);
      return true;
    });
    let outcomes: readonly BatchOutcome[] = [];
    try {
      if (passed.length > 0) outcomes = await this.#inner.batch(id, passed, options);
    } finally {
      for (const [place, size] of sizes.entries()) {
        const outcome = outcomes[place];
        // A batch fails as a whole only when nothing of it was begun.
        if (size !== undefined) use.end(size, outcome && storedSize(size, outcome));
      }
    }
    let next = 0;
    return operations.map((_, place): BatchOutcome => {
      const error = refused.get(place);
      return error === undefined ? outcomes[next++]! : { kind: "failed", error };
    });
  }

  get(key: KeyRef, options: GetOptions): Promise<StoredValue | undefined> {
    return this.#inner.get(key, options);
  }

  delete(
    key: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome> {
    return this.#inner.delete(key, condition, options);
  }

  scan(query: RowsQuery): Scan {
    return this.#inner.scan(query);
  }

  count(query: ScanQuery, options: GetOptions): Promise<number> {
    return this.#inner.count(query, options);
  }

  readiness(): { readonly ready: boolean; readonly reason: string } {
    return this.#inner.readiness();
  }

  close(timeoutMs: number): Promise<void> {
    return this.#inner.close(timeoutMs);
  }
}

const isCounted = ({ quotas }: Tenant): boolean => quotas.bytes !== 0 || quotas.objects !== 0;

const sizeOf = (key: Uint8Array, valueSizeBytes: number): StoredSize => ({
  bytes: key.length + valueSizeBytes,
  objects: 1,
});

/** What an overwrite adds: it frees nothing before it is known to have happened. */
const growthOf = (size: StoredSize, current: StoredSize): StoredSize => ({
  bytes: Math.max(0, size.bytes - current.bytes),
  objects: 0,
});

/** What was stored of a put; undefined for nothing. What nobody knows counts. */
function storedSize(size: StoredSize, outcome: BatchOutcome): StoredSize | undefined {
  if (outcome.kind === "conditionFailed") return undefined;
  if (outcome.kind === "failed") return isNotApplied(outcome.error) ? undefined : size;
  if (outcome.kind === "stored" && !outcome.created) return { ...size, objects: 0 };
  return size;
}

const isNotApplied = (error: unknown): boolean =>
  error instanceof KvError && error.outcome === "not_applied";
