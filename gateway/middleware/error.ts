/** Problem answers for what no route took, and for what a route threw. */
import type { Context, ErrorHandler, Handler, NotFoundHandler } from "hono";
import { toResponse } from "#gateway/http/fetch-exchange.ts";
import {
  type FailureReport,
  isReportable,
  type ProblemDetails,
  problemAnswer,
  problemOfError,
} from "#gateway/http/problem.ts";
import type { GatewayEnv } from "./request-id.ts";

/** The response for a problem in a Hono handler. */
export const problemResponse = (c: Context<GatewayEnv>, problem: ProblemDetails): Response =>
  toResponse(problemAnswer(c.get("requestId"), problem), c.req.method);

const isWrite = (c: Context<GatewayEnv>): boolean =>
  c.req.method !== "GET" && c.req.method !== "HEAD";

export const errorHandler =
  (reportFailure: FailureReport): ErrorHandler<GatewayEnv> =>
  (error, c) => {
    if (isReportable(error)) {
      reportFailure({ requestId: c.get("requestId"), method: c.req.method, error });
    }
    return problemResponse(c, problemOfError(error, isWrite(c)));
  };

export const notFoundHandler: NotFoundHandler<GatewayEnv> = (c) =>
  problemResponse(c, {
    code: "ROUTE_NOT_FOUND",
    detail: "nothing is at this path; /openapi.json lists what is",
    outcome: isWrite(c) ? "not_applied" : undefined,
  });

/** For all methods of a path that has only `allowed`. */
export const methodNotAllowed =
  (allowed: readonly string[]): Handler<GatewayEnv> =>
  (c) =>
    problemResponse(c, {
      code: "METHOD_NOT_ALLOWED",
      detail: `this path takes ${allowed.join(", ")}`,
      outcome: isWrite(c) ? "not_applied" : undefined,
      headers: ["Allow", allowed.join(", ")],
    });
