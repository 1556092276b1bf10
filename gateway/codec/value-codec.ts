/**
 * Between what clients store and what storage keeps: compression, then encryption, and back.
 *
 * Small values are done at once. Large ones are compressed by another thread; encrypting a megabyte
 * takes less than a millisecond and is done here.
 *
 * Nothing that a stored value says of itself is believed before it is checked: the size that it has
 * decompressed is known from its row, and is a bound before a byte is allocated.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { compress, compressSync, uncompress, uncompressSync } from "lz4-napi";
import type { KeyRef } from "#gateway/storage/storage.ts";
import { KvError } from "#shared/errors.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { CODEC_SYNC_BYTES_MAX, COMPRESSION_SAVES_PART_MIN } from "#shared/limits-codec.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { DataKeys, SealingSession } from "./data-keys.ts";
import {
  asBuffer,
  associatedData,
  dataKeyNumberAt,
  FLAG_COMPRESSED,
  FLAG_ENCRYPTED,
  HEAD_SIZE_BYTES,
  nonceOf,
  PLAIN_HEAD_SIZE_BYTES,
  readFlags,
  SEALED_ENCODING,
  sessionIdAt,
  TAG_SIZE_BYTES,
  writeHead,
} from "./envelope.ts";

const CIPHER = "aes-256-gcm";
const CIPHER_OPTIONS = { authTagLength: TAG_SIZE_BYTES };
/** In front of what LZ4 makes: the size before, little endian. */
const LZ4_PREFIX_SIZE_BYTES = 4;

/** As storage keeps it. */
export type EncodedValue = {
  readonly value: Uint8Array;
  readonly encoding: number;
  /** 0 for a plain value, which has one size only. */
  readonly logicalSizeBytes: number;
};

/** As storage gives it. */
export type StoredBytes = {
  readonly value: Uint8Array;
  readonly valueSizeBytes: number;
  readonly encoding?: number;
};

export type ValueCodecOptions = {
  readonly keys: DataKeys;
  /** 0 for no compression. */
  readonly compressAboveBytes: number;
};

export class ValueCodec {
  readonly #keys: DataKeys;
  readonly #compressAboveBytes: number;

  constructor({ keys, compressAboveBytes }: ValueCodecOptions) {
    this.#keys = keys;
    this.#compressAboveBytes = compressAboveBytes;
  }

