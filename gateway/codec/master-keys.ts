/**
 * Master keys: what wraps the keys that are stored in the directory. They come from outside
 * (`master-key-source.ts`) and are never stored.
 *
 * A secret is wrapped with AES-256-GCM under a key-encryption key of its own scope:
 * HKDF-SHA256(master key, "minikv key-encryption " + scope). The name of its row is associated data,
 * so that a wrapped secret is of no use in another row. Nonces are random, which is safe for the few
 * secrets that one scope ever has.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { MASTER_KEY_SIZE_BYTES, MASTER_KEYS_MAX } from "#shared/limits-codec.ts";
import type { Random } from "#shared/random.ts";

const NONCE_SIZE_BYTES = 12;
const TAG_SIZE_BYTES = 16;
const LINE = /^([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]{43}=)$/;
const NO_SALT = new Uint8Array(0);

/** What a secret is wrapped for: its scope has a key of its own, and `name` is that of its row. */
export type WrapPurpose = { readonly scope: string; readonly name: string };

export type Wrapped = { readonly masterKeyId: string; readonly wrapped: Uint8Array };

export class MasterKeys {
  /** Of the key that wraps from now on. */
  readonly currentId: string;
  readonly #keys: ReadonlyMap<string, Uint8Array>;

  /** The first key is the current one. */
  constructor(keys: ReadonlyMap<string, Uint8Array>) {
    const [first] = keys.keys();
    if (first === undefined) throw new RangeError("there is at least one master key");
    this.currentId = first;
    this.#keys = keys;
  }

  has(masterKeyId: string): boolean {
    return this.#keys.has(masterKeyId);
  }

  /** Under the current key. `random` must be the system's. */
  wrap(purpose: WrapPurpose, secret: Uint8Array, random: Random): Wrapped {
    const nonce = random.fill(new Uint8Array(NONCE_SIZE_BYTES));
    const key = this.#encryptionKey(purpose, this.currentId);
    const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_SIZE_BYTES });
    cipher.setAAD(utf8(purpose.name));
    const ciphertext = [cipher.update(secret), cipher.final()];
    const wrapped = Buffer.concat([nonce, ...ciphertext, cipher.getAuthTag()]);
    return { masterKeyId: this.currentId, wrapped };
  }

  /** @throws KvError ENCRYPTION_KEY_MISSING, DATA_CORRUPT */
  unwrap(purpose: WrapPurpose, { masterKeyId, wrapped }: Wrapped): Uint8Array {
    const key = this.#encryptionKey(purpose, masterKeyId);
    if (wrapped.length < NONCE_SIZE_BYTES + TAG_SIZE_BYTES) throw damaged(purpose, masterKeyId);
    const nonce = wrapped.subarray(0, NONCE_SIZE_BYTES);
    const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_SIZE_BYTES });
    decipher.setAAD(utf8(purpose.name));
    decipher.setAuthTag(wrapped.subarray(wrapped.length - TAG_SIZE_BYTES));
    try {
      const secret = decipher.update(wrapped.subarray(NONCE_SIZE_BYTES, -TAG_SIZE_BYTES));
      return Buffer.concat([secret, decipher.final()]);
    } catch {
      throw damaged(purpose, masterKeyId);
    }
  }

  #encryptionKey({ scope }: WrapPurpose, masterKeyId: string): Uint8Array {
    const master = this.#keys.get(masterKeyId);
    if (master === undefined) {
      const detail = `master key "${masterKeyId}" is not among those of this gateway`;
      throw new KvError("ENCRYPTION_KEY_MISSING", detail);
    }
    const info = utf8(`minikv key-encryption ${scope}`);
    return new Uint8Array(hkdfSync("sha256", master, NO_SALT, info, MASTER_KEY_SIZE_BYTES));
  }
}

/** For whoever keeps secrets of another kind in the directory, such as the private keys of tokens. */
export type KeyWrapper = {
  readonly currentId: string;
  /** `context` is the kind of secret, a slash, and its id. */
  readonly wrap: (secret: Uint8Array, context: string) => Uint8Array;
  /** @throws KvError ENCRYPTION_KEY_MISSING, DATA_CORRUPT */
  readonly unwrap: (masterKeyId: string, wrapped: Uint8Array, context: string) => Uint8Array;
};

export const keyWrapperOf = (keys: MasterKeys, random: Random): KeyWrapper => ({
  currentId: keys.currentId,
  wrap: (secret, context) => keys.wrap(purposeOf(context), secret, random).wrapped,
  unwrap: (masterKeyId, wrapped, context) =>
    keys.unwrap(purposeOf(context), { masterKeyId, wrapped }),
});

const purposeOf = (context: string): WrapPurpose => ({
  scope: context.slice(0, context.indexOf("/")),
  name: context,
});

function damaged({ name }: WrapPurpose, masterKeyId: string): KvError {
  const detail = `${name} cannot be unwrapped with master key "${masterKeyId}": it is another key, or the row is damaged`;
  return new KvError("DATA_CORRUPT", detail);
}

/**
 * From lines `id:base64`, of which the first is the current key. Empty lines and such that begin with `#`
 * do not count; a comma may stand for the end of a line.
 *
 * @throws Error which says what is wrong and in which line, and repeats nothing of it
 */
export function parseMasterKeys(text: string): MasterKeys {
  const keys = new Map<string, Uint8Array>();
  for (const [i, line] of text.split(/[\n,]/).entries()) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const [, id, base64] = LINE.exec(trimmed) ?? [];
    if (id === undefined || base64 === undefined) {
      throw new Error(
        `line ${i + 1} is not of the form id:base64 of ${MASTER_KEY_SIZE_BYTES} bytes`,
      );
    }
    if (keys.has(id)) throw new Error(`line ${i + 1} has an id that was there before`);
    keys.set(id, Buffer.from(base64, "base64"));
    if (keys.size > MASTER_KEYS_MAX) throw new Error(`there are more than ${MASTER_KEYS_MAX} keys`);
  }
  if (keys.size === 0) throw new Error("there is no key in it");
  return new MasterKeys(keys);
}

/** A fresh key, as a line for `parseMasterKeys`. */
export function masterKeyLine(random: Random): string {
  const id = Buffer.from(random.fill(new Uint8Array(4))).toString("hex");
  const key = random.fill(new Uint8Array(MASTER_KEY_SIZE_BYTES));
  return `mk-${id}:${Buffer.from(key).toString("base64")}`;
}
