/**
 * A storage in memory for tests of the gateway: real conditions, revisions and expiry, no
 * durability. It can also be told to fail, or to hold its answers back.
 */
import type {
  BatchOperation,
  BatchOptions,
  BatchOutcome,
  CallOptions,
  DeleteOutcome,
  GetOptions,
  KeyRef,
  PageLimits,
  PutInput,
  PutOutcome,
  ResealableStorage,
  ResealInput,
  ResealOutcome,
  RowsQuery,
  Scan,
  ScannedRow,
  ScanPage,
  ScanQuery,
  StoredValue,
} from "#gateway/storage/storage.ts";
import type { Condition } from "#proto/codec/messages.ts";
import { compareBytes, EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import type { KvError } from "#shared/errors.ts";
import { type Revision, type TenantId, toRevision } from "#shared/ids.ts";

export type RecordedCall = {
  readonly method: "get" | "put" | "reseal" | "delete" | "batch" | "page" | "count";
  /** Empty for calls that are about several keys. */
  readonly key: Uint8Array;
  readonly options: CallOptions | GetOptions;
};

export class MemoryStorage implements ResealableStorage {
  /** Rows of `claim`, as `tenant:hex of the key`. */
  readonly claims = new Set<string>();
  /** Every call since the start, oldest first. */
  readonly calls: RecordedCall[] = [];
  /** Thrown by each call while set. */
  failure: unknown;
  /** Fails single operations of a batch, by their place. */
  readonly batchFailures = new Map<number, KvError>();
  /** The ranges asked for, oldest first. */
  readonly queries: (ScanQuery | RowsQuery)[] = [];
  /** Each call waits for this before it does anything. */
  gate: Promise<void> = Promise.resolve();
  ready = { ready: true, reason: "" };
  readonly #clock: Clock;
  readonly #values = new Map<string, StoredValue>();
  #revision = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async claim({ tenant, key }: KeyRef, _ttlMs: number, _options: CallOptions): Promise<boolean> {
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    const name = `${tenant}:${Buffer.from(key).toString("hex")}`;
    const isFirst = !this.claims.has(name);
    this.claims.add(name);
    return isFirst;
  }

  async get(key: KeyRef, options: GetOptions): Promise<StoredValue | undefined> {
    await this.#enter("get", key, options);
    const found = this.#find(key);
    if (found === undefined || options.metadataOnly !== true) return found;
    return { ...found, value: EMPTY_BYTES };
  }

  async put(key: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome> {
    await this.#enter("put", key, options);
    return this.#put(key, input);
  }

  #put(key: KeyRef, input: PutInput): PutOutcome {
    const current = this.#find(key);
    if (!holds(input.condition, current)) return conditionFailed(current);
    const nowMs = this.#clock.nowMs();
    const revision = this.#nextRevision();
    this.#values.set(nameOf(key), {
      revision,
      value: input.value.slice(),
      contentType: input.contentType,
      expiresAtMs: input.ttlMs === 0 ? 0 : nowMs + input.ttlMs,
      modifiedAtMs: nowMs,
      ...sizeAndEncoding(input),
    });
    return { kind: "stored", revision, created: current === undefined };
  }

  async reseal(key: KeyRef, input: ResealInput, options: CallOptions): Promise<ResealOutcome> {
    await this.#enter("reseal", key, options);
    const current = this.#find(key);
    if (current?.revision !== input.revision) return { kind: "superseded" };
    const { contentType, modifiedAtMs } = input;
    const value = input.value.slice();
    const changed = { value, contentType, modifiedAtMs, ...sizeAndEncoding(input) };
    this.#values.set(nameOf(key), { ...current, ...changed });
    return { kind: "resealed" };
  }

  async delete(
    key: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome> {
    await this.#enter("delete", key, options);
    return this.#delete(key, condition);
  }

  #delete(key: KeyRef, condition: Condition | undefined): DeleteOutcome {
    const current = this.#find(key);
    if (current === undefined) return { kind: "notFound" };
    if (!holds(condition, current)) return conditionFailed(current);
    this.#values.delete(nameOf(key));
    return { kind: "deleted", revision: this.#nextRevision() };
  }

  async batch(
    tenant: TenantId,
    operations: readonly BatchOperation[],
    options: BatchOptions,
  ): Promise<readonly BatchOutcome[]> {
    await this.#enter("batch", { tenant, key: EMPTY_BYTES }, options);
    return operations.map((operation, place): BatchOutcome => {
      const ref = { tenant, key: operation.key };
      const failure = this.batchFailures.get(place);
      if (failure !== undefined) return { kind: "failed", error: failure };
      if (operation.kind === "put") return this.#put(ref, operation);
      if (operation.kind === "delete") return this.#delete(ref, operation.condition);
      const stored = this.#find(ref);
      if (stored === undefined) return { kind: "absent" };
      const error = options.admitValue(stored.valueSizeBytes);
      return error === undefined ? { kind: "found", stored } : { kind: "failed", error };
    });
  }

  scan(query: RowsQuery): Scan {
    this.queries.push(query);
    let rows = this.#rows(query);
    if (query.reverse) rows.reverse();
    if (query.keysOnly) rows = rows.map((row) => ({ ...row, value: EMPTY_BYTES }));
    return {
      nextPage: async (limits, options) => {
        await this.#enter("page", { tenant: query.tenant, key: EMPTY_BYTES }, options);
        const page = pageOf(rows, limits);
        rows = rows.slice(page.rows.length);
        return page;
      },
    };
  }

  async count(query: ScanQuery, options: GetOptions): Promise<number> {
    this.queries.push(query);
    await this.#enter("count", { tenant: query.tenant, key: EMPTY_BYTES }, options);
    return this.#rows(query).length;
  }

  /** In byte order. */
  #rows({ tenant, start, end }: ScanQuery): ScannedRow[] {
    const rows: ScannedRow[] = [];
    for (const name of this.#values.keys()) {
      const key = Buffer.from(name.slice(name.indexOf("/") + 1), "latin1");
      const stored = this.#find({ tenant, key });
      if (!name.startsWith(`${tenant}/`) || stored === undefined) continue;
      if (compareBytes(key, start) < 0) continue;
      if (end.length > 0 && compareBytes(key, end) >= 0) continue;
      rows.push({ ...stored, key });
    }
    return rows.sort((a, b) => compareBytes(a.key, b.key));
  }

  readiness(): { readonly ready: boolean; readonly reason: string } {
    return this.ready;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** How many keys are stored, expired ones included. */
  get size(): number {
    return this.#values.size;
  }

  async #enter(method: RecordedCall["method"], { key }: KeyRef, options: CallOptions) {
    this.calls.push({ method, key, options });
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
  }

  #find(key: KeyRef): StoredValue | undefined {
    const found = this.#values.get(nameOf(key));
    if (found === undefined || found.expiresAtMs === 0) return found;
    return found.expiresAtMs > this.#clock.nowMs() ? found : undefined;
  }

  #nextRevision(): Revision {
    this.#revision++;
    return toRevision(this.#revision);
  }
}

