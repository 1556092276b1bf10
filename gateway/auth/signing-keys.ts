/**
 * The keys that sign tokens: one row of the directory for each, shared by all gateways.
 *
 * - The newest key signs once it has been known for SIGNING_KEY_PUBLISHED_MS, so that no gateway meets a
 *   token whose key it has not heard of. The very first key signs at once.
 * - A key that was followed by another one still verifies until the last token that it can have signed has
 *   expired. Then its row goes, and the private key with it.
 * - Two gateways never both make the next key: the row `signing-keys` names the newest one, and changes
 *   together with the set of keys, by compare-and-swap.
 *
 * Public keys are read from the rows at each use. The private key is Ed25519 in PKCS #8, wrapped with the
 * master key. Without a master key it lies open in the directory: whoever reads a data directory could then
 * sign tokens.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { KeyWrapper } from "#gateway/codec/master-keys.ts";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { partlyDone } from "#gateway/directory/partly-done.ts";
import {
  type SigningKeyRecord,
  SigningKeyRecordSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { CLOCK_SKEW_MS_MAX, DEADLINE_MS_DEFAULT, DIRECTORY_MUTATIONS_MAX } from "#shared/limits.ts";
import {
  SIGNING_KEY_ARRIVAL_MS_MAX,
  SIGNING_KEY_PUBLISHED_MS,
  SIGNING_KEYS_MAX,
  TOKEN_CLOCK_SKEW_MS,
  TOKEN_TTL_MS_MAX,
} from "#shared/limits-tokens.ts";

/** Names the newest key: a SigningKeyRecord without keys. */
const NEWEST = "signing-keys";
const PREFIX = "signing-key/";
const KEY_ID = /^[A-Za-z0-9_-]{43}$/;
/** Beside the new key and the row that names it. */
const GONE_WITH_NEXT_MAX = DIRECTORY_MUTATIONS_MAX - 2;
const ARRIVAL_LOOKS_MAX = 20;
/** From when the next key was made until no token of this one is valid anywhere. */
const RETIRED_KEPT_MS =
  SIGNING_KEY_PUBLISHED_MS + TOKEN_TTL_MS_MAX + TOKEN_CLOCK_SKEW_MS + 2 * CLOCK_SKEW_MS_MAX;

export const signingKeyRow = (keyId: string): string => PREFIX + keyId;

export type SigningKey = {
  readonly keyId: string;
  readonly createdAtMs: number;
  readonly publicJwk: Readonly<Record<string, unknown>>;
  readonly publicKey: KeyObject;
  readonly record: SigningKeyRecord;
  readonly revision: number;
};

export type SigningKeysOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly rotationMs: number;
  /** Undefined where there is no master key. */
  readonly wrapper: KeyWrapper | undefined;
};

export class SigningKeys {
  readonly #options: SigningKeysOptions;
  /** Decoded rows, as long as the row is the same. */
  readonly #decoded = new Map<string, SigningKey>();
  readonly #privateKeys = new Map<string, KeyObject>();

  constructor(options: SigningKeysOptions) {
    this.#options = options;
  }

  /** Undefined when no such key signs or has signed: also for whatever a token calls its key. */
  get(keyId: string): SigningKey | undefined {
    if (!KEY_ID.test(keyId)) return undefined;
    const row = this.#options.directory.get(signingKeyRow(keyId));
    if (row === undefined) {
      this.#decoded.delete(keyId);
      this.#privateKeys.delete(keyId);
      return undefined;
    }
    const known = this.#decoded.get(keyId);
    if (known?.revision === row.revision) return known;
    const key = decode(keyId, row.value, row.revision);
    if (key !== undefined) this.#decoded.set(keyId, key);
    return key;
  }

  /** All of them, the oldest first. */
  list(): readonly SigningKey[] {
    return this.#options.directory
      .list(PREFIX)
      .flatMap(({ name }) => this.get(name.slice(PREFIX.length)) ?? [])
      .sort((a, b) => a.createdAtMs - b.createdAtMs || (a.keyId < b.keyId ? -1 : 1));
  }

  /** The JSON Web Key Set (RFC 7517): public keys only, the next one included. */
  publicKeySet(): { readonly keys: readonly object[] } {
    return { keys: this.list().map(({ publicJwk }) => publicJwk) };
  }

