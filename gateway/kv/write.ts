/**
 * `PUT` and `DELETE /v1/kv/{key}`.
 *
 * All that can be refused is refused before the body is read: a client that waits for
 * `100 Continue` then never sends it. The body is stored whole or not at all.
 */
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import { problemAnswer } from "#gateway/http/problem.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import type { Clock } from "#shared/clock.ts";
import type { Revision } from "#shared/ids.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { etagOf, writeCondition } from "./conditions.ts";
import { keyJsonMember, parseKvTarget } from "./key.ts";
import { callOptions, parseContentType, parseTtlMs, refuseEncodedBody } from "./parameters.ts";

export const PUT_PARAMETERS = ["key64", "ttl"] as const;
export const DELETE_PARAMETERS = ["key64"] as const;

export type WriteParts = {
  readonly gate: Gate;
  readonly storage: Storage;
  readonly clock: Clock;
};

/** @throws KvError */
export async function putValue(
  exchange: Exchange,
  caller: Caller,
  { gate, storage, clock }: WriteParts,
): Promise<Answer> {
  const { key, query } = parseKvTarget(exchange.target, PUT_PARAMETERS);
  const { tenant } = caller;
  gate.authorize(caller, { action: "kv.write", tenant, key });
  const condition = writeCondition(exchange);
  const contentType = parseContentType(exchange);
  const ttlMs = parseTtlMs(exchange, query);
  refuseEncodedBody(exchange);
  const timeoutMs = parseTimeoutMs(exchange);
  const value = await exchange.readBody(VALUE_SIZE_BYTES_MAX);
  const outcome = await storage.put(
    { tenant, key },
    condition === undefined
      ? { value, contentType, ttlMs }
      : { value, contentType, ttlMs, condition },
    // The time runs from the end of the upload, which has a bound of its own.
    callOptions(exchange, clock.nowMs() + timeoutMs),
  );
  if (outcome.kind === "conditionFailed") return conditionFailedAnswer(exchange, outcome.revision);
  const revision = String(outcome.revision);
  const body = `{${keyJsonMember(key)},"revision":${revision},"created":${outcome.created}}`;
  const headers = [
    "Content-Type",
    "application/json",
    "Content-Length",
    String(Buffer.byteLength(body)),
    "ETag",
    `"${revision}"`,
    "X-Request-ID",
    exchange.requestId,
  ];
  return { status: outcome.created ? 201 : 200, headers, body };
}

/** @throws KvError */
export async function deleteValue(
  exchange: Exchange,
  caller: Caller,
  { gate, storage, clock }: WriteParts,
): Promise<Answer> {
  const { key } = parseKvTarget(exchange.target, DELETE_PARAMETERS);
  const { tenant } = caller;
  gate.authorize(caller, { action: "kv.delete", tenant, key });
  const condition = writeCondition(exchange);
  const options = callOptions(exchange, clock.nowMs() + parseTimeoutMs(exchange));
  const outcome = await storage.delete({ tenant, key }, condition, options);
  if (outcome.kind === "conditionFailed") return conditionFailedAnswer(exchange, outcome.revision);
  if (outcome.kind === "notFound") {
    return problemAnswer(exchange.requestId, {
      code: "KEY_NOT_FOUND",
      detail: "the key does not exist or has expired",
      outcome: "not_applied",
    });
  }
  return { status: 204, headers: ["X-Request-ID", exchange.requestId], body: undefined };
}

/** 412 with the current entity tag, or without one when the key does not exist. */
function conditionFailedAnswer(exchange: Exchange, revision: Revision): Answer {
  return problemAnswer(exchange.requestId, {
    code: "CONDITION_FAILED",
    detail:
      revision === 0
        ? "the key does not exist"
        : `the key's current revision is ${revision}, which the condition does not allow`,
    outcome: "not_applied",
    headers: revision === 0 ? undefined : ["ETag", etagOf(revision)],
  });
}