  /** @throws KvError not_applied: ENCRYPTION_KEY_MISSING, UNAVAILABLE, DATA_CORRUPT */
  seal(ref: KeyRef, value: Uint8Array, deadlineMs: number): MaybePromise<EncodedValue> {
    if (!this.#keys.encrypts) this.#keys.assertPlain();
    const size = value.length;
    if (this.#compressAboveBytes === 0 || size <= this.#compressAboveBytes) {
      return this.#sealed(ref, value, undefined, deadlineMs);
    }
    const buffer = asBuffer(value);
    if (size <= CODEC_SYNC_BYTES_MAX) {
      return this.#sealed(ref, value, worthKeeping(compressSync(buffer), size), deadlineMs);
    }
    return compress(buffer).then((compressed) =>
      this.#sealed(ref, value, worthKeeping(compressed, size), deadlineMs),
    );
  }

  /**
   * What the client stored. For a plain value the same bytes.
   *
   * @throws KvError ENCRYPTION_KEY_MISSING, DATA_CORRUPT
   */
  open(ref: KeyRef, stored: StoredBytes, deadlineMs: number): MaybePromise<Uint8Array> {
    const { value, encoding = 0, valueSizeBytes } = stored;
    if (encoding === 0) return value;
    if (encoding !== SEALED_ENCODING) {
      throw corrupt(`the value has encoding ${encoding}, which this gateway does not know`);
    }
    if (valueSizeBytes > VALUE_SIZE_BYTES_MAX) throw corrupt("the value claims to be too large");
    const flags = readFlags(value);
    const isCompressed = (flags & FLAG_COMPRESSED) !== 0;
    if ((flags & FLAG_ENCRYPTED) === 0) {
      return expanded(value.subarray(PLAIN_HEAD_SIZE_BYTES), isCompressed, valueSizeBytes);
    }
    const { tenant } = ref;
    const number = dataKeyNumberAt(value);
    const subkey = this.#keys.opening(tenant, number, sessionIdAt(value), deadlineMs);
    if (!isPromise(subkey)) {
      return expanded(decrypted(ref, stored, subkey), isCompressed, valueSizeBytes);
    }
    return subkey.then((key) =>
      expanded(decrypted(ref, stored, key), isCompressed, valueSizeBytes),
    );
  }

  #sealed(
    ref: KeyRef,
    value: Uint8Array,
    compressed: Uint8Array | undefined,
    deadlineMs: number,
  ): MaybePromise<EncodedValue> {
    if (!this.#keys.encrypts) return packed(value, compressed);
    const session = this.#keys.sealing(ref.tenant, deadlineMs);
    if (!isPromise(session)) return encrypted(ref, value, compressed, session);
    return session.then((key) => encrypted(ref, value, compressed, key));
  }
}

/** The number of the data key that a stored value is encrypted under; undefined when it is not. */
export function dataKeyNumberOf({ value, encoding = 0 }: StoredBytes): number | undefined {
  if (encoding !== SEALED_ENCODING) return undefined;
  return (readFlags(value) & FLAG_ENCRYPTED) === 0 ? undefined : dataKeyNumberAt(value);
}

function worthKeeping(compressed: Uint8Array, size: number): Uint8Array | undefined {
  return compressed.length <= size * (1 - COMPRESSION_SAVES_PART_MIN) ? compressed : undefined;
}

/** Compressed only, or plain. */
function packed(value: Uint8Array, compressed: Uint8Array | undefined): EncodedValue {
  if (compressed === undefined) return { value, encoding: 0, logicalSizeBytes: 0 };
  const bytes = Buffer.allocUnsafe(PLAIN_HEAD_SIZE_BYTES + compressed.length);
  bytes[0] = FLAG_COMPRESSED;
  bytes.set(compressed, PLAIN_HEAD_SIZE_BYTES);
  return { value: bytes, encoding: SEALED_ENCODING, logicalSizeBytes: value.length };
}

function encrypted(
  ref: KeyRef,
  value: Uint8Array,
  compressed: Uint8Array | undefined,
  session: SealingSession,
): EncodedValue {
  const content = compressed ?? value;
  // Taken before anything can fail: a nonce that was nearly used counts as used.
  const counter = session.counter++;
  const flags = FLAG_ENCRYPTED | (compressed === undefined ? 0 : FLAG_COMPRESSED);
  const bytes = Buffer.allocUnsafe(HEAD_SIZE_BYTES + content.length + TAG_SIZE_BYTES);
  writeHead(bytes, flags, session, counter);
  const cipher = createCipheriv(CIPHER, session.subkey, nonceOf(bytes), CIPHER_OPTIONS);
  cipher.setAAD(associatedData(bytes, ref, value.length));
  bytes.set(cipher.update(content), HEAD_SIZE_BYTES);
  cipher.final();
  bytes.set(cipher.getAuthTag(), HEAD_SIZE_BYTES + content.length);
  return { value: bytes, encoding: SEALED_ENCODING, logicalSizeBytes: value.length };
}

function decrypted(ref: KeyRef, stored: StoredBytes, subkey: Uint8Array): Uint8Array {
  const { value, valueSizeBytes } = stored;
  const decipher = createDecipheriv(CIPHER, subkey, nonceOf(value), CIPHER_OPTIONS);
  decipher.setAAD(associatedData(value, ref, valueSizeBytes));
  const contentEnd = value.length - TAG_SIZE_BYTES;
  decipher.setAuthTag(value.subarray(contentEnd));
  const content = decipher.update(value.subarray(HEAD_SIZE_BYTES, contentEnd));
  try {
    decipher.final();
  } catch {
    throw corrupt("the value is not what was stored under this key");
  }
  return content;
}

function expanded(
  content: Uint8Array,
  isCompressed: boolean,
  sizeBytes: number,
): MaybePromise<Uint8Array> {
  if (!isCompressed) {
    if (content.length !== sizeBytes) throw corrupt("the value has not the size it should have");
    return content;
  }
  const buffer = asBuffer(content);
  // What LZ4 would allocate, before it looks at anything else.
  const claimed = buffer.length < LZ4_PREFIX_SIZE_BYTES ? -1 : buffer.readUInt32LE(0);
  if (claimed !== sizeBytes) throw corrupt("the compressed value has not the size it should have");
  if (sizeBytes > CODEC_SYNC_BYTES_MAX) {
    return uncompress(buffer).then(
      (value) => ofSize(value, sizeBytes),
      (cause: unknown) => {
        throw corrupt("the compressed value does not decompress", cause);
      },
    );
  }
  let value: Uint8Array;
  try {
    value = uncompressSync(buffer);
  } catch (cause) {
    throw corrupt("the compressed value does not decompress", cause);
  }
  return ofSize(value, sizeBytes);
}

function ofSize(value: Uint8Array, sizeBytes: number): Uint8Array {
  if (value.length !== sizeBytes) throw corrupt("the decompressed value has not its size");
  return value;
}

function corrupt(detail: string, cause?: unknown): KvError {
  return new KvError("DATA_CORRUPT", detail, cause === undefined ? {} : { cause });
}
