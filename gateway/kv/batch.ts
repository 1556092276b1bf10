/**
 * `POST /v1/batch` (and `/batch`): many puts, gets and deletes in one request.
 *
 * Not atomic. The request as a whole is refused, without any effect, when it is malformed or too large;
 * otherwise the answer is 200 with one result per operation, in their order, each with the status that
 * the operation alone would have had.
 */

import type { Audit } from "#gateway/audit/audit.ts";
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { BodyBudget } from "#gateway/http/body-budget.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import {
  type FailureReport,
  isReportable,
  malformed,
  type ProblemDetails,
  problemOfError,
  RequestRefused,
} from "#gateway/http/problem.ts";
import { parseQuery, splitTarget } from "#gateway/http/request-target.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import { refuseIdempotencyKey } from "#gateway/http/unheeded-headers.ts";
import type { BatchOperation, BatchOutcome, Storage } from "#gateway/storage/storage.ts";
import { utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { ERRORS, KvError } from "#shared/errors.ts";
import type { Revision, TenantId } from "#shared/ids.ts";
import { BATCH_BODY_SIZE_BYTES_MAX, BATCH_READ_BYTES_MAX } from "#shared/limits.ts";
import { parseBatch } from "./batch-request.ts";
import { REPEAT_WITH_CONDITION, refuseDateCondition } from "./conditions.ts";
import { recordBatch } from "./data-changes.ts";
import { keyJsonMember } from "./key.ts";
import { callOptions, parseMaxStalenessMs } from "./parameters.ts";
import { storedJsonMembers } from "./row-json.ts";

export const BATCH_PARAMETERS = ["consistency", "max_staleness"] as const;

const JSON_TYPE = /^application\/(?:[a-z0-9.!#$&^_+-]+\+)?json[ \t]*(?:;|$)/i;
/** They are about one key, and who sends them relies on them. */
const HEADERS_OF_ONE_KEY = ["if-match", "if-none-match", "minikv-ttl", "x-minikv-ttl"];

export type BatchRouteParts = {
  readonly gate: Gate;
  readonly storage: Storage;
  readonly clock: Clock;
  readonly answerBudget: BodyBudget;
  readonly reportFailure: FailureReport;
  readonly audit: Audit;
};

const ACTION_OF = { get: "kv.read", put: "kv.write", delete: "kv.delete" } as const;

/** @throws KvError */
export async function answerBatch(
  exchange: Exchange,
  caller: Caller,
  parts: BatchRouteParts,
): Promise<Answer> {
  refuseHeaders(exchange);
  const query = parseQuery(splitTarget(exchange.target).query, BATCH_PARAMETERS);
  const maxStalenessMs = parseMaxStalenessMs(query);
  const timeoutMs = parseTimeoutMs(exchange);
  const operations = parseBatch(await exchange.readBody(BATCH_BODY_SIZE_BYTES_MAX));
  const { tenant } = caller;
  // All of them before any is begun: a batch that asks for one thing too many has no effect.
  for (const { kind, key } of operations) {
    parts.gate.authorize(caller, { action: ACTION_OF[kind], tenant, key });
  }
  const { audit } = parts;
  const values = new ValueBudget(parts.answerBudget);
  try {
    const outcomes = await parts.storage.batch(tenant, operations, {
      // The time runs from the end of the upload, which has a bound of its own.
      ...callOptions(exchange, parts.clock.nowMs() + timeoutMs),
      maxStalenessMs,
      admitValue: (sizeBytes) => values.admit(sizeBytes),
    });
    reportFailures(exchange, tenant, outcomes, parts.reportFailure);
    if (audit.recordsData) recordBatch(exchange, caller, audit, { operations, outcomes });
    return resultsAnswer(exchange, operations, outcomes);
  } catch (error) {
    if (audit.recordsData && error instanceof KvError) {
      recordBatch(exchange, caller, audit, { operations, outcomes: error });
    }
    throw error;
  } finally {
    values.release();
  }
}

/** @throws RequestRefused UNSUPPORTED_MEDIA_TYPE, INVALID_ARGUMENT */
function refuseHeaders(exchange: Exchange): void {
  const contentType = exchange.header("content-type");
  const encoding = exchange.header("content-encoding")?.trim().toLowerCase();
  if (contentType === undefined || !JSON_TYPE.test(contentType.trim())) {
    const detail = "a batch is JSON: send it with Content-Type: application/json";
    throw new RequestRefused("UNSUPPORTED_MEDIA_TYPE", detail);
  }
  if (encoding !== undefined && encoding !== "identity") {
    throw new RequestRefused("UNSUPPORTED_MEDIA_TYPE", "a batch must not have a Content-Encoding", {
      headers: ["Accept-Encoding", "identity"],
    });
  }
  refuseIdempotencyKey(exchange, REPEAT_WITH_CONDITION);
  refuseDateCondition(exchange);
  for (const name of HEADERS_OF_ONE_KEY) {
    if (exchange.header(name) === undefined) continue;
    throw malformed(`the header ${name} is about one key; give each operation its own`);
  }
}

/** The values that a batch has read and not yet answered with. */
class ValueBudget {
  readonly #budget: BodyBudget;
  #heldBytes = 0;
  #refusal: KvError | undefined;

  constructor(budget: BodyBudget) {
    this.#budget = budget;
  }

  admit(sizeBytes: number): KvError | undefined {
    if (this.#heldBytes + sizeBytes > BATCH_READ_BYTES_MAX) {
      const detail = `the values that a batch reads have at most ${BATCH_READ_BYTES_MAX} bytes together`;
      this.#refusal ??= new KvError("ANSWER_TOO_LARGE", detail);
      return this.#refusal;
    }
    if (!this.#budget.take(sizeBytes)) {
      return new KvError("OVERLOADED", "too many bytes of answers wait for clients to take them");
    }
    this.#heldBytes += sizeBytes;
    return undefined;
  }

  release(): void {
    this.#budget.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
  }
}

/** Each error once, however many operations it struck. */
function reportFailures(
  { requestId, method }: Exchange,
  tenant: TenantId,
  outcomes: readonly BatchOutcome[],
  report: FailureReport,
): void {
  const reported = new Set<unknown>();
  for (const outcome of outcomes) {
    if (outcome.kind !== "failed" || reported.has(outcome.error)) continue;
    reported.add(outcome.error);
    if (isReportable(outcome.error)) report({ requestId, method, tenant, error: outcome.error });
  }
}

function resultsAnswer(
  { requestId }: Exchange,
  operations: readonly BatchOperation[],
  outcomes: readonly BatchOutcome[],
): Answer {
  let json = '{"results":[';
  for (let place = 0; place < operations.length; place++) {
    if (place > 0) json += ",";
    json += resultJson(operations[place]!, outcomes[place]!);
  }
  const body = utf8(`${json}]}`);
  const headers = [
    "Content-Type",
    "application/json",
    "Content-Length",
    String(body.length),
    "Cache-Control",
    "no-store",
    "X-Request-ID",
    requestId,
  ];
  return { status: 200, headers, body };
}

function resultJson({ kind, key }: BatchOperation, outcome: BatchOutcome): string {
  const head = `{"op":"${kind}",${keyJsonMember(key)},"status":`;
  switch (outcome.kind) {
    case "stored": {
      const { created, revision } = outcome;
      return `${head}${created ? 201 : 200},"revision":${revision},"created":${created}}`;
    }
    case "deleted":
      return `${head}204,"revision":${outcome.revision}}`;
    case "found":
      return `${head}200,${storedJsonMembers(outcome.stored, true)}}`;
    case "absent":
      return `${head}404,${errorJson(keyNotFound(undefined))}}`;
    case "notFound":
      return `${head}404,${errorJson(keyNotFound("not_applied"))}}`;
    case "conditionFailed": {
      const { revision } = outcome;
      const current = revision === 0 ? "" : `"revision":${revision},`;
      return `${head}412,${current}${errorJson(conditionFailed(revision))}}`;
    }
    case "failed": {
      const problem = problemOfError(outcome.error, kind !== "get");
      return `${head}${ERRORS[problem.code].http},${errorJson(problem)}}`;
    }
  }
}

function errorJson({ code, detail, outcome }: ProblemDetails): string {
  const { retryable } = ERRORS[code];
  return `"error":${JSON.stringify({ code, detail, retryable, outcome })}`;
}

const keyNotFound = (outcome: ProblemDetails["outcome"]): ProblemDetails => ({
  ...{ code: "KEY_NOT_FOUND", detail: "the key does not exist or has expired", outcome },
});

const conditionFailed = (revision: Revision): ProblemDetails => ({
  code: "CONDITION_FAILED",
  detail:
    revision === 0
      ? "the key does not exist"
      : `the key's current revision is ${revision}, which the condition does not allow`,
  outcome: "not_applied",
});
