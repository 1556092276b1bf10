/**
 * Changes of API keys in the directory: made, rotated, revoked, deleted.
 *
 * Every change names the revision of the row that it was made from, so two at once never undo one another.
 */
import { create } from "@bufbuild/protobuf";
import type { Directory, DirectoryRow } from "#gateway/directory/directory.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { type ApiKeyRecord, KeySecretSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import {
  KEY_CHANGE_ATTEMPTS_MAX,
  KEY_HASHES_PER_TENANT_MAX,
  KEY_SECRETS_MAX,
  KEYS_MAX,
  KEYS_PER_TENANT_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { formatApiKey, makeApiKey, makeSecret } from "./api-key.ts";
import {
  encodeKey,
  findKey,
  KEY_ROWS,
  keyRowName,
  keyUseRowName,
  liveSecrets,
  type NewKey,
  newKeyRecord,
  ROOT_ROW,
  type StoredKey,
  storedKeyOf,
  whyNotValid,
} from "./key-records.ts";
import type { SecretHash, SecretHasher } from "./secret-hash.ts";
import type { WorkQueue } from "./work-queue.ts";

export type KeyStoreOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  readonly hasher: SecretHasher;
  readonly hashQueue: WorkQueue;
};

/** A key with its text, which nobody can have again. */
export type ShownKey = { readonly text: string; readonly stored: StoredKey };

type Timing = { readonly deadlineMs: number };

export class KeyStore {
  readonly #options: KeyStoreOptions;
  /** Secrets that are being hashed, or wait for it. */
  readonly #hashing = new Map<TenantId, number>();
  /** Rows are replaced when they change, never changed: what was read from one is true of it for good. */
  readonly #read = new WeakMap<DirectoryRow, StoredKey>();

  constructor(options: KeyStoreOptions) {
    this.#options = options;
  }

  find(id: string): StoredKey | undefined {
    return findKey(this.#options.directory, id);
  }

  /** All keys that can be read, in the order of their ids. */
  all(): readonly StoredKey[] {
    const { directory } = this.#options;
    const root = directory.get(ROOT_ROW);
    const rows = [...directory.list(KEY_ROWS), ...(root === undefined ? [] : [root])];
    return rows
      .map((row) => this.#keyIn(row))
      .filter((key) => key !== undefined)
      .sort((a, b) => (a.record.id < b.record.id ? -1 : 1));
  }

  /** @throws KvError CLUSTER_CONFLICT when there are too many keys, OVERLOADED, and as the directory does */
  async create(
    key: Omit<NewKey, "id" | "secret" | "createdAtMs">,
    timing: Timing,
  ): Promise<ShownKey> {
    const { directory, clock, random } = this.#options;
    this.#refuseTooMany(key.tenant);
    const made = makeApiKey(random);
    const secret = await this.#hash(key.tenant, made.id, made.secret);
    const record = newKeyRecord({ ...key, id: made.id, secret, createdAtMs: clock.nowMs() });
    const mutation = { name: keyRowName(made.id), value: encodeKey(record), expectedRevision: 0 };
    if (!(await directory.change([mutation], timing))) throw changedMeanwhile();
    return { text: formatApiKey(made), stored: this.#changed(made.id) };
  }

  /**
   * A new secret for a key. The one before works for `overlapMs` more, at most as long as it would have.
   *
   * @throws KvError CLUSTER_CONFLICT when the key is not valid, or has two secrets already; CONFLICT when others
   *   change it all the time; OVERLOADED
   */
  async rotate(id: string, overlapMs: number, timing: Timing): Promise<ShownKey> {
    const { clock, random } = this.#options;
    const secret = makeSecret(random);
    const hashed = await this.#hash(this.#found(id).tenant, id, secret);
    const stored = await this.#change(id, timing, (record) => {
      const nowMs = clock.nowMs();
      const why = whyNotValid(record, nowMs);
      if (why !== undefined) throw refused(`the key is ${why}`);
      const made = create(KeySecretSchema, { ...hashed, createdAtMs: BigInt(nowMs) });
      return { ...record, secrets: [...keptSecrets(record, nowMs, overlapMs), made] };
    });
    return { text: formatApiKey({ id, secret }), stored };
  }

  /** A key that is revoked already stays as it is. */
  revoke(id: string, timing: Timing): Promise<StoredKey> {
    const nowMs = BigInt(this.#options.clock.nowMs());
    return this.#change(id, timing, (record) =>
      record.revokedAtMs === 0n ? { ...record, revokedAtMs: nowMs } : undefined,
    );
  }

  async delete(id: string, timing: Timing): Promise<void> {
    const { directory } = this.#options;
    for (let attempt = 0; attempt < KEY_CHANGE_ATTEMPTS_MAX; attempt++) {
      const { row } = this.#found(id);
      const mutations = [
        { name: row.name, value: undefined, expectedRevision: row.revision },
        { name: keyUseRowName(id), value: undefined },
      ];
      if (await directory.change(mutations, timing)) return;
    }
    throw changedMeanwhile();
  }

  /** `edit` gives the record as it is to be, or undefined to leave it. */
  async #change(
    id: string,
    timing: Timing,
    edit: (record: ApiKeyRecord) => ApiKeyRecord | undefined,
  ): Promise<StoredKey> {
    const { directory } = this.#options;
    for (let attempt = 0; attempt < KEY_CHANGE_ATTEMPTS_MAX; attempt++) {
      const { row, record } = this.#found(id);
      const edited = edit(record);
      if (edited === undefined) return this.#found(id);
      const { name, revision } = row;
      const mutation = { name, value: encodeKey(edited), expectedRevision: revision };
      if (await directory.change([mutation], timing)) return this.#changed(id);
    }
    throw changedMeanwhile();
  }