const sizeAndEncoding = ({ value, encoding = 0, logicalSizeBytes = 0 }: Encoded) => ({
  valueSizeBytes: encoding === 0 ? value.length : logicalSizeBytes,
  encoding,
});

type Encoded = Pick<PutInput, "value" | "encoding" | "logicalSizeBytes">;

const nameOf = ({ tenant, key }: KeyRef): string =>
  `${tenant}/${Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1")}`;

function pageOf(rows: readonly ScannedRow[], { rowsMax, bytesMax }: PageLimits): ScanPage {
  let count = 0;
  let bytes = 0;
  while (count < Math.min(rows.length, rowsMax)) {
    const { key, value, valueSizeBytes } = rows[count]!;
    bytes += key.length + (value.length === 0 ? 0 : valueSizeBytes);
    if (count > 0 && bytes > bytesMax) break;
    count++;
  }
  const page = rows.slice(0, count);
  return { rows: page, lastKey: page.at(-1)?.key, hasMore: count < rows.length };
}

const conditionFailed = (current: StoredValue | undefined) =>
  ({ kind: "conditionFailed", revision: current?.revision ?? toRevision(0) }) as const;

function holds(condition: Condition | undefined, current: StoredValue | undefined): boolean {
  if (condition === undefined) return true;
  const { mustBeAbsent, mustExist, revisionIs, revisionIsNot } = condition;
  if (mustBeAbsent && current !== undefined) return false;
  if (mustExist && current === undefined) return false;
  if (revisionIs.length > 0 && !(current && revisionIs.includes(current.revision))) return false;
  return !(current && revisionIsNot.includes(current.revision));
}
