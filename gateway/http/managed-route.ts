/**
 * Routes other than those of keys: what each asks of its caller stands in its entry, and is held here.
 *
 * A route is a list of methods, each with the action that its caller must be allowed; `public` ones take
 * requests without credentials. There is no third kind: a route cannot forget its rule.
 */
import type { Context, Handler } from "hono";
import type { Action, Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { GatewayEnv } from "#gateway/middleware/request-id.ts";
import type { BodyBudget } from "./body-budget.ts";
import type { Answer, Exchange } from "./exchange.ts";
import { handleFetch } from "./fetch-exchange.ts";
import { type FailureReport, isReportable, problemAnswer, problemOfError } from "./problem.ts";

export type ManagedMethodName = "GET" | "POST" | "PUT" | "DELETE";

export type ManagedRequest = {
  readonly exchange: Exchange;
  readonly caller: Caller;
  /** A part of the path, as Hono names it; empty when the path has none of the name. */
  readonly parameter: (name: string) => string;
};

export type ManagedMethod =
  | { readonly access: Action; readonly run: (request: ManagedRequest) => Promise<Answer> }
  | {
      readonly access: "public";
      readonly run: (request: Omit<ManagedRequest, "caller">) => Promise<Answer>;
    };

export type ManagedRoute = {
  /** As Hono writes it. */
  readonly path: string;
  readonly methods: ReadonlyMap<ManagedMethodName, ManagedMethod>;
};

export type ManagedParts = {
  readonly gate: Gate;
  readonly budget: BodyBudget;
  readonly reportFailure: FailureReport;
};

/** Lets the caller in, runs `method`, and turns every failure into its problem. */
export function managedHandler(parts: ManagedParts, method: ManagedMethod): Handler<GatewayEnv> {
  return (c) =>
    handleFetch((exchange) => answerManaged(parts, method, exchange, c), {
      request: c.req.raw,
      requestId: c.get("requestId"),
      budget: parts.budget,
      peerAddress: peerAddressOf(c),
    });
}

async function answerManaged(
  { gate, reportFailure }: ManagedParts,
  method: ManagedMethod,
  exchange: Exchange,
  c: Context<GatewayEnv>,
): Promise<Answer> {
  const parameter = (name: string): string => c.req.param(name) ?? "";
  let caller: Caller | undefined;
  try {
    if (method.access === "public") {
      gate.enterUnknown(exchange);
      return await method.run({ exchange, parameter });
    }
    caller = await gate.enter(exchange);
    gate.authorize(caller, { action: method.access, tenant: caller.tenant });
    return withHeaders(await method.run({ exchange, caller, parameter }), caller.answerHeaders);
  } catch (error) {
    const { requestId } = exchange;
    if (isReportable(error)) {
      reportFailure({ requestId, method: exchange.method, tenant: caller?.tenant, error });
    }
    const isWrite = exchange.method !== "GET" && exchange.method !== "HEAD";
    const answer = problemAnswer(requestId, problemOfError(error, isWrite));
    return withHeaders(answer, caller?.answerHeaders ?? []);
  }
}

/** The answer with more headers, names and values in turn. */
export function withHeaders(answer: Answer, headers: readonly string[]): Answer {
  if (headers.length === 0) return answer;
  return { ...answer, headers: [...answer.headers, ...headers] };
}

type NodeBindings = {
  readonly incoming?: { readonly socket: { readonly remoteAddress?: string } };
};

/** Of the connection; empty where there is none, as in `app.request(...)`. */
export function peerAddressOf(c: Context<GatewayEnv>): string {
  const { incoming } = (c.env ?? {}) as NodeBindings;
  return incoming?.socket.remoteAddress ?? "";
}

/** 200 (or `status`) with JSON that no cache keeps. */
export function jsonAnswer({ requestId }: Exchange, value: unknown, status = 200): Answer {
  const body = JSON.stringify(value);
  const headers = [
    ...["Content-Type", "application/json"],
    ...["Content-Length", String(Buffer.byteLength(body))],
    ...["Cache-Control", "no-store"],
    ...["X-Content-Type-Options", "nosniff"],
    ...["X-Request-ID", requestId],
  ];
  return { status, headers, body };
}
