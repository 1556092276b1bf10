/**
 * `GET /v1/kv?…` (and `/range?…`) taken apart: which keys, how many, in which form.
 *
 * `prefix`, `start` (inclusive) and `end` (exclusive) hold together; one that is empty is none. Each is
 * UTF-8, or any bytes in base64url under its name with `64`.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed } from "#gateway/http/problem.ts";
import { parseQuery, type Query, splitTarget } from "#gateway/http/request-target.ts";
import type { RowsQuery } from "#gateway/storage/storage.ts";
import { compareBytes, concatBytes, EMPTY_BYTES, prefixEnd, utf8 } from "#shared/bytes.ts";
import { Space, type TenantId } from "#shared/ids.ts";
import { KEY_SIZE_BYTES_MAX, SCAN_LIMIT_DEFAULT, SCAN_LIMIT_MAX } from "#shared/limits.ts";
import { vshardOfPrefix } from "#shared/vshard.ts";
import { type CursorQuery, decodeCursor } from "./cursor.ts";
import { decodeBase64Url, keyTooLong } from "./key.ts";
import { parseMaxStalenessMs } from "./parameters.ts";

export const SCAN_PARAMETERS = [
  "prefix",
  "prefix64",
  "start",
  "start64",
  "end",
  "end64",
  "limit",
  "cursor",
  "reverse",
  "keys_only",
  "count_only",
  "consistency",
  "max_staleness",
] as const;

const NDJSON = /^application\/(?:x-)?ndjson$/i;
const BEHIND = new Uint8Array(1);

export type ScanRequest = {
  readonly form: "page" | "count" | "stream";
  /** Of all keys that can be listed; empty for none. */
  readonly prefix: Uint8Array;
  /** What is left to read, after the cursor. */
  readonly query: RowsQuery;
  /** The whole range, to which cursors are bound. */
  readonly whole: CursorQuery;
  /** No key can be in the range. */
  readonly isEmpty: boolean;
  readonly limit: number;
  readonly maxStalenessMs: number;
};

/** @throws RequestRefused INVALID_ARGUMENT, KEY_TOO_LONG */
export function parseScan(exchange: Exchange, tenant: TenantId): ScanRequest {
  const parameters = parseQuery(splitTarget(exchange.target).query, SCAN_PARAMETERS);
  const countOnly = parseFlag(parameters, "count_only");
  const form = countOnly ? "count" : wantsStream(exchange) ? "stream" : "page";
  refuseContradictions(parameters, form);
  const prefix = parseBound(parameters, "prefix");
  const whole = {
    tenant,
    ...rangeOf(prefix, parseBound(parameters, "start"), parseBound(parameters, "end")),
    reverse: parseFlag(parameters, "reverse"),
  };
  const rest = restOf(whole, parameters.get("cursor"));
  return {
    form,
    prefix,
    whole,
    query: {
      ...rest,
      keysOnly: parseFlag(parameters, "keys_only"),
      isStream: form === "stream",
      vshard: vshardOfPrefix({ tenant: whole.tenant, space: Space.Kv, key: prefix }),
    },
    isEmpty: rest.end.length > 0 && compareBytes(rest.start, rest.end) >= 0,
    limit: parseLimit(parameters),
    maxStalenessMs: parseMaxStalenessMs(parameters),
  };
}

function wantsStream(exchange: Exchange): boolean {
  const accept = exchange.header("accept");
  if (accept === undefined) return false;
  return accept.split(",").some((range) => {
    const [type, ...details] = range.split(";").map((part) => part.trim());
    return NDJSON.test(type!) && !details.some((detail) => /^q=0(\.0*)?$/i.test(detail));
  });
}

function refuseContradictions(parameters: Query, form: ScanRequest["form"]): void {
  if (form === "page") return;
  const what = form === "count" ? "count_only counts all keys of the range" : "a stream has no end";
  const senseless = form === "count" ? ["limit", "cursor", "reverse", "keys_only"] : ["limit"];
  for (const name of senseless) {
    if (parameters.has(name)) throw malformed(`${what}: ${name} does not go with it`);
  }
}

/** Empty when it is not given. */
function parseBound(parameters: Query, name: "prefix" | "start" | "end"): Uint8Array {
  const text = parameters.get(name);
  const name64 = `${name}64`;
  const text64 = parameters.get(name64);
  if (text !== undefined && text64 !== undefined) {
    throw malformed(`give ${name} or ${name64}, not both`);
  }
  const bytes =
    text64 === undefined || text64 === "" ? utf8(text ?? "") : decodeBase64Url(text64, name64);
  if (bytes.length > KEY_SIZE_BYTES_MAX) throw keyTooLong(name, bytes.length);
  return bytes;
}

type Range = { readonly start: Uint8Array; readonly end: Uint8Array };

/** What lies in all three. An end that is empty is none, and so is the end of the prefix `ff`. */
function rangeOf(prefix: Uint8Array, start: Uint8Array, end: Uint8Array): Range {
  const first = compareBytes(start, prefix) > 0 ? start : prefix;
  const behind = prefixEnd(prefix) ?? EMPTY_BYTES;
  if (behind.length === 0) return { start: first, end };
  if (end.length === 0) return { start: first, end: behind };
  return { start: first, end: compareBytes(end, behind) < 0 ? end : behind };
}

function restOf(whole: CursorQuery, cursor: string | undefined): CursorQuery {
  if (cursor === undefined) return whole;
  const lastKey = decodeCursor(cursor, whole);
  return whole.reverse
    ? { ...whole, end: lastKey }
    : { ...whole, start: concatBytes(lastKey, BEHIND) };
}

function parseLimit(parameters: Query): number {
  const text = parameters.get("limit");
  if (text === undefined) return SCAN_LIMIT_DEFAULT;
  const limit = /^[0-9]{1,6}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > SCAN_LIMIT_MAX) {
    throw malformed(`limit must be an integer from 1 to ${SCAN_LIMIT_MAX}`);
  }
  return limit;
}

/** A name without a value, such as `?reverse`, says yes. */
function parseFlag(parameters: Query, name: string): boolean {
  const text = parameters.get(name);
  if (text === undefined || text === "false" || text === "0") return false;
  if (text === "" || text === "true" || text === "1") return true;
  throw malformed(`${name} must be true or false`);
}
