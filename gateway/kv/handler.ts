/**
 * The key-value routes: dispatch by path and method, and every failure turned into its problem answer.
 *
 * This is the hot path, and on sockets no Hono middleware runs in front of it (`exchange.ts` says
 * why). What must precede each key-value request is called from here.
 */
import { type Audit, refusalOfGate } from "#gateway/audit/audit.ts";
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { BodyBudget } from "#gateway/http/body-budget.ts";
import type { Answer, Exchange, ExchangeHandler } from "#gateway/http/exchange.ts";
import type { HttpFigures } from "#gateway/http/http-figures.ts";
import { withHeaders } from "#gateway/http/managed-route.ts";
import {
  type FailureReport,
  isReportable,
  problemAnswer,
  problemOfError,
} from "#gateway/http/problem.ts";
import { splitTarget } from "#gateway/http/request-target.ts";
import { type RequestTracing, traced } from "#gateway/http/request-trace.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import type { Clock } from "#shared/clock.ts";
import { answerBatch } from "./batch.ts";
import { recorded } from "./data-changes.ts";
import { isCollectionTarget, isKvTarget, KV_PATH } from "./key.ts";
import { readValue } from "./read.ts";
import { ScanRoute } from "./scan.ts";
import { deleteValue, putValue } from "./write.ts";

export const KV_METHODS = ["GET", "HEAD", "PUT", "DELETE"] as const;
export const BATCH_PATHS = ["/v1/batch", "/batch"] as const;
/** Another name of `/v1/kv` without a key. */
export const RANGE_PATH = "/range";

const SLASH = 0x2f;

export type KvDependencies = {
  readonly gate: Gate;
  readonly storage: Storage;
  readonly clock: Clock;
  readonly answerBudget: BodyBudget;
  readonly reportFailure: FailureReport;
  readonly audit: Audit;
  readonly httpFigures: HttpFigures;
  readonly traces: RequestTracing;
};

/** The handlers of all key-value paths. */
export type KvHandlers = {
  /** `/v1/kv` and below. */
  readonly kv: ExchangeHandler;
  readonly batch: ExchangeHandler;
  readonly range: ExchangeHandler;
  /** Whose path a target has; undefined when it belongs to no key-value route. */
  handlerFor(target: string): ExchangeHandler | undefined;
  /** Number of a key-value route in the HTTP figures. */
  routeFor(target: string): number;
};

type Run = (exchange: Exchange, caller: Caller) => Promise<Answer>;

export function createKvHandlers(dependencies: KvDependencies): KvHandlers {
  const scans = new ScanRoute(dependencies);
  const { audit } = dependencies;
  const { recordsData } = audit;
  const run: Run = (exchange, caller) => {
    switch (exchange.method) {
      case "GET":
        if (isCollectionTarget(exchange.target)) return scans.answer(exchange, caller);
        return readValue(exchange, caller, dependencies);
      case "HEAD":
        return readValue(exchange, caller, dependencies);
      case "PUT":
        return recordsData
          ? recorded(exchange, caller, audit, putValue(exchange, caller, dependencies))
          : putValue(exchange, caller, dependencies);
      case "DELETE":
        return recordsData
          ? recorded(exchange, caller, audit, deleteValue(exchange, caller, dependencies))
          : deleteValue(exchange, caller, dependencies);
      default:
        return methodNotAllowed(exchange, KV_METHODS);
    }
  };
  const kv = handlerOf(dependencies, kvRouteOf, run);
  const batch = handlerOf(
    dependencies,
    () => BATCH_PATHS[0],
    (exchange, caller) =>
      exchange.method === "POST"
        ? answerBatch(exchange, caller, dependencies)
        : methodNotAllowed(exchange, ["POST"]),
  );
  const range = handlerOf(
    dependencies,
    () => RANGE_PATH,
    (exchange, caller) =>
      exchange.method === "GET"
        ? scans.answer(exchange, caller)
        : methodNotAllowed(exchange, ["GET"]),
  );
  const byPath = new Map<string, ExchangeHandler>([[RANGE_PATH, range]]);
  for (const path of BATCH_PATHS) byPath.set(path, batch);
  return {
    ...{ kv, batch, range },
    handlerFor: (target) => (isKvTarget(target) ? kv : byPath.get(splitTarget(target).path)),
    routeFor: routeNumbers(dependencies.httpFigures),
  };
}

function routeNumbers(figures: HttpFigures): (target: string) => number {
  const [key, keys] = [figures.routeIndex(`${KV_PATH}/{key}`), figures.routeIndex(KV_PATH)];
  const byPath = new Map<string, number>();
  for (const path of [RANGE_PATH, ...BATCH_PATHS]) byPath.set(path, figures.routeIndex(path));
  return (target) => {
    if (!isKvTarget(target)) return byPath.get(splitTarget(target).path) ?? 0;
    return target.charCodeAt(KV_PATH.length) === SLASH ? key : keys;
  };
}

const KEY_ROUTE = `${KV_PATH}/{key}`;

const kvRouteOf = ({ target }: Exchange): string =>
  isCollectionTarget(target) ? KV_PATH : KEY_ROUTE;

/** Lets the caller in before `run` sees anything, and answers whatever is thrown with its problem. */
function handlerOf(
  { gate, reportFailure, audit, traces }: KvDependencies,
  routeOf: (exchange: Exchange) => string,
  run: Run,
): ExchangeHandler {
  const handler: ExchangeHandler = async (exchange) => {
    let caller: Caller | undefined;
    try {
      const entered = gate.enter(exchange);
      caller = entered instanceof Promise ? await entered : entered;
      if (exchange.trace !== undefined) exchange.trace.tenant = caller.tenant;
      return withHeaders(await run(exchange, caller), caller.answerHeaders);
    } catch (error) {
      const { method, requestId } = exchange;
      if (isReportable(error)) {
        const { trace } = exchange;
        reportFailure({ requestId, method, tenant: caller?.tenant, error, trace });
      }
      const refusal = refusalOfGate(error);
      if (refusal !== undefined) audit.authFailure({ exchange, code: refusal, actor: caller });
      const isWrite = method !== "GET" && method !== "HEAD";
      const answer = problemAnswer(requestId, problemOfError(error, isWrite));
      return withHeaders(answer, caller?.answerHeaders ?? []);
    }
  };
  return traced(handler, routeOf, traces);
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
