/** `GET` and `PUT /admin/log-level`: what the process of the gateway that is asked writes into its log. */
import type { Answer } from "#gateway/http/exchange.ts";
import { jsonAnswer, type ManagedRequest, type ManagedRoute } from "#gateway/http/managed-route.ts";
import { malformed } from "#gateway/http/problem.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { type LogLevelControl, parseLogLevelChange } from "#shared/runtime/log-level.ts";
import { bodyOf, queryOf } from "./requests.ts";

export type LogLevelRouteOptions = { readonly logLevel: LogLevelControl; readonly logger: Logger };

export function logLevelRoute({ logLevel, logger }: LogLevelRouteOptions): ManagedRoute {
  const show = async ({ exchange }: ManagedRequest): Promise<Answer> => {
    queryOf(exchange, []);
    return jsonAnswer(exchange, logLevel.status);
  };
  const change = async ({ exchange, caller }: ManagedRequest): Promise<Answer> => {
    queryOf(exchange, []);
    const change = parseLogLevelChange(await bodyOf(exchange, ["level", "for"]));
    if (typeof change === "string") throw malformed(change);
    if ("restore" in change) logLevel.restore();
    else logLevel.change(change);
    const by = { by: caller.principal.id, request_id: exchange.requestId };
    logger.warn({ ...logLevel.status, ...by }, "log level changed");
    return jsonAnswer(exchange, logLevel.status);
  };
  return {
    path: "/admin/log-level",
    methods: new Map([
      ["GET", { access: "cluster.read", run: show }],
      ["PUT", { access: "cluster.change", run: change }],
    ]),
  };
}
