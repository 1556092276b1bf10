/**
 * Lines of the audit log: what is in them, in which order, and how one vouches for the one before.
 *
 * A line is a JSON object whose members have one order. `prev` is the SHA-256 of the whole line before, as
 * it stands in the file, without its newline; the first line of a chain has zeros. So a line can be removed,
 * changed, moved or put in only by writing every line behind it anew. Format: docs/formats/audit.md.
 */
import { createHash } from "node:crypto";
import { AUDIT_TEXT_LENGTH_MAX } from "#shared/audit-limits.ts";

export type EntryOutcome = "done" | "refused" | "failed" | "unknown";

/** Everything but what the chain adds. Undefined members are left out. */
export type Entry = {
  readonly time: string;
  readonly gateway: string;
  readonly event:
    | "open"
    | "close"
    | "lost"
    | "admin"
    | "authFailure"
    | "authFailures"
    | "tokens"
    | "data";
  readonly request?: string | undefined;
  readonly principal?: string | undefined;
  readonly kind?: string | undefined;
  readonly tenant?: number | undefined;
  readonly role?: string | undefined;
  readonly action?: string | undefined;
  readonly target?: string | undefined;
  readonly status?: number | undefined;
  readonly outcome?: EntryOutcome | undefined;
  readonly code?: string | undefined;
  readonly key?: string | undefined;
  readonly key_until?: string | undefined;
  readonly client?: string | undefined;
  readonly count?: number | undefined;
  readonly clients?: Readonly<Record<string, number>> | undefined;
  readonly principals?: Readonly<Record<string, number>> | undefined;
  readonly version?: string | undefined;
  readonly torn_bytes?: number | undefined;
  readonly torn_sha256?: string | undefined;
  readonly anew?: true | undefined;
};

export const NO_HASH = "0".repeat(64);

/** Where a chain ends: what the next line continues. */
export type ChainEnd = {
  /** Of the last line; 0 before the first. */
  readonly seq: number;
  readonly hash: string;
};

export const CHAIN_START: ChainEnd = { seq: 0, hash: NO_HASH };

export const hashOf = (line: string): string =>
  createHash("sha256").update(line, "utf8").digest("hex");

/** The line that continues the chain, without a newline, and where the chain ends then. */
export function chained(entry: Entry, end: ChainEnd): { line: string; end: ChainEnd } {
  const seq = end.seq + 1;
  const line = JSON.stringify({ seq, ...ordered(entry), prev: end.hash });
  return { line, end: { seq, hash: hashOf(line) } };
}

/** In one order, whatever the order in which an entry was put together. */
const ordered = (entry: Entry): Entry => ({
  time: entry.time,
  gateway: entry.gateway,
  event: entry.event,
  request: entry.request,
  principal: entry.principal,
  kind: entry.kind,
  tenant: entry.tenant,
  role: entry.role,
  action: entry.action,
  target: entry.target,
  status: entry.status,
  outcome: entry.outcome,
  code: entry.code,
  key: entry.key,
  key_until: entry.key_until,
  client: entry.client,
  count: entry.count,
  clients: entry.clients,
  principals: entry.principals,
  version: entry.version,
  torn_bytes: entry.torn_bytes,
  torn_sha256: entry.torn_sha256,
  anew: entry.anew,
});

/** What a line says of its place; undefined for what is no line of an audit log. */
export type LinePlace = { readonly seq: number; readonly prev: string };

export function placeOf(line: string): LinePlace | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { seq, prev } = value as Partial<Record<string, unknown>>;
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1) return undefined;
  if (typeof prev !== "string" || !/^[0-9a-f]{64}$/.test(prev)) return undefined;
  return { seq, prev };
}

/** Whether a line, which is one of an audit log, says that its chain is not the first one at its place. */
export const isAnew = (line: string): boolean => (JSON.parse(line) as Partial<Entry>).anew === true;

/** When a line says it was written; empty for what is no line of an audit log. */
export function timeOf(line: string): string {
  if (placeOf(line) === undefined) return "";
  const { time } = JSON.parse(line) as Partial<Record<string, unknown>>;
  return typeof time === "string" ? time : "";
}

/** An API key, or what begins like one: wherever a client has put it, its secret is not for the log. */
const KEY_LIKE = /mkv_[A-Za-z0-9]*_?[A-Za-z0-9_]*/g;
/** Three parts of Base64url: a token. */
const TOKEN_LIKE = /eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?/g;

/** Text that a client has chosen, bounded and without what looks like a secret. */
export const safeText = (text: string): string =>
  text
    .replaceAll(KEY_LIKE, "[key]")
    .replaceAll(TOKEN_LIKE, "[token]")
    .slice(0, AUDIT_TEXT_LENGTH_MAX);
