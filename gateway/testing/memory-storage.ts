/**
 * A storage in memory for tests of the gateway: real conditions, revisions and expiry, no
 * durability. It can also be told to fail, or to hold its answers back.
 */
import type {
  CallOptions,
  DeleteOutcome,
  GetOptions,
  KeyRef,
  PutInput,
  PutOutcome,
  Storage,
  StoredValue,
} from "#gateway/storage/storage.ts";
import type { Condition } from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { type Revision, toRevision } from "#shared/ids.ts";

export type RecordedCall = {
  readonly method: "get" | "put" | "delete";
  readonly key: Uint8Array;
  readonly options: CallOptions | GetOptions;
};

export class MemoryStorage implements Storage {
  /** Every call since the start, oldest first. */
  readonly calls: RecordedCall[] = [];
  /** Thrown by each call while set. */
  failure: unknown;
  /** Each call waits for this before it does anything. */
  gate: Promise<void> = Promise.resolve();
  ready = { ready: true, reason: "" };
  readonly #clock: Clock;
  readonly #values = new Map<string, StoredValue>();
  #revision = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async get(key: KeyRef, options: GetOptions): Promise<StoredValue | undefined> {
    await this.#enter("get", key, options);
    const found = this.#find(key);
    if (found === undefined || options.metadataOnly !== true) return found;
    return { ...found, value: EMPTY_BYTES };
  }

  async put(key: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome> {
    await this.#enter("put", key, options);
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
      valueSizeBytes: input.value.length,
    });
    return { kind: "stored", revision, created: current === undefined };
  }

  async delete(
    key: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome> {
    await this.#enter("delete", key, options);
    const current = this.#find(key);
    if (current === undefined) return { kind: "notFound" };
    if (!holds(condition, current)) return conditionFailed(current);
    this.#values.delete(nameOf(key));
    return { kind: "deleted", revision: this.#nextRevision() };
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

const nameOf = ({ tenant, key }: KeyRef): string =>
  `${tenant}/${Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1")}`;

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