  /** A list of ten thousand keys is asked for over and over; each is decoded once. */
  #keyIn(row: DirectoryRow): StoredKey | undefined {
    const known = this.#read.get(row);
    if (known !== undefined) return known;
    const key = storedKeyOf(row);
    if (key !== undefined) this.#read.set(row, key);
    return key;
  }

  #found(id: string): StoredKey {
    const stored = this.find(id);
    if (stored === undefined)
      throw new RequestRefused("RESOURCE_NOT_FOUND", "there is no such key");
    return stored;
  }

  /** A key that was made or changed just now. */
  #changed(id: string): StoredKey {
    const stored = this.find(id);
    if (stored !== undefined) return stored;
    throw new KvError("CONFLICT", "the key was changed, and at once deleted by somebody else", {
      outcome: "unknown",
    });
  }

  #refuseTooMany(tenant: TenantId): void {
    const keys = this.all();
    const own = keys.filter((key) => key.tenant === tenant).length;
    if (keys.length < KEYS_MAX && own < KEYS_PER_TENANT_MAX) return;
    const whose = own < KEYS_PER_TENANT_MAX ? "the cluster" : "the tenant";
    throw refused(`${whose} has as many API keys as it may; delete those that are not used`);
  }

  /** Of the line that all share, one tenant takes a few places: others have to come in too. */
  async #hash(tenant: TenantId, id: string, secret: string): Promise<SecretHash> {
    const { hashQueue, hasher } = this.#options;
    const waiting = this.#hashing.get(tenant) ?? 0;
    if (waiting >= KEY_HASHES_PER_TENANT_MAX) {
      throw new RequestRefused("OVERLOADED", "too many keys of this tenant are being made at once");
    }
    this.#hashing.set(tenant, waiting + 1);
    try {
      const hashed = hashQueue.run(() => hasher.hash(id, secret));
      if (hashed !== undefined) return await hashed;
      throw new RequestRefused("OVERLOADED", "too many keys wait for Argon2");
    } finally {
      const left = this.#hashing.get(tenant)! - 1;
      if (left > 0) this.#hashing.set(tenant, left);
      else this.#hashing.delete(tenant);
    }
  }
}

/** What stays of the secrets before when a new one comes: at most the newest, for as long as is left. */
function keptSecrets(record: ApiKeyRecord, nowMs: number, overlapMs: number) {
  if (overlapMs === 0) return [];
  const live = liveSecrets(record, nowMs);
  if (live.length >= KEY_SECRETS_MAX) {
    throw refused("the key has two secrets already; rotate with overlap 0s to end both");
  }
  const untilMs = BigInt(nowMs + overlapMs);
  return live.map((secret) => {
    const endsEarlier = secret.expiresAtMs !== 0n && secret.expiresAtMs < untilMs;
    return { ...secret, expiresAtMs: endsEarlier ? secret.expiresAtMs : untilMs };
  });
}

const refused = (detail: string) => new RequestRefused("CLUSTER_CONFLICT", detail);
const changedMeanwhile = () =>
  new RequestRefused("CONFLICT", "somebody else changes this key at the same time");
