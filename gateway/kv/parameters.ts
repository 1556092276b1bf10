/**
 * What a request asks for besides its key: time to live, consistency, deadline, content type.
 * Each is parsed once, here; a value that does not have its form is refused, never guessed.
 */

import { parseDurationMs } from "#gateway/http/duration.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import type { Query } from "#gateway/http/request-target.ts";
import type { CallOptions } from "#gateway/storage/storage.ts";
import {
  CONTENT_TYPE_SIZE_BYTES_MAX,
  STALENESS_MS_DEFAULT,
  STALENESS_MS_MAX,
  TTL_MS_MAX,
} from "#shared/limits.ts";

const INTEGER = /^[0-9]{1,15}$/;
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;
export const CONTENT_TYPE_DEFAULT = "application/octet-stream";

/** Deadline, cancellation and trace of one call to storage. */
export function callOptions(exchange: Exchange, deadlineMs: number): CallOptions {
  const { cancellation, trace } = exchange;
  return trace === undefined ? { deadlineMs, cancellation } : { deadlineMs, cancellation, trace };
}

/**
 * Time to live in milliseconds, 0 for none, from `Minikv-TTL`, `X-Minikv-TTL` or `?ttl=`: whole
 * seconds from 1. Several of them must agree.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseTtlMs(exchange: Exchange, query: Query): number {
  const header = exchange.header("minikv-ttl");
  const oldHeader = exchange.header("x-minikv-ttl");
  const parameter = query.get("ttl");
  if (header === undefined && oldHeader === undefined && parameter === undefined) return 0;
  let ttlMs = 0;
  for (const text of [header, oldHeader, parameter]) {
    if (text === undefined) continue;
    const valueMs = INTEGER.test(text) ? Number(text) * 1000 : 0;
    if (valueMs < 1000 || valueMs > TTL_MS_MAX) {
      throw malformed(
        `a TTL must be whole seconds from 1 to ${TTL_MS_MAX / 1000}; ` +
          "leave it out for a value that does not expire",
      );
    }
    if (ttlMs !== 0 && ttlMs !== valueMs) {
      throw malformed("Minikv-TTL, X-Minikv-TTL and ?ttl= contradict each other");
    }
    ttlMs = valueMs;
  }
  return ttlMs;
}

/**
 * 0 for a linearizable read, else how far behind the answer may be.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseMaxStalenessMs(query: Query): number {
  const consistency = query.get("consistency");
  const maxStaleness = query.get("max_staleness");
  if (consistency === "stale") {
    return maxStaleness === undefined
      ? STALENESS_MS_DEFAULT
      : parseDurationMs(maxStaleness, "max_staleness", STALENESS_MS_MAX);
  }
  if (consistency !== undefined && consistency !== "linearizable") {
    throw malformed("consistency must be linearizable or stale");
  }
  if (maxStaleness !== undefined) throw malformed("max_staleness needs consistency=stale");
  return 0;
}

/**
 * The content type to store, as given. Only printable ASCII: it becomes a header again.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseContentType(exchange: Exchange): string {
  const contentType = exchange.header("content-type");
  if (contentType === undefined || contentType === "") return CONTENT_TYPE_DEFAULT;
  checkContentType(contentType, "Content-Type");
  return contentType;
}

/** @throws RequestRefused INVALID_ARGUMENT */
export function checkContentType(text: string, what: string): void {
  if (text.length > CONTENT_TYPE_SIZE_BYTES_MAX) {
    throw new RequestRefused(
      "INVALID_ARGUMENT",
      `${what} has ${text.length} bytes, more than ${CONTENT_TYPE_SIZE_BYTES_MAX}`,
      { limit: CONTENT_TYPE_SIZE_BYTES_MAX, actual: text.length },
    );
  }
  if (!PRINTABLE_ASCII.test(text)) throw malformed(`${what} must be printable ASCII`);
}

/**
 * Refuses bodies that are not the value itself: values are stored and served byte for byte, so a
 * coding that is not stored with them would be lost.
 *
 * @throws RequestRefused UNSUPPORTED_MEDIA_TYPE, INVALID_ARGUMENT
 */
export function refuseEncodedBody(exchange: Exchange): void {
  const encoding = exchange.header("content-encoding");
  if (encoding !== undefined && encoding.trim().toLowerCase() !== "identity") {
    throw new RequestRefused(
      "UNSUPPORTED_MEDIA_TYPE",
      "a body with a Content-Encoding cannot be stored; send the value itself",
      { headers: ["Accept-Encoding", "identity"] },
    );
  }
  // RFC 9110, 14.4: a server that does not do partial PUT must refuse, or it stores the part as
  // the whole.
  if (exchange.header("content-range") !== undefined) {
    throw malformed("a PUT replaces the whole value; Content-Range is not supported");
  }
}
