/**
 * Errors as HTTP: RFC 9457 `application/problem+json`, made from the one error table.
 *
 * `type` is a path that this server answers (`/errors/{code}`), `code` is what clients match.
 * Texts of unexpected failures stay inside: a client gets the table's words, never a stack or a
 * file name. For writes `outcome` is always present; when in doubt it says `unknown`.
 */
import { ERRORS, type ErrorCode, KvError, type WriteOutcome } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import type { RequestTrace } from "#shared/tracing.ts";
import type { Answer } from "./exchange.ts";

export const PROBLEM_CONTENT_TYPE = "application/problem+json";

/** Seconds in `Retry-After` of every 503. An election takes one to three seconds. */
const RETRY_AFTER_SECONDS = "1";

export type ProblemDetails = {
  readonly code: ErrorCode;
  /** What is wrong with this very request, for a person. */
  readonly detail: string;
  readonly outcome?: WriteOutcome | undefined;
  /** The bound that was exceeded, and by what, in the unit that `detail` names. */
  readonly limit?: number | undefined;
  readonly actual?: number | undefined;
  /** Further headers, names and values in turn. */
  readonly headers?: readonly string[] | undefined;
};

/** A request that the gateway itself refuses, before any of it reached storage. */
export class RequestRefused extends KvError {
  readonly limit: number | undefined;
  readonly actual: number | undefined;
  readonly headers: readonly string[] | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    more: Pick<ProblemDetails, "limit" | "actual" | "headers"> = {},
  ) {
    super(code, detail, { outcome: "not_applied" });
    this.name = "RequestRefused";
    this.limit = more.limit;
    this.actual = more.actual;
    this.headers = more.headers;
  }
}

/** Shorthand for the most common refusal. */
export const malformed = (detail: string): RequestRefused =>
  new RequestRefused("INVALID_ARGUMENT", detail);

/** The problem itself. */
export function problemJson(requestId: string, problem: ProblemDetails): string {
  const row = ERRORS[problem.code];
  return JSON.stringify({
    type: `/errors/${problem.code}`,
    title: row.title,
    status: row.http,
    detail: problem.detail,
    code: problem.code,
    request_id: requestId,
    retryable: row.retryable,
    outcome: problem.outcome,
    limit: problem.limit,
    actual: problem.actual,
  });
}

export function problemAnswer(requestId: string, problem: ProblemDetails): Answer {
  const row = ERRORS[problem.code];
  const body = problemJson(requestId, problem);
  const headers = [
    "Content-Type",
    PROBLEM_CONTENT_TYPE,
    "Content-Length",
    String(Buffer.byteLength(body)),
    "Cache-Control",
    "no-store",
    "X-Request-ID",
    requestId,
  ];
  if (row.http === 503) headers.push("Retry-After", RETRY_AFTER_SECONDS);
  if (problem.headers !== undefined) headers.push(...problem.headers);
  return { status: row.http, headers, body };
}

/** Told of each failure that is a bug or damage, with what finds it in the log. */
export type FailureReport = (failure: {
  readonly requestId: string;
  readonly method: string;
  /** Whose data it was about, where that was known. */
  readonly tenant?: TenantId | undefined;
  readonly error: unknown;
  readonly trace?: RequestTrace | undefined;
}) => void;

/**
 * The problem for whatever a handler threw. `isWrite` adds `outcome`: as the error says, else
 * `unknown`, because a failure of unknown origin may have come after the write was sent.
 */
export function problemOfError(error: unknown, isWrite: boolean): ProblemDetails {
  if (!(error instanceof KvError)) {
    return {
      code: "INTERNAL",
      detail: ERRORS.INTERNAL.meaning,
      outcome: isWrite ? "unknown" : undefined,
    };
  }
  const { code } = error;
  const isInside = code === "INTERNAL" || code === "DATA_CORRUPT";
  const refused = error instanceof RequestRefused ? error : undefined;
  return {
    code,
    detail: isInside ? ERRORS[code].meaning : error.message,
    outcome: isWrite ? (error.outcome ?? "unknown") : undefined,
    limit: refused?.limit,
    actual: refused?.actual,
    headers: refused?.headers,
  };
}

/** Whether an operator has to hear of it. */
export const isReportable = (error: unknown): boolean =>
  !(error instanceof KvError) || error.code === "INTERNAL" || error.code === "DATA_CORRUPT";

/**
 * The answer to a request that was refused before it reached any handler. `isWrite` is true also
 * where the method is not known.
 */
export const refusalAnswer = (
  requestId: string,
  refusal: RequestRefused,
  isWrite: boolean,
): Answer => problemAnswer(requestId, problemOfError(refusal, isWrite));
