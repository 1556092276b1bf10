/**
 * `GET /v1/watch` (SSE), `GET /v1/watch/ws` (WebSocket) and `POST /v1/watch/tickets`, with the paths that minikv
 * always had.
 *
 * A watch is opened before its answer begins, so that everything that is wrong with it is a problem with a status.
 * What it then says comes from the hub; this is where its connection begins and ends.
 */
import { bodyOf, queryOf } from "#gateway/admin/requests.ts";
import { type Audit, refusalOfGate } from "#gateway/audit/audit.ts";
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Answer, Exchange, ExchangeHandler } from "#gateway/http/exchange.ts";
import { jsonAnswer, withHeaders } from "#gateway/http/managed-route.ts";
import {
  type FailureReport,
  isReportable,
  problemAnswer,
  problemOfError,
  RequestRefused,
} from "#gateway/http/problem.ts";
import { splitTarget } from "#gateway/http/request-target.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import { refuseUnheeded } from "#gateway/http/unheeded-headers.ts";
import type { Watches, WatchQuery } from "#gateway/watch/watches.ts";
import type { Clock } from "#shared/clock.ts";
import { WATCH_RETRY_MS_MIN, WATCH_RETRY_MS_SPREAD } from "#shared/limits-watch-http.ts";
import type { Random } from "#shared/random.ts";
import { admitWatch, hasTicket } from "./admission.ts";
import { SseBody } from "./sse-body.ts";
import type { WatchTickets } from "./tickets.ts";
import type { GuardedWatch, WatchGuard } from "./watch-guard.ts";
import { operationsOf, subjectOfBody, TICKET_MEMBERS } from "./watch-request.ts";
import { WatchSession } from "./watch-session.ts";

export const SSE_PATHS = ["/v1/watch", "/watch/sse"] as const;
export const WEBSOCKET_PATHS = ["/v1/watch/ws", "/watch/ws"] as const;
export const TICKETS_PATH = "/v1/watch/tickets";

export type WatchRoutesParts = {
  readonly gate: Gate;
  readonly watches: Watches;
  readonly tickets: WatchTickets;
  readonly guard: WatchGuard;
  readonly clock: Clock;
  readonly random: Random;
  readonly audit: Audit;
  readonly reportFailure: FailureReport;
  /** Why the cluster cannot serve watches; undefined when it can. */
  readonly whyNoWatches?: (() => string | undefined) | undefined;
};

/** Whether a target in origin form is of a path that speaks WebSocket. */
export function isWebSocketTarget(target: string): boolean {
  const { path } = splitTarget(target);
  return WEBSOCKET_PATHS.some((known) => known === path);
}

/** Who asks, as far as that is known when something fails. */
type Asking = { caller: Caller | undefined };
type Run = (exchange: Exchange, asking: Asking) => Promise<Answer>;

/** A watch that is open, for a connection that is about to carry it. */
export type OpenWatch = { readonly session: WatchSession; readonly caller: Caller };

export type OpenSteps = {
  readonly before: () => void;
  readonly take: (watch: OpenWatch) => Answer | undefined;
};

export class WatchRoutes {
  readonly #parts: WatchRoutesParts;
  readonly #byPath: ReadonlyMap<string, ExchangeHandler>;
  #isDraining = false;