  /**
   * The key that signs now; made when there is none at all.
   *
   * @throws KvError UNAVAILABLE, ENCRYPTION_KEY_MISSING, and as the directory's `change`
   */
  async signer(): Promise<{ readonly keyId: string; readonly privateKey: KeyObject }> {
    let key = this.#current();
    if (key === undefined) {
      await this.#add([]);
      key = this.#current();
    }
    if (key === undefined) throw unavailable("the signing keys are not known here yet");
    return { keyId: key.keyId, privateKey: await this.#privateKeyOf(key) };
  }

  /**
   * Makes the next key, which signs in a moment. With `revoke`, all others go at once, and with them every
   * token that was issued. The id of the newest key, which may be one that another gateway has just made.
   *
   * @throws KvError with its outcome, `unknown` when some of the others may have gone
   */
  async rotate(revoke = false): Promise<{ readonly keyId: string; readonly signsAtMs: number }> {
    const others = this.list();
    if (!revoke && others.length >= SIGNING_KEYS_MAX) {
      throw new KvError(
        "CLUSTER_CONFLICT",
        `there are ${others.length} signing keys already, whose tokens have not expired yet`,
        { outcome: "not_applied" },
      );
    }
    const before = this.#options.directory.get(NEWEST)?.revision;
    const isOwn = revoke ? await this.#replace(others) : await this.#add([]);
    if (revoke && !isOwn) throw changedMeanwhile();
    if (!isOwn && this.#options.directory.get(NEWEST)?.revision === before) {
      throw unavailable(
        "another gateway has made the next signing key, which is not known here yet",
      );
    }
    const newest = this.list().at(-1);
    if (newest === undefined) {
      throw new KvError("UNAVAILABLE", "the new signing key is not known here", {
        outcome: "unknown",
      });
    }
    const isAlone = this.list().length === 1;
    const waitMs = isAlone ? 0 : SIGNING_KEY_PUBLISHED_MS;
    return { keyId: newest.keyId, signsAtMs: newest.createdAtMs + waitMs };
  }

  /** Makes the first or the next key when it is time, and removes what is of no use any more. */
  async maintain(): Promise<void> {
    const { directory, clock, rotationMs } = this.#options;
    if (!directory.isKnown) throw unavailable("the directory is not known here yet");
    const newest = this.list().at(-1);
    if (newest === undefined || clock.nowMs() - newest.createdAtMs >= rotationMs) {
      await this.#add([]);
    }
    await this.#removeExpired();
  }

  #current(): SigningKey | undefined {
    const knownSinceMs = this.#options.clock.nowMs() - SIGNING_KEY_PUBLISHED_MS;
    const keys = this.list();
    return keys.findLast(({ createdAtMs }) => createdAtMs <= knownSinceMs) ?? keys[0];
  }

