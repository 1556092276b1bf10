/**
 * Where a request names its key: the raw path behind `/v1/kv/`, percent-encoded, or `?key64=` in
 * base64url for clients behind a proxy that rewrites paths.
 *
 * A key is any byte string of 1 to 1,024 bytes. Slashes may stay bare, `..` is a key like any
 * other, and nothing is normalised: two different spellings of the same bytes are the same key,
 * and two different byte strings never are.
 */
import { isAscii, isUtf8 } from "node:buffer";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import {
  hasParameter,
  parseQuery,
  percentDecode,
  type Query,
  splitTarget,
} from "#gateway/http/request-target.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";

export const KV_PATH = "/v1/kv";

const KEY_START = KV_PATH.length + 1;
const SLASH = 0x2f;
const QUESTION_MARK = 0x3f;
const KEY64 = "key64";
const BASE64URL = /^[A-Za-z0-9_-]+={0,2}$/;

/** Whether a target in origin form belongs to the key-value route. */
export function isKvTarget(target: string): boolean {
  if (!target.startsWith(KV_PATH)) return false;
  if (target.length === KV_PATH.length) return true;
  const next = target.charCodeAt(KV_PATH.length);
  return next === SLASH || next === QUESTION_MARK;
}

/** Whether a target of the key-value route names no key at all: it is about many of them. */
export function isCollectionTarget(target: string): boolean {
  const { path, query } = splitTarget(target);
  return path === KV_PATH && !hasParameter(query, KEY64);
}

export type KvTarget = { readonly key: Uint8Array; readonly query: Query };

/**
 * The key and the query of a request. `parameters` are those that the method takes besides
 * `key64`. The key is the caller's own.
 *
 * @throws RequestRefused INVALID_ARGUMENT, KEY_TOO_LONG, ROUTE_NOT_FOUND
 */
export function parseKvTarget(target: string, parameters: readonly string[]): KvTarget {
  // Hono also routes a path here that spells the prefix with escapes, such as `/v1/k%76/x`, where no listener does.
  if (!isKvTarget(target)) throw new RequestRefused("ROUTE_NOT_FOUND", "nothing is at this path");
  const { path, query: queryText } = splitTarget(target);
  const inPath = path.length > KEY_START;
  // First: `/v1/kv/?limit=10` is a list with a slash too many, and its parameters are right.
  if (!inPath && !hasParameter(queryText, KEY64)) {
    throw malformed(
      `a key is needed: ${KV_PATH}/{key} or ${KV_PATH}?key64={base64url}; GET ${KV_PATH} lists keys`,
    );
  }
  const query = parseQuery(queryText, parameters);
  const key64 = query.get(KEY64);
  if (key64 !== undefined && inPath) {
    throw malformed("give the key in the path or in key64, not in both");
  }
  const key =
    key64 === undefined
      ? percentDecode(path.slice(KEY_START), "the key")
      : decodeBase64Url(key64, KEY64);
  if (key.length > KEY_SIZE_BYTES_MAX) throw keyTooLong("the key", key.length);
  return { key, query };
}

export const keyTooLong = (what: string, sizeBytes: number): RequestRefused =>
  new RequestRefused(
    "KEY_TOO_LONG",
    `${what} has ${sizeBytes} bytes, more than ${KEY_SIZE_BYTES_MAX}`,
    { limit: KEY_SIZE_BYTES_MAX, actual: sizeBytes },
  );

/**
 * Bytes of a key in base64url. `what` names the part of the request in the error.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function decodeBase64Url(text: string, what: string): Uint8Array {
  const digits = text.replace(/=+$/, "");
  if (BASE64URL.test(text)) {
    const bytes = Buffer.from(digits, "base64url");
    // Bits that no byte uses must be zero: one key, one spelling.
    if (bytes.toString("base64url") === digits) return bytes;
  }
  throw malformed(`${what} must be base64url (A-Z a-z 0-9 - _), with or without padding`);
}

/**
 * The JSON member that shows a key: `"key":"…"` when the key is UTF-8, else `"key64":"…"` with
 * base64url. Exactly one of the two, so that a client never takes a mangled key for the real one.
 */
export function keyJsonMember(key: Uint8Array): string {
  const buffer = Buffer.from(key.buffer, key.byteOffset, key.byteLength);
  if (isAscii(buffer)) return `"key":${JSON.stringify(buffer.toString("latin1"))}`;
  if (isUtf8(buffer)) return `"key":${JSON.stringify(buffer.toString("utf8"))}`;
  return `"key64":"${buffer.toString("base64url")}"`;
}
