/**
 * What a watch asks for, taken from the query of its URL or from the body of the request for a ticket: keys,
 * operations, values, and where to begin.
 *
 * `key` and `prefix` are UTF-8, or any bytes in base64url under their name with `64`. Neither of them is all
 * keys of the tenant.
 */
import type { Operation } from "#gateway/auth/caller.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed } from "#gateway/http/problem.ts";
import { parseQuery, type Query, splitTarget } from "#gateway/http/request-target.ts";
import { decodeBase64Url, keyTooLong } from "#gateway/kv/key.ts";
import type { ResumeToken } from "#gateway/watch/resume-token.ts";
import { WATCH_OPS, type WatchFilter, type WatchOp } from "#gateway/watch/watches.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import type { TenantId } from "#shared/ids.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { WATCH_SINCE_LENGTH_MAX } from "#shared/limits-watch-http.ts";

/** What a request can name, and a ticket is bound to. */
export type WatchSubject = {
  readonly filter: WatchFilter;
  /** In the order of `WATCH_OPS`, at least one. */
  readonly ops: readonly WatchOp[];
  readonly values: boolean;
};

export type WatchStart = {
  readonly since: ResumeToken | undefined;
  /** The client's own machinery says so, not the page or program that began. */
  readonly isReconnect: boolean;
};

const SUBJECT_PARAMETERS = ["key", "key64", "prefix", "prefix64", "ops", "values"] as const;
export const WATCH_PARAMETERS = [...SUBJECT_PARAMETERS, "since", "ticket"] as const;
/** Members of the request for a ticket. */
export const TICKET_MEMBERS = SUBJECT_PARAMETERS;

const TOKEN = /^[A-Za-z0-9_-]+$/;

export const watchParameters = ({ target }: Exchange): Query =>
  parseQuery(splitTarget(target).query, WATCH_PARAMETERS);

/** @throws RequestRefused INVALID_ARGUMENT, KEY_TOO_LONG */
export function subjectOfQuery(query: Query): WatchSubject {
  return {
    filter: filterOf((name) => query.get(name)),
    ops: opsOf(query.get("ops")?.split(",")),
    values: flagOf(query.get("values")),
  };
}

/** @throws RequestRefused INVALID_ARGUMENT when the query says more than its ticket */
export function refuseSubject(query: Query): void {
  const name = SUBJECT_PARAMETERS.find((parameter) => query.has(parameter));
  if (name === undefined) return;
  throw malformed(`${name} does not go with ticket: what is watched was said when it was made`);
}

/** @throws RequestRefused INVALID_ARGUMENT, KEY_TOO_LONG */
export function subjectOfBody(body: Readonly<Record<string, unknown>>): WatchSubject {
  const { ops, values = false } = body;
  if (typeof values !== "boolean") throw malformed("values must be true or false");
  if (ops !== undefined && !(Array.isArray(ops) && ops.every((op) => typeof op === "string"))) {
    throw malformed(`ops must be a list of ${WATCH_OPS.join(", ")}`);
  }
  const text = (name: string): string | undefined => {
    const value = body[name];
    if (value === undefined || typeof value === "string") return value;
    throw malformed(`${name} must be a string`);
  };
  return { filter: filterOf(text), ops: opsOf(ops), values };
}

/**
 * Where to begin. The header is what EventSource brings along when it connects again; the URL is then still the
 * one that it began with, so the header counts.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function startOf(exchange: Exchange, query: Query): WatchStart {
  const last = exchange.header("last-event-id");
  // EventSource sends none when it has none; others send an empty one.
  if (last !== undefined && last !== "") {
    return { since: tokenOf(last, "Last-Event-ID"), isReconnect: true };
  }
  const since = query.get("since");
  return {
    since: since === undefined ? undefined : tokenOf(since, "since"),
    isReconnect: false,
  };
}

/** What has to be allowed: of a prefix that its keys may be listed, and with values that they may be read. */
export function operationsOf(
  { filter, values }: WatchSubject,
  tenant: TenantId,
): readonly Operation[] {
  if (filter.kind === "key") return [{ action: "kv.read", tenant, key: filter.key }];
  const list: Operation = { action: "kv.list", tenant, key: filter.prefix };
  return values ? [list, { action: "kv.read", tenant, key: filter.prefix }] : [list];
}

function tokenOf(text: string, what: string): ResumeToken {
  if (text.length <= WATCH_SINCE_LENGTH_MAX && TOKEN.test(text)) return text as ResumeToken;
  throw malformed(`${what} must be the token of an event, as it was received`);
}

function filterOf(text: (name: string) => string | undefined): WatchFilter {
  const key = bytesOf(text, "key");
  const prefix = bytesOf(text, "prefix");
  if (key === undefined) return { kind: "prefix", prefix: prefix ?? EMPTY_BYTES };
  if (prefix !== undefined) throw malformed("give key or prefix, not both");
  if (key.length === 0) throw malformed("a key has at least one byte; leave it out for all keys");
  return { kind: "key", key };
}

function bytesOf(
  text: (name: string) => string | undefined,
  name: "key" | "prefix",
): Uint8Array | undefined {
  const plain = text(name);
  const name64 = `${name}64`;
  const coded = text(name64);
  if (plain === undefined && coded === undefined) return undefined;
  if (plain !== undefined && coded !== undefined) {
    throw malformed(`give ${name} or ${name64}, not both`);
  }
  const bytes =
    coded === undefined || coded === "" ? utf8(plain ?? "") : decodeBase64Url(coded, name64);
  if (bytes.length > KEY_SIZE_BYTES_MAX) throw keyTooLong(name, bytes.length);
  return bytes;
}

function opsOf(names: readonly string[] | undefined): readonly WatchOp[] {
  if (names === undefined) return WATCH_OPS;
  const isKnown = names.every((name) => WATCH_OPS.some((op) => op === name));
  if (!isKnown || names.length === 0 || names.length > WATCH_OPS.length) {
    throw malformed(`ops must name some of ${WATCH_OPS.join(", ")}, each once`);
  }
  return WATCH_OPS.filter((op) => names.includes(op));
}

/** A name without a value says yes, as in other queries. */
function flagOf(text: string | undefined): boolean {
  if (text === undefined || text === "false" || text === "0") return false;
  if (text === "" || text === "true" || text === "1") return true;
  throw malformed("values must be true or false");
}
