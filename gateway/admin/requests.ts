/**
 * What operators' requests name: nodes, vshards, and small JSON bodies. Parsed strictly: a name that is
 * not known is refused rather than ignored.
 */
import { isUtf8 } from "node:buffer";
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import { parseQuery, type Query } from "#gateway/http/request-target.ts";
import { META_GROUP, NODE_ID_MAX, VSHARD_COUNT } from "#shared/ids.ts";
import { ADMIN_BODY_SIZE_BYTES_MAX } from "#shared/limits.ts";

const INTEGER = /^(0|[1-9][0-9]{0,9})$/;
const HOST_PORT = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/;
/** Longer than any host name (253) with its port. */
const ADDRESS_LENGTH_MAX = 300;

/** @throws RequestRefused INVALID_ARGUMENT */
export function nodeIdOf(value: unknown): number {
  const nodeId = integerOf(value);
  if (nodeId !== undefined && nodeId >= 1 && nodeId <= NODE_ID_MAX) return nodeId;
  throw malformed(`a node is named by its id, an integer from 1 to ${NODE_ID_MAX}`);
}

/** The group of a vshard, or the meta group. @throws RequestRefused INVALID_ARGUMENT */
export function groupOf(text: string): number {
  if (text === "meta") return META_GROUP;
  const vshard = integerOf(text);
  if (vshard !== undefined && vshard < VSHARD_COUNT) return vshard;
  throw malformed(`a vshard is an integer from 0 to ${VSHARD_COUNT - 1}, or "meta"`);
}

/** @throws RequestRefused INVALID_ARGUMENT */
export function addressOf(value: unknown): string {
  if (typeof value === "string" && value.length <= ADDRESS_LENGTH_MAX) {
    const port = Number(HOST_PORT.exec(value)?.[1] ?? 0);
    if (port >= 1 && port <= 65_535) return value;
  }
  throw malformed("address must be host:port, as the node advertises it");
}

function integerOf(value: unknown): number | undefined {
  const text = typeof value === "number" ? String(value) : value;
  return typeof text === "string" && INTEGER.test(text) ? Number(text) : undefined;
}

/** `1` or `0`; absent is 0. @throws RequestRefused INVALID_ARGUMENT */
export function flagOf(text: string | undefined, name: string): boolean {
  if (text === undefined || text === "0") return false;
  if (text === "1") return true;
  throw malformed(`${name} must be 0 or 1`);
}

/** @throws RequestRefused INVALID_ARGUMENT */
export function queryOf({ target }: Exchange, known: readonly string[]): Query {
  const mark = target.indexOf("?");
  return parseQuery(mark < 0 ? "" : target.slice(mark + 1), known);
}

/**
 * The members of a JSON object; none for an empty body.
 *
 * @throws RequestRefused INVALID_ARGUMENT, UNSUPPORTED_MEDIA_TYPE, and as `readBody` does
 */
export async function bodyOf(
  exchange: Exchange,
  known: readonly string[],
): Promise<Readonly<Record<string, unknown>>> {
  const contentType = exchange.header("content-type");
  if (contentType !== undefined && !/^application\/json\s*(;|$)/i.test(contentType)) {
    throw new RequestRefused("UNSUPPORTED_MEDIA_TYPE", "the body must be application/json");
  }
  const bytes = await exchange.readBody(ADMIN_BODY_SIZE_BYTES_MAX);
  if (bytes.length === 0) return {};
  const body = isUtf8(bytes) ? parseJson(Buffer.from(bytes).toString("utf8")) : undefined;
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw malformed("the body must be a JSON object");
  }
  const unknown = Object.keys(body).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    const takes = known.length === 0 ? "none" : known.join(", ");
    throw malformed(`unknown members ${JSON.stringify(unknown)} (known here: ${takes})`);
  }
  return body as Readonly<Record<string, unknown>>;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Browsers send simple requests from any page to any address, this machine's own included, and nothing
 * else would keep a page from draining a node. What is no browser sends no `Origin`. Pages whose origin an
 * operator has named (`cors-origins`) are let through; `*` names none.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function refuseWebPages(exchange: Exchange): void {
  if (exchange.header("origin") === undefined || exchange.originIsNamed === true) return;
  throw malformed("requests that web pages send (with an Origin header) are not taken here");
}
