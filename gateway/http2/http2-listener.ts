/**
 * HTTP/2 beside HTTP/1.1 on the listener with TLS: the client chooses by ALPN, in the handshake.
 *
 * The server of node:https stays as it is, with its timeouts and checks, and sees only connections that are
 * its own. So do HTTP/1.1 clients: nothing of what they do depends on whether HTTP/2 is offered.
 */
import type { Server as HttpsServer } from "node:https";
import type { TLSSocket } from "node:tls";
import type { GatewayApp } from "#gateway/app.ts";
import type { Answer } from "#gateway/http/exchange.ts";
import {
  problemAnswer,
  problemOfError,
  RequestRefused,
  refusalAnswer,
} from "#gateway/http/problem.ts";
import { splitTarget } from "#gateway/http/request-target.ts";
import { notedRoute } from "#gateway/http/route-note.ts";
import { assert } from "#shared/assert.ts";
import { Roster } from "#shared/roster.ts";
import { answerOfRoutes } from "./fetch-bridge.ts";
import { Http2Connection, type Http2Timeouts } from "./http2-connection.ts";
import type { Http2Exchange, Http2ExchangeHost } from "./http2-exchange.ts";
import { refusalOf } from "./request-head.ts";

export type Http2ListenerOptions = {
  readonly app: GatewayApp;
  readonly host: Http2ExchangeHost;
  readonly timeouts: Http2Timeouts & { readonly checkIntervalMs: number };
  /** Told when the last connection has closed. */
  readonly onEmpty: () => void;
};

export class Http2Listener {
  readonly #options: Http2ListenerOptions;
  readonly #connections = new Roster<Http2Connection>();
  #isEnding = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: Http2ListenerOptions) {
    this.#options = options;
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Of those, the ones that a request runs on. */
  get busyCount(): number {
    return this.#connections.values().filter(({ isBusy }) => isBusy).length;
  }

  /** Takes over a connection whose client has chosen HTTP/2. */
  accept(socket: TLSSocket): void {
    const { host, timeouts, onEmpty } = this.#options;
    const connection = new Http2Connection({
      ...{ socket, host, timeouts },
      nowMs: () => performance.now(),
      serve: (exchange) => this.#serve(exchange),
      onEnd: (exchange) => this.#count(exchange),
      onClose: () => {
        remove();
        if (this.#connections.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
        onEmpty();
      },
    });
    const remove = this.#connections.add(connection);
    this.#timer ??= setInterval(() => this.#check(), timeouts.checkIntervalMs);
    if (this.#isEnding) connection.endAfterRunning();
  }

  #check(): void {
    for (const connection of this.#connections.values()) connection.check();
  }

  /** No more requests; each connection closes behind its last one. */
  endAfterRunning(): void {
    this.#isEnding = true;
    for (const connection of this.#connections.values()) connection.endAfterRunning();
  }

  /** Lets streamed answers end early. */
  stopStreams(): void {
    for (const connection of this.#connections.values()) connection.stopStreams();
  }

  cut(): void {
    for (const connection of this.#connections.values()) connection.cut();
  }

  #count(exchange: Http2Exchange): void {
    const { httpFigures } = this.#options.app.gateway;
    const { method, route, status, startedMs, isEndless } = exchange;
    httpFigures.inFlight--;
    const noted = route === 0 ? notedRoute(exchange) : undefined;
    const index = noted === undefined ? route : httpFigures.routeIndex(noted);
    const durationMs = isEndless ? undefined : performance.now() - startedMs;
    httpFigures.finished(index, method, status, durationMs);
  }

  async #serve(exchange: Http2Exchange): Promise<void> {
    try {
      const { kv, watch, httpFigures } = this.#options.app.gateway;
      httpFigures.inFlight++;
      const refusal = refusalOf(exchange.head);
      if (refusal !== undefined) {
        this.#refuse(exchange, refusal);
        return;
      }
      const preflight = this.#options.host.cors.isOn ? exchange.preflight() : undefined;
      if (preflight !== undefined) {
        this.#send(exchange, preflight);
        return;
      }
      const { target } = exchange;
      const handler = kv.handlerFor(target) ?? watch?.handlerFor(target);
      if (handler === undefined) {
        await this.#serveRoute(exchange);
        return;
      }
      exchange.route = kv.routeFor(target) || httpFigures.routeIndex(splitTarget(target).path);
      this.#send(exchange, await handler(exchange));
    } catch (error) {
      this.#report(exchange, error);
      exchange.reset();
    }
  }

  async #serveRoute(exchange: Http2Exchange): Promise<void> {
    try {
      const { fetch } = this.#options.app;
      const answer = await answerOfRoutes(fetch, exchange, exchange.commonHeaders());
      this.#send(exchange, answer, []);
    } catch (error) {
      if (!(error instanceof RequestRefused)) throw error;
      this.#refuse(exchange, error);
    }
  }

  #refuse(exchange: Http2Exchange, refusal: RequestRefused): void {
    const { requestId, method } = exchange;
    this.#send(exchange, refusalAnswer(requestId, refusal, isWrite(method)));
  }

  /** An answer that cannot be sent becomes an internal error. */
  #send(exchange: Http2Exchange, answer: Answer, more?: readonly string[]): void {
    try {
      exchange.send(answer, more);
    } catch (error) {
      this.#report(exchange, error);
      const { requestId, method, stream } = exchange;
      if (stream.headersSent) exchange.reset();
      else exchange.send(problemAnswer(requestId, problemOfError(error, isWrite(method))));
    }
  }

  #report({ requestId, method }: Http2Exchange, error: unknown): void {
    this.#options.app.gateway.reportFailure({ requestId, method, error });
  }
}

const isWrite = (method: string): boolean => method !== "GET" && method !== "HEAD";

/** Hands connections of HTTP/2 to `take`, all others to the server, as if there were no others. */
export function divertHttp2(server: HttpsServer, take: (socket: TLSSocket) => void): void {
  const [serveHttp1, ...others] = server.listeners("secureConnection") as ((
    socket: TLSSocket,
  ) => void)[];
  assert(serveHttp1 !== undefined && others.length === 0, "one listener takes TLS connections");
  server.off("secureConnection", serveHttp1);
  server.on("secureConnection", (socket) => {
    if (socket.alpnProtocol === "h2") take(socket);
    else serveHttp1.call(server, socket);
  });
}
