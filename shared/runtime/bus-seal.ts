/**
 * Seals messages of the bus: who has no key can neither read nor forge one.
 *
 * The server of the bus, and whoever it lets subscribe or publish by mistake, is then no more than somebody who
 * can lose messages, which the bus does anyway. Without a key its permissions are all that protects it.
 *
 * AES-256-GCM. Each process seals under a key of its own, derived (HKDF-SHA256) from the shared one and 16
 * random bytes; so its nonces are a counter, and no two messages of all processes share key and nonce. The
 * subject is associated data: a message says nothing anywhere else, neither of another vshard nor of another
 * cluster. A message that is sent again is opened again; receivers know what they have had by its revisions.
 * Format: docs/formats/wire.md.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  hkdfSync,
  type KeyObject,
} from "node:crypto";
import { EMPTY_BYTES, equalBytes, writeUint64 } from "#shared/bytes.ts";
import { BUS_SEAL_KEYS_MAX, BUS_SECRET_BYTES_MAX, BUS_SENDERS_KEPT_MAX } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Bus, BusFigures, BusHandler } from "./bus.ts";
import { ConfigError } from "./config.ts";
import type { NatsConfig } from "./nats-settings.ts";
import { readSecretFile } from "./secret-file.ts";

const ALGORITHM = "aes-256-gcm";
const FORMAT = 0x01;
const KEY_BYTES = 32;
const KEY_CHECK_BYTES = 4;
const SALT_BYTES = 16;
const COUNTER_BYTES = 8;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SALT_AT = 1 + KEY_CHECK_BYTES;
const COUNTER_AT = SALT_AT + SALT_BYTES;
const SEALED_AT = COUNTER_AT + COUNTER_BYTES;

export const SEAL_OVERHEAD_BYTES = SEALED_AT + TAG_BYTES;

type SealKey = {
  readonly secret: KeyObject;
  /** Tells which of several keys a message is under; says nothing of the key. */
  readonly check: Uint8Array;
};

