/**
 * Where a scan goes on: opaque to clients, and good for the query that it came from only.
 *
 *     version 1 | flags 1 (1: reverse) | check 8 | the last key that was returned
 *
 * in base64url. The check is of everything that decides which keys come, and of the key: a cursor that
 * was cut, changed, or taken to another query is refused instead of silently leaving keys out.
 */
import { createHash } from "node:crypto";
import { malformed } from "#gateway/http/problem.ts";
import type { RowsQuery } from "#gateway/storage/storage.ts";
import { compareBytes, concatBytes, equalBytes, utf8 } from "#shared/bytes.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";

const VERSION = 1;
const FLAG_REVERSE = 1;
const CHECK_SIZE_BYTES = 8;
const KEY_START = 2 + CHECK_SIZE_BYTES;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/** What a cursor is bound to. */
export type CursorQuery = Pick<RowsQuery, "tenant" | "start" | "end" | "reverse">;

function checkOf({ tenant, start, end, reverse }: CursorQuery, key: Uint8Array): Uint8Array {
  const head = `${VERSION} ${tenant} ${reverse} ${start.length} ${end.length} `;
  const hash = createHash("sha256").update(utf8(head)).update(start).update(end).update(key);
  return hash.digest().subarray(0, CHECK_SIZE_BYTES);
}

export function encodeCursor(query: CursorQuery, lastKey: Uint8Array): string {
  const head = Uint8Array.of(VERSION, query.reverse ? FLAG_REVERSE : 0);
  const bytes = concatBytes(head, checkOf(query, lastKey), lastKey);
  return Buffer.from(bytes.buffer).toString("base64url");
}

const isInRange = (key: Uint8Array, { start, end }: CursorQuery): boolean =>
  compareBytes(key, start) >= 0 && (end.length === 0 || compareBytes(key, end) < 0);

/**
 * The last key that was returned.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function decodeCursor(text: string, query: CursorQuery): Uint8Array {
  const bytes = Buffer.from(text, "base64url");
  const isWhole = BASE64URL.test(text) && bytes.toString("base64url") === text;
  if (!isWhole || bytes.length <= KEY_START || bytes[0] !== VERSION) {
    throw malformed("the cursor is none that this server gave");
  }
  const key = bytes.subarray(KEY_START);
  const isBound =
    bytes[1] === (query.reverse ? FLAG_REVERSE : 0) &&
    equalBytes(bytes.subarray(2, KEY_START), checkOf(query, key));
  if (!isBound) {
    throw malformed(
      "the cursor was changed or belongs to another query: prefix, start, end and reverse must be " +
        "those of the request that it came from",
    );
  }
  // Whoever computes the check himself gets no further than the query goes.
  if (key.length > KEY_SIZE_BYTES_MAX || !isInRange(key, query)) {
    throw malformed("the cursor is none that this server gave");
  }
  return key;
}
