/**
 * Makes entries of what routes tell, and decides what of it must not stand in them.
 *
 * A key's name may be a secret of its tenant. So of data routes only the route is kept, and of a key that was
 * changed a hash: whoever knows the key can find its changes, and whoever does not cannot read it. (A name
 * that is easily guessed can be found by guessing; the log is no place to publish.)
 */
import { createHash } from "node:crypto";
import type { Exchange } from "#gateway/http/exchange.ts";
import { TOKEN_PATH } from "#gateway/http/managed-route.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { splitTarget } from "#gateway/http/request-target.ts";
import { TICKETS_PATH } from "#gateway/watch/http/watch-routes.ts";
import { ERRORS, type WriteOutcome } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import type { Actor, AdminRecord, Audit, AuthFailureRecord, DataRecord } from "./audit.ts";
import type { AuditLog, Happening } from "./audit-log.ts";
import { type EntryOutcome, safeText } from "./entry.ts";
import type { FailureCounter } from "./failure-counter.ts";

export type RecorderOptions = {
  readonly log: AuditLog;
  readonly failures: FailureCounter;
  /** Of exchanges of keys for tokens, and of tickets for watches, by who had them. */
  readonly tokens: FailureCounter;
  readonly recordsData: boolean;
  /** Administrative actions are refused when they cannot be recorded. */
  readonly isRequired: boolean;
  /** The client behind the connection; a proxy's word is taken where it is trusted. */
  readonly clientOf: (exchange: Exchange) => string;
};

const KEY_HASH_LENGTH = 32;
const DATA_ROUTES = ["/v1/kv", "/v1/batch", "/batch", "/range"];

/** Of one key of one tenant: 128 bits of SHA-256 over `tenant`, a zero byte, and the key. */
export const keyHashOf = (tenant: TenantId, key: Uint8Array): string =>
  createHash("sha256").update(`${tenant}\0`).update(key).digest("hex").slice(0, KEY_HASH_LENGTH);

export function recorderOf(options: RecorderOptions): Audit {
  const { log, failures, tokens, recordsData, isRequired } = options;
  return {
    recordsData,
    admit: () => {
      const trouble = isRequired ? log.trouble : undefined;
      if (trouble === undefined) return;
      throw new RequestRefused(
        "UNAVAILABLE",
        `${trouble}, and nothing is done that it cannot hold`,
      );
    },
    admin: (record) => {
      // Whoever may do anything at all may have as many tokens and tickets as it likes.
      const isToken = record.route === TOKEN_PATH || record.route === TICKETS_PATH;
      if (isToken && !tokens.admits(safeText(record.actor?.principal.id ?? ""))) return;
      log.record(adminHappening(options, record));
    },
    authFailure: (record) => {
      const client = options.clientOf(record.exchange);
      if (failures.admits(client)) log.record(failureHappening(options, record));
    },
    data: (record) => log.record(dataHappening(options, record)),
  };
}

function adminHappening(options: RecorderOptions, record: AdminRecord): Happening {
  const { exchange, route, status, shown, code, actor } = record;
  return {
    event: "admin",
    ...common(options, exchange, actor),
    action: `${exchange.method} ${route}`,
    target: safeText(splitTarget(exchange.target).path),
    status,
    outcome: outcomeOf(status, record.outcome),
    code,
    key: shown?.key,
    key_until: shown && (shown.untilMs === 0 ? "forever" : new Date(shown.untilMs).toISOString()),
  };
}

function failureHappening(options: RecorderOptions, record: AuthFailureRecord): Happening {
  const { exchange, code, actor } = record;
  return {
    event: "authFailure",
    ...common(options, exchange, actor),
    action: safeText(exchange.method),
    target: routeOf(exchange),
    status: ERRORS[code].http,
    outcome: "refused",
    code,
  };
}

function dataHappening(options: RecorderOptions, record: DataRecord): Happening {
  const { exchange, action, key, status, actor } = record;
  return {
    event: "data",
    ...common(options, exchange, actor),
    action,
    target: `key:${keyHashOf(actor.tenant, key)}`,
    status,
    outcome: outcomeOf(status, undefined),
  };
}

const common = (options: RecorderOptions, exchange: Exchange, actor: Actor | undefined) => ({
  request: safeText(exchange.requestId),
  principal: actor === undefined ? undefined : safeText(actor.principal.id),
  kind: actor?.principal.kind,
  tenant: actor?.tenant,
  role: actor?.principal.role,
  client: options.clientOf(exchange),
});

/**
 * Of data, the route alone: what follows it is a key. Compared as routes are, with escapes undone: a key must
 * not come in because a letter of the route before it was escaped.
 */
function routeOf({ target }: Exchange): string {
  const { path } = splitTarget(target);
  const plain = path.replaceAll(/%([0-9a-f]{2})/gi, (_, code: string) =>
    String.fromCharCode(Number.parseInt(code, 16)),
  );
  const data = DATA_ROUTES.find((route) => plain === route || plain.startsWith(`${route}/`));
  return data ?? safeText(path);
}

function outcomeOf(status: number, outcome: WriteOutcome | undefined): EntryOutcome {
  if (status < 400) return "done";
  if (status < 500) return "refused";
  return outcome === "not_applied" ? "failed" : "unknown";
}
