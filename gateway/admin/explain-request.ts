/** The operation that `GET /admin/auth/explain` asks about. */
import { ACTIONS, type Operation } from "#gateway/auth/caller.ts";
import { malformed } from "#gateway/http/problem.ts";
import {
  parseQuery,
  percentDecode,
  type Query,
  splitTarget,
} from "#gateway/http/request-target.ts";
import { latin1, utf8 } from "#shared/bytes.ts";
import type { TenantId } from "#shared/ids.ts";

export const EXPLAIN_PARAMETERS = ["key", "op", "path", "tenant", "address"] as const;

const KEY_PATH = "/v1/kv/";
const LIST_PATH = "/v1/kv";

/**
 * `path` is the target of the request in question: `/v1/kv/{key}` for one key, `/v1/kv?prefix=…` for a
 * list. Operations that are about no key need none.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function parseOperation(query: Query, tenant: TenantId): Operation {
  const action = ACTIONS.find((known) => known === query.get("op"));
  if (action === undefined) throw malformed(`op must be one of ${ACTIONS.join(", ")}`);
  if (!action.startsWith("kv.")) return { action, tenant };
  // As on the wire: one character per byte.
  const target = latin1(utf8(query.get("path") ?? ""));
  if (action === "kv.list") return { action, tenant, key: prefixOf(target) };
  const { path } = splitTarget(target);
  if (path.startsWith(KEY_PATH) && path.length > KEY_PATH.length) {
    return { action, tenant, key: percentDecode(path.slice(KEY_PATH.length), "path") };
  }
  throw malformed(`path must be ${KEY_PATH} and a key, as a request writes it`);
}

function prefixOf(target: string): Uint8Array {
  const { path, query } = splitTarget(target);
  if (path !== LIST_PATH && path !== "") throw malformed(`path must be ${LIST_PATH}?prefix=…`);
  return utf8(parseQuery(query, ["prefix"]).get("prefix") ?? "");
}
