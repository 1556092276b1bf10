/**
 * `Storage` in which values are compressed and encrypted, around one that keeps them so. Routes see plain
 * values, and sizes of plain values.
 *
 * A value that was stored before either was switched on has encoding 0, which no value of this codec has:
 * it is read as it is.
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
  RowsQuery,
  Scan,
  ScannedRow,
  ScanPage,
  ScanQuery,
  Storage,
  StoredValue,
} from "#gateway/storage/storage.ts";
import type { Condition } from "#proto/codec/messages.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import { CODEC_BYTES_PER_TURN_MAX } from "#shared/limits-codec.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { DataKeys } from "./data-keys.ts";
import type { EncodedValue, ValueCodec } from "./value-codec.ts";

export type SealedStorageOptions = {
  readonly storage: Storage;
  readonly codec: ValueCodec;
  readonly keys: DataKeys;
};

export class SealedStorage implements Storage {
  readonly #storage: Storage;
  readonly #codec: ValueCodec;
  readonly #keys: DataKeys;

  constructor({ storage, codec, keys }: SealedStorageOptions) {
    this.#storage = storage;
    this.#codec = codec;
    this.#keys = keys;
  }

  async get(key: KeyRef, options: GetOptions): Promise<StoredValue | undefined> {
    const stored = await this.#storage.get(key, options);
    if (stored === undefined || !isEncoded(stored) || options.metadataOnly === true) return stored;
    const value = this.#codec.open(key, stored, options.deadlineMs);
    return plain(stored, isPromise(value) ? await value : value);
  }

  async put(key: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome> {
    const sealed = this.#codec.seal(key, input.value, options.deadlineMs);
    const encoded = isPromise(sealed) ? await sealed : sealed;
    return this.#storage.put(key, withValue(input, encoded), options);
  }

  delete(
    key: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome> {
    return this.#storage.delete(key, condition, options);
  }

  async batch(
    tenant: TenantId,
    operations: readonly BatchOperation[],
    options: BatchOptions,
  ): Promise<readonly BatchOutcome[]> {
    const { deadlineMs } = options;
    const turns = new Turns();
    const begun: BatchOperation[] = [];
    /** Of those that are not begun. */
    const refusals = new Map<number, BatchOutcome>();
    for (const [place, operation] of operations.entries()) {
      if (operation.kind !== "put") {
        begun.push(operation);
        continue;
      }
      try {
        const { key, value } = operation;
        const sealed = this.#codec.seal({ tenant, key }, value, deadlineMs);
        begun.push(withValue(operation, isPromise(sealed) ? await sealed : sealed));
        await turns.after(value.length);
      } catch (error) {
        refusals.set(place, failed(error));
      }
    }
    const outcomes = await this.#storage.batch(tenant, begun, options);
    let next = 0;
    const whole: BatchOutcome[] = [];
    for (const [place, { key }] of operations.entries()) {
      const outcome = refusals.get(place) ?? outcomes[next++]!;
      whole.push(await this.#opened({ tenant, key }, outcome, options, turns));
    }
    return whole;
  }

  scan(query: RowsQuery): Scan {
    const scan = this.#storage.scan(query);
    if (query.keysOnly) return scan;
    return { nextPage: (limits, options) => this.#page(scan, query.tenant, limits, options) };
  }

  count(query: ScanQuery, options: GetOptions): Promise<number> {
    return this.#storage.count(query, options);
  }

  readiness(): { readonly ready: boolean; readonly reason: string } {
    // Storage first: what keeps it away keeps the directory away too, and says more.
    const storage = this.#storage.readiness();
    const reason = this.#keys.whyNotReady;
    return !storage.ready || reason === undefined ? storage : { ready: false, reason };
  }

  close(timeoutMs: number): Promise<void> {
    return this.#storage.close(timeoutMs);
  }

  async #opened(
    key: KeyRef,
    outcome: BatchOutcome,
    options: BatchOptions,
    turns: Turns,
  ): Promise<BatchOutcome> {
    if (outcome.kind !== "found" || !isEncoded(outcome.stored)) return outcome;
    if (options.metadataOnly === true) return outcome;
    try {
      const opened = this.#codec.open(key, outcome.stored, options.deadlineMs);
      const value = isPromise(opened) ? await opened : opened;
      await turns.after(value.length);
      return { kind: "found", stored: plain(outcome.stored, value) };
    } catch (error) {
      return failed(error);
    }
  }

  /** One value that cannot be read fails the page: a scan that left it out would look complete. */
  async #page(
    scan: Scan,
    tenant: TenantId,
    limits: PageLimits,
    options: GetOptions,
  ): Promise<ScanPage> {
    const page = await scan.nextPage(limits, options);
    if (!page.rows.some(isEncoded)) return page;
    const turns = new Turns();
    const rows: ScannedRow[] = [];
    for (const row of page.rows) {
      const { key } = row;
      const opened = this.#codec.open({ tenant, key }, row, options.deadlineMs);
      const value = isPromise(opened) ? await opened : opened;
      rows.push({ ...plain(row, value), key });
      await turns.after(value.length);
    }
    return { ...page, rows };
  }
}

/** Lets others run after so much work on values. */
class Turns {
  #bytes = 0;

  after(bytes: number): MaybePromise<void> {
    this.#bytes += bytes;
    if (this.#bytes < CODEC_BYTES_PER_TURN_MAX) return;
    this.#bytes = 0;
    return new Promise((resolve) => setImmediate(resolve));
  }
}

const isEncoded = ({ encoding = 0 }: StoredValue): boolean => encoding !== 0;

function plain(stored: StoredValue, value: Uint8Array): StoredValue {
  const { revision, contentType, expiresAtMs, modifiedAtMs, valueSizeBytes } = stored;
  return { revision, value, contentType, expiresAtMs, modifiedAtMs, valueSizeBytes };
}

function withValue<T extends PutInput>(input: T, encoded: EncodedValue): T {
  return encoded.encoding === 0 ? input : { ...input, ...encoded };
}

/** Each operation stands for itself, whatever it fails of: the others may be applied already. */
function failed(cause: unknown): BatchOutcome {
  if (cause instanceof KvError) return { kind: "failed", error: cause };
  const error = new KvError("INTERNAL", "the value could not be converted", { cause });
  return { kind: "failed", error };
}
