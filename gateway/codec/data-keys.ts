/**
 * The data keys of tenants as a gateway uses them: which one encrypts, and the keys that values are really
 * encrypted under.
 *
 * **No nonce is used twice.** A gateway does not encrypt under a data key itself, but under a subkey of
 * its own: HKDF-SHA256(data key, "minikv value session" + session id), where the session id is 128 random
 * bits. Under it the nonce counts from 0. Two gateways would have to draw the same id to share a subkey.
 * The id stands in each value, so that every gateway can derive the subkey again.
 *
 * **A key that may have been given up is not used.** A gateway that has not heard of the directory for
 * `DATA_KEY_SILENCE_MS_MAX` refuses to encrypt; the rotation drops no key that anybody could still use. One without a
 * master key stores nothing then either: values may be encrypted by now, and a rotation waits for no plain ones.
 *
 * Keys are always taken from the row in the directory, never from what this gateway meant to write: of two
 * gateways that make a tenant's first key one loses, and uses the winner's.
 */
import { hkdfSync } from "node:crypto";
import type { Directory } from "#gateway/directory/directory.ts";
import { concatBytes, latin1, utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import {
  DATA_KEY_SILENCE_MS_MAX,
  DATA_KEY_WAIT_MS_MAX,
  OPENING_KEYS_KEPT_MAX,
  SEALING_SESSION_VALUES_MAX,
  SEALING_SESSIONS_KEPT_MAX,
} from "#shared/limits-codec.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Random } from "#shared/random.ts";
import {
  currentNumberOf,
  DATA_KEY_ROWS,
  DATA_KEY_SIZE_BYTES,
  dataKeyRowName,
  newDataKey,
  parseDataKeyRowName,
  readDataKeyRow,
  unwrapDataKey,
} from "./data-key-rows.ts";
import { SESSION_ID_SIZE_BYTES } from "./envelope.ts";
import { KeyCache } from "./key-cache.ts";
import type { MasterKeys } from "./master-keys.ts";

/** What values are encrypted under. */
export type SealingSession = {
  readonly number: number;
  readonly sessionId: Uint8Array;
  readonly subkey: Uint8Array;
  /** Of the next value; whoever takes it adds 1 before anything else is done. */
  counter: number;
};

export type DataKeysOptions = {
  readonly directory: Directory;
  /** None: values are not encrypted, unless they already are. */
  readonly masterKeys: MasterKeys | undefined;
  readonly clock: Clock;
  /** The system's: keys come from it. */
  readonly random: Random;
};

const SESSION_INFO = utf8("minikv value session ");
const NO_SALT = new Uint8Array(0);

export class DataKeys {
  readonly #options: DataKeysOptions;
  readonly #sessions = new KeyCache<SealingSession>(SEALING_SESSIONS_KEPT_MAX);
  readonly #dataKeys = new KeyCache<Uint8Array>(OPENING_KEYS_KEPT_MAX);
  readonly #subkeys = new KeyCache<Uint8Array>(OPENING_KEYS_KEPT_MAX);
  /** First keys on their way, by tenant. */
  readonly #making = new Map<TenantId, Promise<void>>();
  /** Keys that were waited for in vain, and until when they are not waited for again. */
  readonly #missing = new KeyCache<number>(OPENING_KEYS_KEPT_MAX);
  readonly #unsubscribe: () => void;
  /** Whether the directory has data keys; undefined when that has to be looked up. */
  #hasKeys: boolean | undefined;

  constructor(options: DataKeysOptions) {
    this.#options = options;
    this.#unsubscribe = options.directory.subscribe(DATA_KEY_ROWS, (name, row) => {
      this.#changed(name, row !== undefined);
    });
  }

  close(): void {
    this.#unsubscribe();
  }

  get encrypts(): boolean {
    return this.#options.masterKeys !== undefined;
  }

  /** Why values cannot be told apart yet; undefined when the directory is known. */
  get whyNotReady(): string | undefined {
    return this.#options.directory.isKnown ? undefined : "the directory is not known yet";
  }

  /**
   * For a gateway without a master key: that nobody encrypts.
   *
   * @throws KvError ENCRYPTION_KEY_MISSING when values of this cluster are encrypted, UNAVAILABLE
   */
  assertPlain(): void {
    const { directory } = this.#options;
    if (this.#hasKeys === undefined) {
      if (!directory.isKnown) throw unavailable("the directory is not known yet");
      this.#hasKeys = directory.list(DATA_KEY_ROWS).length > 0;
    }
    if (!this.#hasKeys) {
      this.#assertHeardOf();
      return;
    }
    const detail = "values of this cluster are encrypted, and this gateway has no master key";
    throw new KvError("ENCRYPTION_KEY_MISSING", detail, { outcome: "not_applied" });
  }

  /**
   * What the tenant's values are encrypted under from now on. Never under a key whose row is damaged, also where
   * it is known from before: nobody else could read what is written then.
   *
   * @throws KvError ENCRYPTION_KEY_MISSING, UNAVAILABLE, DATA_CORRUPT; nothing was written
   */
  sealing(tenant: TenantId, deadlineMs: number): MaybePromise<SealingSession> {
    const session = this.#sessions.get(nameOf(tenant));
    const isGood = session !== undefined && session.counter < SEALING_SESSION_VALUES_MAX;
    this.#assertHeardOf();
    if (isGood) return session;
    const number = currentNumberOf(this.#options.directory, tenant);
    if (number !== 0) return this.#begin(tenant, number);
    return this.#firstKey(tenant, deadlineMs).then(() => this.#beginCurrent(tenant));
  }

  /**
   * The subkey that a value was encrypted under. A key that the directory has not told of yet is waited
   * for, but not long.
   *
   * @throws KvError ENCRYPTION_KEY_MISSING, DATA_CORRUPT
   */
  opening(
    tenant: TenantId,
    number: number,
    sessionId: Uint8Array,
    deadlineMs: number,
  ): MaybePromise<Uint8Array> {
    const name = `${tenant}/${number}/${latin1(sessionId)}`;
    const known = this.#subkeys.get(name);
    if (known !== undefined) return known;
    const dataKey = this.#dataKey(tenant, number, deadlineMs);
    if (isPromise(dataKey)) return dataKey.then((key) => this.#derived(name, key, sessionId));
    return this.#derived(name, dataKey, sessionId);
  }

  #derived(name: string, dataKey: Uint8Array, sessionId: Uint8Array): Uint8Array {
    const subkey = deriveSubkey(dataKey, sessionId);
    this.#subkeys.set(name, subkey);
    return subkey;
  }

  #changed(name: string, exists: boolean): void {
    this.#hasKeys = undefined;
    this.#missing.delete(name);
    const address = parseDataKeyRowName(name);
    if (address === undefined) return;
    // There may be a newer key, or none any more.
    this.#sessions.delete(nameOf(address.tenant));
    if (exists) return;
    this.#dataKeys.delete(name);
    this.#subkeys.clear();
  }

  #assertHeardOf(): void {
    const { directory } = this.#options;
    if (!directory.isKnown) throw unavailable("the directory is not known yet");
    if (directory.silenceMs() <= DATA_KEY_SILENCE_MS_MAX) return;
    throw unavailable("the directory has been silent for too long to know the tenant's data key");
  }

  #beginCurrent(tenant: TenantId): SealingSession {
    const number = currentNumberOf(this.#options.directory, tenant);
    if (number === 0) throw unavailable("the tenant's data key is not known yet");
    return this.#begin(tenant, number);
  }

  #begin(tenant: TenantId, number: number): SealingSession {
    const sessionId = this.#options.random.fill(new Uint8Array(SESSION_ID_SIZE_BYTES));
    const dataKey = this.#sealingKey(dataKeyRowName(tenant, number));
    const session = { number, sessionId, subkey: deriveSubkey(dataKey, sessionId), counter: 0 };
    this.#sessions.set(nameOf(tenant), session);
    return session;
  }

  #sealingKey(name: string): Uint8Array {
    const { directory, masterKeys } = this.#options;
    const row = directory.get(name);
    if (row === undefined) throw unavailable("the tenant's data key is gone");
    try {
      const { masterKeyId } = readDataKeyRow(row);
      const known = this.#dataKeys.get(name);
      // Wrapped anew meanwhile, with a master key that only others have yet.
      if (known !== undefined && !masterKeys!.has(masterKeyId)) return known;
      const key = unwrapDataKey(row, masterKeys!);
      this.#dataKeys.set(name, key);
      return key;
    } catch (cause) {
      if (!(cause instanceof KvError)) throw cause;
      throw new KvError(cause.code, cause.message, { outcome: "not_applied", cause });
    }
  }

  /** All who write for a tenant without a key wait for one and the same attempt. */
  #firstKey(tenant: TenantId, deadlineMs: number): Promise<void> {
    let making = this.#making.get(tenant);
    if (making === undefined) {
      making = this.#makeFirst(tenant, deadlineMs).finally(() => this.#making.delete(tenant));
      this.#making.set(tenant, making);
    }
    return making;
  }

  async #makeFirst(tenant: TenantId, deadlineMs: number): Promise<void> {
    const { masterKeys, directory, random, clock } = this.#options;
    if (masterKeys === undefined)
      throw new RangeError("there is a master key where values are encrypted");
    const mutation = newDataKey({ tenant, number: 1 }, { masterKeys, random, clock });
    let isMine: boolean;
    try {
      isMine = await directory.change([mutation], { deadlineMs });
    } catch (cause) {
      const code = cause instanceof KvError ? cause.code : "UNAVAILABLE";
      const detail = `the tenant's data key cannot be made: ${cause instanceof Error ? cause.message : String(cause)}`;
      // Whether or not the key was made: the value was not written.
      throw new KvError(code, detail, { outcome: "not_applied", cause });
    }
    if (!isMine) await this.#rowOf(mutation.name, deadlineMs);
  }

  #dataKey(tenant: TenantId, number: number, deadlineMs: number): MaybePromise<Uint8Array> {
    const known = this.#unwrap(tenant, number);
    if (known !== undefined) return known;
    const name = dataKeyRowName(tenant, number);
    return this.#rowOf(name, deadlineMs).then(() => {
      const key = this.#unwrap(tenant, number);
      if (key !== undefined) return key;
      const detail = `data key ${number} of tenant ${tenant} does not exist (any more)`;
      throw new KvError("ENCRYPTION_KEY_MISSING", detail);
    });
  }

  /** Undefined when there is no row. */
  #unwrap(tenant: TenantId, number: number): Uint8Array | undefined {
    const name = dataKeyRowName(tenant, number);
    const known = this.#dataKeys.get(name);
    if (known !== undefined) return known;
    const { directory, masterKeys } = this.#options;
    const row = directory.get(name);
    if (row === undefined) return undefined;
    if (masterKeys === undefined) {
      const detail = "the value is encrypted, and this gateway has no master key";
      throw new KvError("ENCRYPTION_KEY_MISSING", detail);
    }
    const key = unwrapDataKey(row, masterKeys);
    this.#dataKeys.set(name, key);
    return key;
  }

  /** Resolves when the directory has the row, or has not got it in time. */
  #rowOf(name: string, deadlineMs: number): Promise<void> {
    const { directory, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const waitMs = Math.min(DATA_KEY_WAIT_MS_MAX, deadlineMs - clock.nowMs());
    const isThere = directory.get(name) !== undefined;
    // A thousand values of a key that is gone are waited for once.
    if (isThere || waitMs <= 0 || (this.#missing.get(name) ?? 0) > nowMs) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        cancel();
        unsubscribe();
        resolve();
      };
      const unsubscribe = directory.subscribe(name, end);
      const cancel = clock.after(waitMs, () => {
        this.#missing.set(name, clock.monotonicMs() + DATA_KEY_WAIT_MS_MAX);
        end();
      });
    });
  }
}

const nameOf = (tenant: TenantId): string => String(tenant);

function deriveSubkey(dataKey: Uint8Array, sessionId: Uint8Array): Uint8Array {
  const info = concatBytes(SESSION_INFO, sessionId);
  return new Uint8Array(hkdfSync("sha256", dataKey, NO_SALT, info, DATA_KEY_SIZE_BYTES));
}

function unavailable(detail: string): KvError {
  return new KvError("UNAVAILABLE", detail, { outcome: "not_applied" });
}
