/**
 * The span of a request: begun when its handler starts, recorded when it has answered.
 *
 * Named and described by the stable semantic conventions for HTTP. Path and query never appear: keys are
 * in the one and tickets in the other. Nor does the address of the client, which is about a person.
 * https://opentelemetry.io/docs/specs/semconv/http/http-spans/
 */
import type { Clock } from "#shared/clock.ts";
import type { RequestTrace, Tracing } from "#shared/tracing.ts";
import type { Answer, Exchange, ExchangeHandler } from "./exchange.ts";
import { parseTraceparent } from "./trace-context.ts";

export type RequestTracing = {
  readonly tracing: Tracing;
  readonly clock: Clock;
  readonly scheme: "http" | "https";
};

const METHODS: ReadonlySet<string> = new Set([
  ...["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"],
]);
const HOST = /^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?$/;

/**
 * The handler, whose sampled requests have a span. `routeOf` gives the route of a request as a template.
 * Requests that are not sampled pay for the decision alone, and with traces off not even for that.
 */
export function traced(
  handler: ExchangeHandler,
  routeOf: (exchange: Exchange) => string,
  options: RequestTracing,
): ExchangeHandler {
  const { tracing } = options;
  if (!tracing.isOn) return handler;
  return (exchange) => {
    const trace = tracing.sample(parseTraceparent(exchange.header("traceparent")));
    if (trace === undefined) return handler(exchange);
    exchange.trace = trace;
    return handler(exchange).then((answer) => {
      recordRequest(exchange, trace, { route: routeOf(exchange), answer }, options);
      return answer;
    });
  };
}

function recordRequest(
  exchange: Exchange,
  { context, parent, startMs, tenant }: RequestTrace,
  { route, answer }: { readonly route: string; readonly answer: Answer },
  { tracing, clock, scheme }: RequestTracing,
): void {
  const { status } = answer;
  const isKnown = METHODS.has(exchange.method);
  const attributes: Record<string, string | number> = {
    "http.request.method": isKnown ? exchange.method : "_OTHER",
    "http.route": route,
    "http.response.status_code": status,
    "url.scheme": scheme,
    "minikv.request_id": exchange.requestId,
  };
  if (tenant !== undefined) attributes["minikv.tenant.id"] = tenant;
  const host = HOST.exec(exchange.header("host") ?? "");
  if (host !== null) attributes["server.address"] = host[1]!;
  if (host?.[2] !== undefined) attributes["server.port"] = Number(host[2]);
  tracing.record({
    name: `${isKnown ? exchange.method : "HTTP"} ${route}`,
    ...{ kind: "server", context, parent, startMs, endMs: clock.monotonicMs(), attributes },
    // A client's mistake is no failure of the server.
    error: status >= 500 ? String(status) : undefined,
  });
}
