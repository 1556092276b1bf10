/**
 * What a value of encoding 1 looks like in storage. Layout in `docs/formats/values.md`.
 *
 *     flags (1) | [data key number (4) | session id (16) | counter (6)] | content | [tag (16)]
 *
 * The parts in brackets are those of an encrypted value. Pure: nothing here knows a key.
 */
import { KvError } from "#shared/errors.ts";
import { Space, type TenantId } from "#shared/ids.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";

/** Of `Put`: a value that begins with an envelope. 0 is a plain value. Never renumbered. */
export const SEALED_ENCODING = 1;

export const FLAG_COMPRESSED = 1;
export const FLAG_ENCRYPTED = 2;
const FLAGS_KNOWN = FLAG_COMPRESSED | FLAG_ENCRYPTED;

export const SESSION_ID_SIZE_BYTES = 16;
export const TAG_SIZE_BYTES = 16;
const NUMBER_AT = 1;
const SESSION_AT = 5;
const COUNTER_AT = SESSION_AT + SESSION_ID_SIZE_BYTES;
const COUNTER_SIZE_BYTES = 6;
/** Of a value that is only compressed. */
export const PLAIN_HEAD_SIZE_BYTES = 1;
/** Of an encrypted one. */
export const HEAD_SIZE_BYTES = COUNTER_AT + COUNTER_SIZE_BYTES;
const NONCE_SIZE_BYTES = 12;

/** Writes the head of an encrypted value. */
export function writeHead(
  target: Buffer,
  flags: number,
  key: { readonly number: number; readonly sessionId: Uint8Array },
  counter: number,
): void {
  target[0] = flags;
  target.writeUInt32BE(key.number, NUMBER_AT);
  target.set(key.sessionId, SESSION_AT);
  target.writeUIntBE(counter, COUNTER_AT, COUNTER_SIZE_BYTES);
}

/** The flags of a value in storage. @throws KvError DATA_CORRUPT */
export function readFlags(sealed: Uint8Array): number {
  const flags = sealed[0];
  if (flags === undefined || (flags & ~FLAGS_KNOWN) !== 0) {
    throw new KvError("DATA_CORRUPT", "the value has an unknown form");
  }
  if ((flags & FLAG_ENCRYPTED) !== 0 && sealed.length < HEAD_SIZE_BYTES + TAG_SIZE_BYTES) {
    throw new KvError("DATA_CORRUPT", "the value is cut short");
  }
  return flags;
}

/** Of an encrypted value. */
export function dataKeyNumberAt(sealed: Uint8Array): number {
  return asBuffer(sealed).readUInt32BE(NUMBER_AT);
}

/** A view. */
export function sessionIdAt(sealed: Uint8Array): Uint8Array {
  return sealed.subarray(SESSION_AT, COUNTER_AT);
}

// Both are filled anew for each value: the cipher copies what it is given.
const nonce = Buffer.alloc(NONCE_SIZE_BYTES);
const LABEL = Buffer.from("minikv value");
const TENANT_AT = LABEL.length;
const SPACE_AT = TENANT_AT + 4;
const ENCODING_AT = SPACE_AT + 1;
const LOGICAL_SIZE_AT = ENCODING_AT + 4;
const HEAD_AT = LOGICAL_SIZE_AT + 8;
const KEY_AT = HEAD_AT + HEAD_SIZE_BYTES;
const associated = Buffer.alloc(KEY_AT + KEY_SIZE_BYTES_MAX);
associated.set(LABEL, 0);

/** The nonce of the value whose head is at the beginning of `sealed`. Valid until the next call. */
export function nonceOf(sealed: Uint8Array): Buffer {
  nonce.set(sealed.subarray(COUNTER_AT, HEAD_SIZE_BYTES), NONCE_SIZE_BYTES - COUNTER_SIZE_BYTES);
  return nonce;
}

/**
 * What is authenticated beside the content: where the value belongs, what it is said to be, and its head.
 * All parts but the last have a fixed size, so no two places give the same bytes. Valid until the next
 * call.
 */
export function associatedData(
  sealed: Uint8Array,
  { tenant, key }: { readonly tenant: TenantId; readonly key: Uint8Array },
  logicalSizeBytes: number,
): Buffer {
  associated.writeUInt32BE(tenant, TENANT_AT);
  associated[SPACE_AT] = Space.Kv;
  associated.writeUInt32BE(SEALED_ENCODING, ENCODING_AT);
  associated.writeUInt32BE(0, LOGICAL_SIZE_AT);
  associated.writeUInt32BE(logicalSizeBytes, LOGICAL_SIZE_AT + 4);
  associated.set(sealed.subarray(0, HEAD_SIZE_BYTES), HEAD_AT);
  associated.set(key, KEY_AT);
  return associated.subarray(0, KEY_AT + key.length);
}

/** The same bytes. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
