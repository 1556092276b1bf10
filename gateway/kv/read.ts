/**
 * `GET` and `HEAD /v1/kv/{key}`: the stored bytes, byte for byte, with their stored type.
 *
 * Values come from users and may be HTML: the headers of every answer (`http/security-headers.ts`) keep a
 * browser from running them with the rights of this origin. `no-cache` lets caches keep a value but makes
 * them ask each time, which the entity tag keeps cheap.
 */
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import { problemAnswer } from "#gateway/http/problem.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import type { Storage, StoredValue } from "#gateway/storage/storage.ts";
import type { Clock } from "#shared/clock.ts";
import { etagOf, ifRangeHolds, readConditions } from "./conditions.ts";
import { parseKvTarget } from "./key.ts";
import { callOptions, parseMaxStalenessMs } from "./parameters.ts";
import { resolveRange } from "./range.ts";

export const READ_PARAMETERS = ["key64", "consistency", "max_staleness"] as const;

export type ReadParts = {
  readonly gate: Gate;
  readonly storage: Storage;
  readonly clock: Clock;
};

/** @throws KvError */
export async function readValue(
  exchange: Exchange,
  caller: Caller,
  { gate, storage, clock }: ReadParts,
): Promise<Answer> {
  const { key, query } = parseKvTarget(exchange.target, READ_PARAMETERS);
  const { tenant } = caller;
  gate.authorize(caller, { action: "kv.read", tenant, key });
  const verdictFor = readConditions(exchange);
  const maxStalenessMs = parseMaxStalenessMs(query);
  const options = callOptions(exchange, clock.nowMs() + parseTimeoutMs(exchange));
  const found = await storage.get(
    { tenant, key },
    { ...options, maxStalenessMs, metadataOnly: exchange.method === "HEAD" },
  );
  if (found === undefined) {
    return problemAnswer(exchange.requestId, {
      code: "KEY_NOT_FOUND",
      detail: "the key does not exist or has expired",
    });
  }
  const verdict = verdictFor(found.revision);
  if (verdict === "proceed") return valueAnswer(exchange, found);
  if (verdict === "notModified") return notModifiedAnswer(exchange, found);
  return problemAnswer(exchange.requestId, {
    code: "CONDITION_FAILED",
    detail: "If-Match does not name the current revision",
    headers: ["ETag", etagOf(found.revision)],
  });
}

/** 200, 206 or 416. */
function valueAnswer(exchange: Exchange, found: StoredValue): Answer {
  const sizeBytes = found.valueSizeBytes;
  const headers = validators(exchange, found);
  const range = exchange.header("range");
  // Range has a meaning for GET only (RFC 9110, 14.2).
  if (range !== undefined && exchange.method === "GET" && ifRangeHolds(exchange, found.revision)) {
    const outcome = resolveRange(range, sizeBytes);
    if (outcome.kind === "unsatisfiable") {
      return problemAnswer(exchange.requestId, {
        code: "RANGE_NOT_SATISFIABLE",
        detail: `the value has ${sizeBytes} bytes`,
        headers: ["Content-Range", `bytes */${sizeBytes}`, "ETag", etagOf(found.revision)],
      });
    }
    if (outcome.kind === "part") {
      const { first, last } = outcome;
      headers.push("Content-Range", `bytes ${first}-${last}/${sizeBytes}`);
      pushContent(headers, found, last - first + 1);
      return { status: 206, headers, body: found.value.subarray(first, last + 1) };
    }
  }
  pushContent(headers, found, sizeBytes);
  const body = exchange.method === "HEAD" ? undefined : found.value;
  return { status: 200, headers, body };
}

function notModifiedAnswer(exchange: Exchange, found: StoredValue): Answer {
  return { status: 304, headers: validators(exchange, found), body: undefined };
}

/** What a 304 repeats of the 200 that it stands for (RFC 9110, 15.4.5), and the request id. */
function validators(exchange: Exchange, found: StoredValue): string[] {
  const revision = String(found.revision);
  const headers = [
    "ETag",
    `"${revision}"`,
    "Minikv-Revision",
    revision,
    "Last-Modified",
    httpDate(found.modifiedAtMs),
    "Cache-Control",
    "no-cache",
    "X-Request-ID",
    exchange.requestId,
  ];
  if (found.expiresAtMs !== 0) {
    headers.push("Minikv-Expires-At", new Date(found.expiresAtMs).toISOString());
  }
  return headers;
}

function pushContent(headers: string[], found: StoredValue, lengthBytes: number): void {
  headers.push(
    "Content-Type",
    found.contentType,
    "Content-Length",
    String(lengthBytes),
    "Accept-Ranges",
    "bytes",
  );
}

const httpDate = (timeMs: number): string => new Date(timeMs).toUTCString();
