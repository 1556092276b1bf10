/**
 * The request target as bytes: path, query and percent-decoding without any rewriting.
 *
 * `new URL()` resolves `..` and `%2e`, and turns `\` into `/`; a key is any byte string, so none
 * of that may happen to it. Targets here hold one character per byte, as Node delivers them.
 */
import { isUtf8 } from "node:buffer";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";
import { malformed } from "./problem.ts";

const PERCENT = 0x25;

/** The origin form of a target: an absolute one (`http://host/path`) loses scheme and authority. */
export function originForm(target: string): string {
  if (target.charCodeAt(0) === 0x2f) return target;
  const authority = /^https?:\/\//i.exec(target);
  if (authority === null) return target;
  const end = target.slice(authority[0].length).search(/[/?]/);
  if (end < 0) return "/";
  const rest = target.slice(authority[0].length + end);
  return rest.startsWith("/") ? rest : `/${rest}`;
}

/** Value of a hexadecimal digit's character code, or -1. */
function hexValue(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/**
 * Percent-decodes to bytes. Characters that should have been escaped stand for themselves.
 * `what` names the part of the request in the error.
 *
 * @throws RequestRefused INVALID_ARGUMENT for `%` without two hexadecimal digits, and for `#`,
 * which no client may send: one that forgot to escape it would read and write another key.
 */
export function percentDecode(text: string, what: string): Uint8Array {
  if (text.length === 0) return EMPTY_BYTES;
  if (text.includes("#")) throw malformed(`${what} has a bare "#": write it as %23`);
  const bytes = Buffer.from(text, "latin1");
  if (!text.includes("%")) return bytes;
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte !== PERCENT) {
      bytes[length++] = byte;
      continue;
    }
    const high = hexValue(bytes[at + 1] ?? 0);
    const low = hexValue(bytes[at + 2] ?? 0);
    if (high < 0 || low < 0) {
      throw malformed(
        `${what} has a "%" that two hexadecimal digits do not follow; write it as %25`,
      );
    }
    bytes[length++] = high * 16 + low;
    at += 2;
  }
  return bytes.subarray(0, length);
}

/** Path and query of a target; the query without its "?". */
export function splitTarget(target: string): { readonly path: string; readonly query: string } {
  const mark = target.indexOf("?");
  if (mark < 0) return { path: target, query: "" };
  return { path: target.slice(0, mark), query: target.slice(mark + 1) };
}

/** The query of a request: every parameter is known, named once, and UTF-8. */
export type Query = ReadonlyMap<string, string>;

const NO_QUERY: Query = new Map();

/**
 * Parses what follows "?". A parameter that the route does not know is refused rather than
 * ignored: a misspelt `ttl` would otherwise silently store a value for ever.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseQuery(query: string, known: readonly string[]): Query {
  if (query.length === 0) return NO_QUERY;
  const parameters = new Map<string, string>();
  for (const part of query.split("&")) {
    if (part.length === 0) continue;
    const equals = part.indexOf("=");
    const name = decodeText(equals < 0 ? part : part.slice(0, equals));
    const value = equals < 0 ? "" : decodeText(part.slice(equals + 1));
    if (!known.includes(name)) {
      const takes = known.length === 0 ? "none" : known.join(", ");
      throw malformed(
        `unknown query parameter "${name}"${didYouMean(name, known)} (known here: ${takes})`,
      );
    }
    if (parameters.has(name)) throw malformed(`query parameter "${name}" is given twice`);
    parameters.set(name, value);
  }
  return parameters;
}

/** Whether a query has the parameter, however it is spelt, and whatever else is wrong with it. */
export function hasParameter(query: string, name: string): boolean {
  return query.split("&").some((part) => {
    const equals = part.indexOf("=");
    const text = equals < 0 ? part : part.slice(0, equals);
    if (text === name) return true;
    return text.includes("%") && nameOf(text) === name;
  });
}

/** Undefined for one that is not well-formed. */
function nameOf(text: string): string | undefined {
  try {
    return decodeText(text);
  } catch {
    return undefined;
  }
}

function decodeText(text: string): string {
  const bytes = percentDecode(text, "the query");
  if (!isUtf8(bytes)) throw malformed("the query is not UTF-8");
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}