  /** As `#add`, for however many. Those that one change cannot hold beside the new key go first, the oldest. */
  async #replace(gone: readonly SigningKey[]): Promise<boolean> {
    const early = gone.slice(0, Math.max(0, gone.length - GONE_WITH_NEXT_MAX));
    if (early.length === 0) return await this.#add(gone);
    this.#refuseToAdd();
    // A key that comes between the two changes is none of `gone`: it must make the second one fail.
    const newest = this.#options.directory.get(NEWEST);
    if (!(await this.#change(early.map(removal)))) return false;
    try {
      if (await this.#add(gone.slice(early.length), newest)) return true;
      throw changedMeanwhile();
    } catch (cause) {
      throw partlyDone(`${early.length} of ${gone.length} signing keys are revoked`, cause);
    }
  }

  /** @throws KvError UNAVAILABLE, ENCRYPTION_KEY_MISSING */
  #refuseToAdd(): void {
    const { directory, wrapper } = this.#options;
    if (!directory.isKnown) throw unavailable("the directory is not known here yet");
    // What others wrap must not lie open because this gateway was started without their master key.
    const wrapped = this.list().find(({ record }) => record.masterKeyId !== "")?.record;
    if (wrapper === undefined && wrapped !== undefined) throw missing(wrapped.masterKeyId);
  }

  /**
   * Adds a key and removes `gone`, which one change must hold. False when another gateway has changed the keys
   * first; by then this one has heard of it, or has waited long enough.
   */
  async #add(
    gone: readonly SigningKey[],
    newest: DirectoryRow | undefined = this.#options.directory.get(NEWEST),
  ): Promise<boolean> {
    const { clock, wrapper } = this.#options;
    this.#refuseToAdd();
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const { kty, crv, x } = publicKey.export({ format: "jwk" });
    const { calculateJwkThumbprint } = await import("jose");
    const keyId = await calculateJwkThumbprint({ kty: kty!, crv: crv!, x: x! });
    const secret = privateKey.export({ format: "der", type: "pkcs8" });
    const record = create(SigningKeyRecordSchema, {
      kid: keyId,
      privateKey: wrapper === undefined ? secret : await wrapper.wrap(secret, contextOf(keyId)),
      masterKeyId: wrapper?.currentId ?? "",
      publicJwk: JSON.stringify({ kty, crv, x, kid: keyId, alg: "EdDSA", use: "sig" }),
      // Later than all others, whatever clocks say: the order of the keys is the order of these.
      createdAtMs: BigInt(Math.max(clock.nowMs(), (this.list().at(-1)?.createdAtMs ?? 0) + 1)),
    });
    const { createdAtMs } = record;
    const naming = create(SigningKeyRecordSchema, { kid: keyId, createdAtMs });
    const added = await this.#change([
      {
        name: NEWEST,
        value: toBinary(SigningKeyRecordSchema, naming),
        expectedRevision: newest?.revision ?? 0,
      },
      {
        name: signingKeyRow(keyId),
        value: toBinary(SigningKeyRecordSchema, record),
        expectedRevision: 0,
      },
      ...gone.map(removal),
    ]);
    if (!added) await this.#arrival(newest?.revision);
    return added;
  }

  async #removeExpired(): Promise<void> {
    const keys = this.list();
    const nowMs = this.#options.clock.nowMs();
    const isOver = (at: number) => nowMs - keys[at + 1]!.createdAtMs > RETIRED_KEPT_MS;
    const expired = keys.filter((_, at) => at + 1 < keys.length && isOver(at));
    // One that another gateway has removed meanwhile is seen the next time.
    const some = expired.slice(0, DIRECTORY_MUTATIONS_MAX);
    if (some.length > 0) await this.#change(some.map(removal));
  }

  #change(mutations: readonly DirectoryMutation[]): Promise<boolean> {
    const { directory, clock } = this.#options;
    return directory.change(mutations, { deadlineMs: clock.nowMs() + DEADLINE_MS_DEFAULT });
  }

  /** Waits for what another gateway has written, which takes a second at most. */
  async #arrival(revision: number | undefined): Promise<void> {
    const { directory, clock } = this.#options;
    for (let look = 0; look < ARRIVAL_LOOKS_MAX; look++) {
      if (directory.get(NEWEST)?.revision !== revision) return;
      await new Promise<void>((resolve) => {
        clock.after(SIGNING_KEY_ARRIVAL_MS_MAX / ARRIVAL_LOOKS_MAX, resolve);
      });
    }
  }

  async #privateKeyOf({ keyId, record }: SigningKey): Promise<KeyObject> {
    const known = this.#privateKeys.get(keyId);
    if (known !== undefined) return known;
    const key = createPrivateKey({
      key: Buffer.from(await this.#unwrapped(record)),
      format: "der",
      type: "pkcs8",
    });
    this.#privateKeys.set(keyId, key);
    return key;
  }

  async #unwrapped({ kid, privateKey, masterKeyId }: SigningKeyRecord): Promise<Uint8Array> {
    if (masterKeyId === "") return privateKey;
    const { wrapper } = this.#options;
    try {
      if (wrapper !== undefined) {
        return await wrapper.unwrap(masterKeyId, privateKey, contextOf(kid));
      }
    } catch (cause) {
      if (!(cause instanceof KvError) || cause.code !== "DATA_CORRUPT") {
        throw missing(masterKeyId, cause);
      }
      throw new KvError("DATA_CORRUPT", cause.message, { outcome: "not_applied", cause });
    }
    throw missing(masterKeyId);
  }
}

const contextOf = (keyId: string): string => `signing-key/${keyId}`;

const removal = ({ keyId, revision }: SigningKey): DirectoryMutation => ({
  name: signingKeyRow(keyId),
  value: undefined,
  expectedRevision: revision,
});

const unavailable = (detail: string): KvError =>
  new KvError("UNAVAILABLE", detail, { outcome: "not_applied" });

const changedMeanwhile = (): KvError =>
  new KvError("CONFLICT", "the signing keys were changed just now, try again", {
    outcome: "not_applied",
  });

const missing = (masterKeyId: string, cause?: unknown): KvError =>
  new KvError(
    "ENCRYPTION_KEY_MISSING",
    `the signing key is wrapped with master key ${JSON.stringify(masterKeyId)}, which is not known here`,
    { outcome: "not_applied", cause },
  );

/** Undefined for a row that is no signing key: it then verifies nothing. */
function decode(keyId: string, value: Uint8Array, revision: number): SigningKey | undefined {
  try {
    const record = fromBinary(SigningKeyRecordSchema, value);
    const publicJwk = JSON.parse(record.publicJwk) as Record<string, string>;
    const publicKey = createPublicKey({ key: publicJwk, format: "jwk" });
    if (record.kid !== keyId || publicKey.asymmetricKeyType !== "ed25519") return undefined;
    return {
      ...{ keyId, publicJwk, publicKey, record, revision },
      createdAtMs: Number(record.createdAtMs),
    };
  } catch {
    return undefined;
  }
}
