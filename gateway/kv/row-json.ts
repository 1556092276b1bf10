/** A stored value as JSON members, wherever a value does not travel as a body of its own. */
import { isAscii, isUtf8 } from "node:buffer";
import type { StoredValue } from "#gateway/storage/storage.ts";

/**
 * `"value":"…"` when the value is UTF-8, else `"value_base64":"…"`. Exactly one of the two: bytes come
 * back as they are, and text can be read.
 */
export function valueJsonMember(value: Uint8Array): string {
  const buffer = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (isAscii(buffer)) return `"value":${JSON.stringify(buffer.toString("latin1"))}`;
  if (isUtf8(buffer)) return `"value":${JSON.stringify(buffer.toString("utf8"))}`;
  return `"value_base64":"${buffer.toString("base64")}"`;
}

/** All that is known of a value but its key, without braces. */
export function storedJsonMembers(stored: StoredValue, withValue: boolean): string {
  const { revision, contentType, valueSizeBytes, expiresAtMs, value } = stored;
  let json = `"revision":${revision},"content_type":${JSON.stringify(contentType)}`;
  json += `,"size":${valueSizeBytes}`;
  if (expiresAtMs !== 0) json += `,"expires_at":"${new Date(expiresAtMs).toISOString()}"`;
  return withValue ? `${json},${valueJsonMember(value)}` : json;
}