  constructor(parts: WatchRoutesParts) {
    this.#parts = parts;
    const sse = this.#handler(["GET"], (exchange, asking) => this.#answerSse(exchange, asking));
    const upgrade = this.#handler(["GET"], (exchange, asking) =>
      this.#askUpgrade(exchange, asking),
    );
    const tickets = this.#handler(["POST"], (exchange, asking) =>
      this.#makeTicket(exchange, asking),
    );
    this.#byPath = new Map([
      ...SSE_PATHS.map((path) => [path, sse] as const),
      ...WEBSOCKET_PATHS.map((path) => [path, upgrade] as const),
      [TICKETS_PATH, tickets] as const,
    ]);
  }

  /** Every path with the methods that it takes. */
  get paths(): readonly (readonly [path: string, method: "GET" | "POST", ExchangeHandler])[] {
    return [...this.#byPath].map(([path, handler]) => [
      path,
      path === TICKETS_PATH ? "POST" : "GET",
      handler,
    ]);
  }

  /** Undefined for the path of another route. */
  handlerFor(target: string): ExchangeHandler | undefined {
    return target.startsWith("/v1/watch") || target.startsWith("/watch/")
      ? this.#byPath.get(splitTarget(target).path)
      : undefined;
  }

  /** The gateway stops: every watch ends with the event `drain`, and none begins. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#parts.watches.drain();
  }

  /** Nobody is asked about any more; after the last connection has closed. */
  forget(): void {
    this.#parts.guard.close();
  }

  /**
   * Opens the watch that a request asks for, or says why not.
   *
   * @param steps `before` may refuse; `take` gets the watch when it is open, and answers
   */
  async openFor(
    exchange: Exchange,
    format: WatchQuery["format"],
    { before, take }: OpenSteps,
  ): Promise<Answer | undefined> {
    const asking: Asking = { caller: undefined };
    try {
      before();
      return take(await this.#open(exchange, asking, format));
    } catch (error) {
      return this.#problemOf(exchange, asking, error);
    }
  }

  async #answerSse(exchange: Exchange, asking: Asking): Promise<Answer> {
    const { session } = await this.#open(exchange, asking, "sse");
    const { random } = this.#parts;
    // All clients of a gateway that stops would otherwise come back at the same moment.
    const retryMs = WATCH_RETRY_MS_MIN + random.below(WATCH_RETRY_MS_SPREAD);
    const headers = [
      ...["Content-Type", "text/event-stream; charset=utf-8"],
      ...["Cache-Control", "no-store"],
      // nginx would otherwise keep events until it has some kilobytes of them.
      ...["X-Accel-Buffering", "no"],
      ...["X-Request-ID", exchange.requestId],
    ];
    return { status: 200, headers, body: new SseBody(session, retryMs) };
  }

  /** Whoever may not watch here is told that first. A ticket is left for the request that uses it. */
  async #askUpgrade(exchange: Exchange, asking: Asking): Promise<Answer> {
    const { gate } = this.#parts;
    if (hasTicket(exchange)) gate.enterUnknown(exchange);
    else await admitWatch(this.#parts, exchange, asking, () => this.#deadlineOf(exchange));
    return problemAnswer(exchange.requestId, {
      code: "UPGRADE_REQUIRED",
      detail: "this path speaks WebSocket (RFC 6455, version 13) over HTTP/1.1 only",
      headers: [...["Upgrade", "websocket"], ...["Sec-WebSocket-Version", "13"]],
    });
  }

  async #makeTicket(exchange: Exchange, asking: Asking): Promise<Answer> {
    const { gate, tickets, audit } = this.#parts;
    const entered = gate.enter(exchange);
    const caller = entered instanceof Promise ? await entered : entered;
    asking.caller = caller;
    queryOf(exchange, []);
    refuseUnheeded(exchange);
    this.#refuseWithoutWatches();
    const subject = subjectOfBody(await bodyOf(exchange, TICKET_MEMBERS));
    for (const operation of operationsOf(subject, caller.tenant)) gate.authorize(caller, operation);
    // It is a credential, and told to the audit log as a token is.
    audit.admit();
    const { token, expiresInSeconds } = await tickets.issue(caller, subject);
    const answer = jsonAnswer(exchange, { ticket: token, expires_in: expiresInSeconds });
    audit.admin({ exchange, route: TICKETS_PATH, status: answer.status, actor: caller });
    return answer;
  }

  async #open(
    exchange: Exchange,
    asking: Asking,
    format: WatchQuery["format"],
  ): Promise<OpenWatch> {
    this.#refuseWhileDraining();
    this.#refuseWithoutWatches();
    const { watches, guard } = this.#parts;
    const deadline = (): number => this.#deadlineOf(exchange);
    const admitted = await admitWatch(this.#parts, exchange, asking, deadline);
    const { caller, subject, start, operations } = admitted;
    const { tenant } = caller;
    const session: WatchSession = new WatchSession({
      isDraining: () => this.#isDraining,
      onOver: () => guard.remove(guarded),
    });
    const guarded: GuardedWatch = {
      ...{ caller, exchange, operations },
      finish: (ending) => session.finish(ending),
    };
    try {
      session.opened(
        await watches.open(
          { tenant, ...subject, format },
          start,
          session,
          deadline(),
          exchange.cancellation,
        ),
      );
    } catch (error) {
      session.close();
      throw error;
    }
    guard.add(guarded);
    // It may have been opened while the others were ended.
    if (this.#isDraining) session.finish({ kind: "drain" });
    return { session, caller };
  }

  /** It begins when a step does: what came before it was waiting for something else. */
  #deadlineOf(exchange: Exchange): number {
    return this.#parts.clock.nowMs() + parseTimeoutMs(exchange);
  }

  #refuseWhileDraining(): void {
    if (!this.#isDraining) return;
    throw new RequestRefused("UNAVAILABLE", "the gateway is stopping; watch at another one");
  }

  /** A storage node that does not know watches would leave this one silent for ever. */
  #refuseWithoutWatches(): void {
    const why = this.#parts.whyNoWatches?.();
    if (why !== undefined) throw new RequestRefused("UNAVAILABLE", why);
  }

  #handler(methods: readonly ("GET" | "POST")[], run: Run): ExchangeHandler {
    return async (exchange) => {
      const asking: Asking = { caller: undefined };
      try {
        const isTaken = methods.some((method) => method === exchange.method);
        const answer = isTaken
          ? await run(exchange, asking)
          : await this.#methodNotAllowed(exchange, asking, methods);
        return withHeaders(answer, asking.caller?.answerHeaders ?? []);
      } catch (error) {
        return this.#problemOf(exchange, asking, error);
      }
    };
  }

  async #methodNotAllowed(
    exchange: Exchange,
    asking: Asking,
    methods: readonly string[],
  ): Promise<Answer> {
    asking.caller = await this.#parts.gate.enter(exchange);
    const allow = methods.join(", ");
    return problemAnswer(exchange.requestId, {
      code: "METHOD_NOT_ALLOWED",
      detail: `this path takes ${allow}`,
      outcome: isRead(exchange) ? undefined : "not_applied",
      headers: ["Allow", allow],
    });
  }

  #problemOf(exchange: Exchange, { caller }: Asking, error: unknown): Answer {
    const { audit, reportFailure } = this.#parts;
    const { requestId, method } = exchange;
    if (isReportable(error)) reportFailure({ requestId, method, tenant: caller?.tenant, error });
    const code = refusalOfGate(error);
    if (code !== undefined) audit.authFailure({ exchange, code, actor: caller });
    const answer = problemAnswer(requestId, problemOfError(error, !isRead(exchange)));
    return withHeaders(answer, caller?.answerHeaders ?? []);
  }
}

const isRead = ({ method }: Exchange): boolean => method === "GET" || method === "HEAD";