/** @throws ConfigError, which repeats nothing secret */
export function loadSealKeys(
  config: Pick<NatsConfig, "natsSealKey" | "natsSealKeyFile">,
): readonly SealKey[] {
  const { natsSealKey, natsSealKeyFile } = config;
  if (natsSealKeyFile === "") {
    return natsSealKey === "" ? [] : parseSealKeys(natsSealKey, "nats-seal-key");
  }
  const source = `nats-seal-key-file ${natsSealKeyFile}`;
  let text: string;
  try {
    text = readSecretFile(natsSealKeyFile, BUS_SECRET_BYTES_MAX).toString("utf8");
  } catch (error) {
    throw new ConfigError(`${source}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return parseSealKeys(text, source);
}

function parseSealKeys(text: string, source: string): readonly SealKey[] {
  const lines = text.split(/[\n,]/).map((line) => line.trim());
  const keys = lines.filter((line) => line !== "").map((line) => sealKeyOf(line, source));
  if (keys.length === 0) throw new ConfigError(`${source}: there is no key in it`);
  if (keys.length > BUS_SEAL_KEYS_MAX) {
    throw new ConfigError(`${source}: more than ${BUS_SEAL_KEYS_MAX} keys`);
  }
  return keys;
}

function sealKeyOf(line: string, source: string): SealKey {
  const bytes = Buffer.from(line, "base64");
  // Node skips what is no base64.
  if (bytes.length !== KEY_BYTES || bytes.toString("base64") !== line) {
    throw new ConfigError(`${source}: a key is ${KEY_BYTES} random bytes in base64`);
  }
  const check = createHash("sha256").update("minikv bus key").update(bytes).digest();
  return { secret: createSecretKey(bytes), check: check.subarray(0, KEY_CHECK_BYTES) };
}

function senderKey(key: SealKey, salt: Uint8Array): KeyObject {
  return createSecretKey(
    Buffer.from(hkdfSync("sha256", key.secret, salt, "minikv bus message", KEY_BYTES)),
  );
}

export type SealOptions = {
  /** The first seals, each one opens. At least one. */
  readonly keys: readonly SealKey[];
  readonly random: Random;
  /** A message was under no key of ours. As often as somebody sends one. */
  readonly onRefused: () => void;
};

/** A bus over another one, whose messages are sealed. Handlers get what could be opened. */
export class SealedBus implements Bus {
  readonly #bus: Bus;
  readonly #keys: readonly SealKey[];
  readonly #onRefused: () => void;
  readonly #salt: Uint8Array;
  readonly #ownKey: KeyObject;
  /** By key check and salt; only of senders of whom a message could be opened. */
  readonly #senders = new Map<string, KeyObject>();
  #counter = 0;
  #messagesDropped = 0;
  #messagesRefused = 0;

  constructor(bus: Bus, { keys, random, onRefused }: SealOptions) {
    this.#bus = bus;
    this.#keys = keys;
    this.#onRefused = onRefused;
    this.#salt = random.fill(new Uint8Array(SALT_BYTES));
    this.#ownKey = senderKey(keys[0]!, this.#salt);
  }

  get isConnected(): boolean {
    return this.#bus.isConnected;
  }

  get payloadBytesMax(): number {
    return Math.max(0, this.#bus.payloadBytesMax - SEAL_OVERHEAD_BYTES);
  }

  hasRoom(payloadBytes: number): boolean {
    return this.#bus.hasRoom(payloadBytes + SEAL_OVERHEAD_BYTES);
  }

  publish(subject: string, payload: Uint8Array): boolean {
    // What would be dropped is not worth sealing.
    if (!this.hasRoom(payload.length)) {
      this.#messagesDropped++;
      return false;
    }
    return this.#bus.publish(subject, this.#seal(subject, payload));
  }

  subscribe(subject: string, handler: BusHandler): () => void {
    return this.#bus.subscribe(subject, (sealed) => {
      const payload = this.#open(subject, sealed);
      if (payload !== undefined) {
        handler(payload);
        return;
      }
      this.#messagesRefused++;
      this.#onRefused();
    });
  }

  figures(): BusFigures {
    const figures = this.#bus.figures();
    return {
      ...figures,
      messagesDropped: figures.messagesDropped + this.#messagesDropped,
      messagesRefused: figures.messagesRefused + this.#messagesRefused,
    };
  }

  #seal(subject: string, payload: Uint8Array): Uint8Array {
    const message = Buffer.allocUnsafe(payload.length + SEAL_OVERHEAD_BYTES);
    message[0] = FORMAT;
    message.set(this.#keys[0]!.check, 1);
    message.set(this.#salt, SALT_AT);
    writeUint64(message, COUNTER_AT, this.#counter++);
    const nonce = nonceOf(message);
    const cipher = createCipheriv(ALGORITHM, this.#ownKey, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(Buffer.from(subject));
    message.set(cipher.update(payload), SEALED_AT);
    // Of a stream cipher nothing is left; it only closes the tag.
    cipher.final();
    message.set(cipher.getAuthTag(), SEALED_AT + payload.length);
    return message;
  }

  /** Undefined for what nobody with a key has sealed for this subject. */
  #open(subject: string, sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < SEAL_OVERHEAD_BYTES || sealed[0] !== FORMAT) return undefined;
    const check = sealed.subarray(1, SALT_AT);
    const key = this.#keys.find((candidate) => equalBytes(candidate.check, check));
    if (key === undefined) return undefined;
    const sender = Buffer.from(sealed.subarray(1, COUNTER_AT)).toString("latin1");
    const known = this.#senders.get(sender);
    const opening = known ?? senderKey(key, sealed.subarray(SALT_AT, COUNTER_AT));
    const payload = openWith(opening, subject, sealed);
    if (payload !== undefined && known === undefined) this.#keep(sender, opening);
    return payload;
  }

  #keep(sender: string, key: KeyObject): void {
    // Insertion order: the oldest goes, and is derived again should it still send.
    if (this.#senders.size >= BUS_SENDERS_KEPT_MAX) {
      this.#senders.delete(this.#senders.keys().next().value!);
    }
    this.#senders.set(sender, key);
  }
}

function nonceOf(message: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(NONCE_BYTES);
  nonce.set(message.subarray(COUNTER_AT, SEALED_AT), NONCE_BYTES - COUNTER_BYTES);
  return nonce;
}

function openWith(key: KeyObject, subject: string, sealed: Uint8Array): Uint8Array | undefined {
  const tagAt = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv(ALGORITHM, key, nonceOf(sealed), { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(subject));
  decipher.setAuthTag(sealed.subarray(tagAt));
  try {
    const payload = decipher.update(sealed.subarray(SEALED_AT, tagAt));
    decipher.final();
    return payload.length === 0 ? EMPTY_BYTES : payload;
  } catch {
    return undefined;
  }
}
