/**
 * The key-value routes: dispatch by path and method, and every failure turned into its problem answer.
 *
 * This is the hot path, and on sockets no Hono middleware runs in front of it (`exchange.ts` says
 * why). What must precede each key-value request is called from here.
 */
import type { BodyBudget } from "#gateway/http/body-budget.ts";
import type { Answer, Exchange, ExchangeHandler } from "#gateway/http/exchange.ts";
import {
  type FailureReport,
  isReportable,
  problemAnswer,
  problemOfError,
} from "#gateway/http/problem.ts";
import { splitTarget } from "#gateway/http/request-target.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import type { Clock } from "#shared/clock.ts";
import { answerBatch } from "./batch.ts";
import { isCollectionTarget, isKvTarget } from "./key.ts";
import { readValue } from "./read.ts";
import { ScanRoute } from "./scan.ts";
import { deleteValue, putValue } from "./write.ts";

export const KV_METHODS = ["GET", "HEAD", "PUT", "DELETE"] as const;
export const BATCH_PATHS = ["/v1/batch", "/batch"] as const;
/** Another name of `/v1/kv` without a key. */
export const RANGE_PATH = "/range";

export type KvDependencies = {
  readonly storage: Storage;
  readonly clock: Clock;
  readonly answerBudget: BodyBudget;
  readonly reportFailure: FailureReport;
};

/** The handlers of all key-value paths. */
export type KvHandlers = {
  /** `/v1/kv` and below. */
  readonly kv: ExchangeHandler;
  readonly batch: ExchangeHandler;
  readonly range: ExchangeHandler;
  /** Whose path a target has; undefined when it belongs to no key-value route. */
  handlerFor(target: string): ExchangeHandler | undefined;
};

type Run = (exchange: Exchange) => Promise<Answer>;

export function createKvHandlers(dependencies: KvDependencies): KvHandlers {
  const { storage, clock, reportFailure } = dependencies;
  const scans = new ScanRoute(storage, clock, reportFailure);
  const kv = handlerOf(reportFailure, (exchange) => {
    switch (exchange.method) {
      case "GET":
        if (isCollectionTarget(exchange.target)) return scans.answer(exchange);
        return readValue(exchange, storage, clock);
      case "HEAD":
        return readValue(exchange, storage, clock);
      case "PUT":
        return putValue(exchange, storage, clock);
      case "DELETE":
        return deleteValue(exchange, storage, clock);
      default:
        return methodNotAllowed(exchange, KV_METHODS);
    }
  });
  const batch = handlerOf(reportFailure, (exchange) =>
    exchange.method === "POST"
      ? answerBatch(exchange, dependencies)
      : methodNotAllowed(exchange, ["POST"]),
  );
  const range = handlerOf(reportFailure, (exchange) =>
    exchange.method === "GET" ? scans.answer(exchange) : methodNotAllowed(exchange, ["GET"]),
  );
  const byPath = new Map<string, ExchangeHandler>([[RANGE_PATH, range]]);
  for (const path of BATCH_PATHS) byPath.set(path, batch);
  return {
    ...{ kv, batch, range },
    handlerFor: (target) => (isKvTarget(target) ? kv : byPath.get(splitTarget(target).path)),
  };
}

/** Answers whatever `run` throws with its problem. */
function handlerOf(reportFailure: FailureReport, run: Run): ExchangeHandler {
  return async (exchange) => {
    try {
      return await run(exchange);
    } catch (error) {
      const { method, requestId } = exchange;
      if (isReportable(error)) reportFailure({ requestId, method, error });
      const isWrite = method !== "GET" && method !== "HEAD";
      return problemAnswer(requestId, problemOfError(error, isWrite));
    }
  };
}

function methodNotAllowed(exchange: Exchange, methods: readonly string[]): Promise<Answer> {
  const allow = methods.join(", ");
  const isRead = exchange.method === "GET" || exchange.method === "HEAD";
  return Promise.resolve(
    problemAnswer(exchange.requestId, {
      code: "METHOD_NOT_ALLOWED",
      detail: `this path takes ${allow}`,
      outcome: isRead ? undefined : "not_applied",
      headers: ["Allow", allow],
    }),
  );
}
