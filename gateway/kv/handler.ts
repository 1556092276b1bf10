/**
 * The key-value route: dispatch by method, and every failure turned into its problem answer.
 *
 * This is the hot path, and on sockets no Hono middleware runs in front of it (`exchange.ts` says
 * why). What must precede each key-value request is called from here.
 */
import type { Answer, Exchange, ExchangeHandler } from "#gateway/http/exchange.ts";
import {
  type FailureReport,
  isReportable,
  problemAnswer,
  problemOfError,
} from "#gateway/http/problem.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import type { Clock } from "#shared/clock.ts";
import { readValue } from "./read.ts";
import { deleteValue, putValue } from "./write.ts";

export const KV_METHODS = ["GET", "HEAD", "PUT", "DELETE"] as const;
const ALLOW = KV_METHODS.join(", ");

export type KvDependencies = {
  readonly storage: Storage;
  readonly clock: Clock;
  readonly reportFailure: FailureReport;
};

export function createKvHandler({
  storage,
  clock,
  reportFailure,
}: KvDependencies): ExchangeHandler {
  const run = (exchange: Exchange): Promise<Answer> => {
    switch (exchange.method) {
      case "GET":
      case "HEAD":
        return readValue(exchange, storage, clock);
      case "PUT":
        return putValue(exchange, storage, clock);
      case "DELETE":
        return deleteValue(exchange, storage, clock);
      default:
        return Promise.resolve(
          problemAnswer(exchange.requestId, {
            code: "METHOD_NOT_ALLOWED",
            detail: `this path takes ${ALLOW}`,
            outcome: "not_applied",
            headers: ["Allow", ALLOW],
          }),
        );
    }
  };
  return async (exchange) => {
    try {
      return await run(exchange);
    } catch (error) {
      const { method, requestId } = exchange;
      if (isReportable(error)) reportFailure({ requestId, method, error });
      return problemAnswer(
        requestId,
        problemOfError(error, method === "PUT" || method === "DELETE"),
      );
    }
  };
}
