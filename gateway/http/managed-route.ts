/**
 * Routes other than those of keys: what each asks of its caller stands in its entry, and is held here.
 *
 * A route is a list of methods, each with the action that its caller must be allowed; `public` ones take
 * requests without credentials. There is no third kind: a route cannot forget its rule.
 */
import type { Context, Handler } from "hono";
import type { Audit } from "#gateway/audit/audit.ts";
import { refusalOfGate } from "#gateway/audit/audit.ts";
import type { Action, Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { GatewayEnv } from "#gateway/middleware/request-id.ts";
import type { BodyBudget } from "./body-budget.ts";
import type { Cors } from "./cors.ts";
import { type Answer, type Exchange, isBodyStream } from "./exchange.ts";
import { handleFetch } from "./fetch-exchange.ts";
import { type FailureReport, isReportable, problemAnswer, problemOfError } from "./problem.ts";
import { RenewedStream } from "./renewed-stream.ts";
import { type RequestTracing, traced } from "./request-trace.ts";
import { noteStream } from "./routed-stream.ts";
import { refuseUnheeded } from "./unheeded-headers.ts";

/** Where a key is exchanged for a token. */
export const TOKEN_PATH = "/v1/auth/token";

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
  readonly cors: Cors;
  readonly audit: Audit;
  readonly traces: RequestTracing;
};

/** A method of a route, and whether the audit log holds what it does. */
type Declared = {
  readonly method: ManagedMethod;
  readonly path: string;
  readonly isAudited: boolean;
};

/**
 * Lets the caller in, runs `method`, and turns every failure into its problem. What changes something below
 * `/admin`, or makes a token, is told to the audit log.
 */
export function managedHandler(
  parts: ManagedParts,
  path: string,
  [name, method]: readonly [ManagedMethodName, ManagedMethod],
): Handler<GatewayEnv> {
  const isAudited = name !== "GET" && (path.startsWith("/admin/") || path === TOKEN_PATH);
  const declared = { method, path, isAudited };
  const route = path.replace(/:([A-Za-z0-9_]+)(?:\{[^}]*\})?/g, "{$1}");
  const handlerFor = (c: Context<GatewayEnv>) =>
    traced(
      (exchange) => answerManaged(parts, declared, exchange, c),
      () => route,
      parts.traces,
    );
  return (c) =>
    handleFetch(handlerFor(c), {
      request: c.req.raw,
      requestId: c.get("requestId"),
      budget: parts.budget,
      peerAddress: peerAddressOf(c),
      isBodyUnannounced: isBodyChunked(c),
      originIsNamed: parts.cors.isNamed(c.req.header("origin") ?? ""),
    });
}

async function answerManaged(
  { gate, reportFailure, audit }: ManagedParts,
  { method, path, isAudited }: Declared,
  exchange: Exchange,
  c: Context<GatewayEnv>,
): Promise<Answer> {
  const parameter = (name: string): string => c.req.param(name) ?? "";
  let caller: Caller | undefined;
  try {
    let answer: Answer;
    if (method.access === "public") {
      gate.enterUnknown(exchange);
      if (isAudited) audit.admit();
      answer = await method.run({ exchange, parameter });
    } else {
      caller = await gate.enter(exchange);
      if (exchange.trace !== undefined) exchange.trace.tenant = caller.tenant;
      gate.authorize(caller, { action: method.access, tenant: caller.tenant });
      if (isAudited) {
        refuseUnheeded(exchange);
        audit.admit();
      }
      answer = await method.run({ exchange, caller, parameter });
      if (isBodyStream(answer.body)) {
        const { tenant } = caller;
        const renew = async (): Promise<void> => {
          await gate.renew(exchange);
          gate.authorize(caller!, { action: method.access, tenant });
        };
        const body = new RenewedStream(answer.body, renew);
        answer = { ...answer, body };
        noteStream(c, body);
      }
    }
    if (isAudited) {
      const { status, shown } = answer;
      audit.admin({ exchange, route: path, status, shown, actor: caller });
    }
    return withHeaders(answer, caller?.answerHeaders ?? []);
  } catch (error) {
    const { requestId, trace } = exchange;
    if (isReportable(error)) {
      reportFailure({ requestId, method: exchange.method, tenant: caller?.tenant, error, trace });
    }
    const isWrite = exchange.method !== "GET" && exchange.method !== "HEAD";
    const problem = problemOfError(error, isWrite);
    const answer = problemAnswer(requestId, problem);
    const refusal = refusalOfGate(error);
    if (refusal !== undefined) {
      audit.authFailure({ exchange, code: refusal, actor: caller });
    } else if (isAudited && caller !== undefined) {
      // Without a caller nothing was begun, and whoever likes could fill the log.
      const { code, outcome } = problem;
      audit.admin({ exchange, route: path, status: answer.status, code, outcome, actor: caller });
    }
    return withHeaders(answer, caller?.answerHeaders ?? []);
  }
}

/** The answer with more headers, names and values in turn. */
export function withHeaders(answer: Answer, headers: readonly string[]): Answer {
  if (headers.length === 0) return answer;
  return { ...answer, headers: [...answer.headers, ...headers] };
}

type NodeBindings = {
  readonly incoming?: {
    readonly socket: { readonly remoteAddress?: string };
    /** Of HTTP/1.1 only. */
    readonly headers?: { readonly "transfer-encoding"?: string };
  };
};

/** Undefined where the request is not of HTTP/1.1, whose listener gives every POST a body. */
function isBodyChunked(c: Context<GatewayEnv>): boolean | undefined {
  const headers = ((c.env ?? {}) as NodeBindings).incoming?.headers;
  return headers && headers["transfer-encoding"] !== undefined;
}

/** Whether a listener brought the request here; false in `app.request(...)`. */
export const isOfListener = (c: Context<GatewayEnv>): boolean =>
  ((c.env ?? {}) as NodeBindings).incoming !== undefined;

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
    ...["X-Request-ID", requestId],
  ];
  return { status, headers, body };
}
