/**
 * The HTTP listener, with or without TLS: limits, timeouts, and the way of each request to its handler.
 *
 * Key-value requests run straight on Node's objects; all others go through Hono. Bounds against
 * hostile and broken clients are set here: size of headers and URL, time for handshake, headers and
 * body, idle and stalled connections, number of connections.
 */
import { type IncomingMessage, type Server, ServerResponse } from "node:http";
import type { Server as HttpsServer } from "node:https";
import { type AddressInfo, Server as NetServer, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { getRequestListener } from "@hono/node-server";
import { HTTP_PIPELINED_REQUESTS_MAX } from "#shared/limits.ts";
import { Roster } from "#shared/roster.ts";
import { listenFailure } from "#shared/runtime/listen-advice.ts";
import { type OwnMachineOnly, ownMachineOnly } from "#shared/runtime/own-machine.ts";
import type { GatewayApp } from "./app.ts";
import { handleClientError } from "./http/client-error.ts";
import { Connection, type QueuedRequest } from "./http/connection.ts";
import type { Answer } from "./http/exchange.ts";
import { toResponse } from "./http/fetch-exchange.ts";
import type { HttpFigures } from "./http/http-figures.ts";
import { answerPlainHttp, contextOf, type HttpsMaterial } from "./http/https.ts";
import { NodeExchange, type NodeExchangeHost } from "./http/node-exchange.ts";
import { createNodeServer, DEFAULT_LIMITS, type HttpServerLimits } from "./http/node-server.ts";
import {
  malformed,
  problemAnswer,
  problemOfError,
  RequestRefused,
  refusalAnswer,
} from "./http/problem.ts";
import { refusalOf } from "./http/request-refusals.ts";
import { splitTarget } from "./http/request-target.ts";
import { notedRoute } from "./http/route-note.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { mayUpgrade, upgradeConnection } from "./http/upgrade.ts";
import { divertHttp2, Http2Listener } from "./http2/http2-listener.ts";
import type { UpgradeRequest } from "./watch/http/websocket.ts";

export type { HttpServerLimits } from "./http/node-server.ts";

export type HttpServerOptions = {
  readonly app: GatewayApp;
  /** Port 0 takes any free one. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly limits?: Partial<HttpServerLimits>;
  /** Speaks TLS, and nothing else. */
  readonly tls?: HttpsMaterial | undefined;
  /** Whether clients with TLS are offered HTTP/2; by default they are. */
  readonly http2?: boolean;
};

export type HttpServer = {
  readonly url: string;
  readonly address: AddressInfo;
  /**
   * Connections that are made from now on get this certificate; those that are open go on. Only of a
   * listener that was started with TLS.
   */
  replaceTls(material: HttpsMaterial): void;
  /**
   * Stops accepting connections, lets requests end that run or are on their way (their answers
   * say `Connection: close`), and cuts what is left after `timeoutMs`. Resolves when all
   * connections are closed.
   */
  close(timeoutMs: number): Promise<{ readonly connectionsCut: number }>;
};

/** Listens, and resolves once requests are taken. Rejects when the address cannot be had. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const { tls, http2 = true } = options;
  const hasHttp2 = tls !== undefined && http2;
  let listener: Listener | undefined;
  const server = createNodeServer(limits, {
    ...{ tls, hasHttp2 },
    mayUpgrade: (incoming) => listener?.mayUpgrade(incoming) ?? false,
  });
  const hasTls = tls !== undefined;
  const { app, listen } = options;
  const guard = ownMachineOnly(listen, { isOpen: app.gateway.isOpen, hasTls });
  const listening = new Listener({ server, app, limits, hasTls, hasHttp2, guard });
  listener = listening;
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error) => reject(listenFailure("--listen", error));
    server.once("error", onError);
    server.listen({ host: listen.host, port: listen.port }, () => {
      server.off("error", onError);
      resolve();
    });
  });
  const address = server.address() as AddressInfo;
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    url: `${tls === undefined ? "http" : "https"}://${host}:${address.port}`,
    address,
    // New session keys come with the new context: nobody resumes what another authority vouched for.
    replaceTls: (next) => (server as unknown as HttpsServer).setSecureContext(contextOf(next)),
    close: (timeoutMs) => listening.close(timeoutMs),
  };
}

type ListenerParts = {
  readonly server: Server;
  readonly app: GatewayApp;
  readonly limits: HttpServerLimits;
  readonly hasTls: boolean;
  readonly hasHttp2: boolean;
  readonly guard: OwnMachineOnly | undefined;
};

class Listener {
  readonly #server: Server;
  readonly #app: GatewayApp;
  readonly #host: NodeExchangeHost;
  readonly #hono: (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<unknown>;
  readonly #closeGraceMs: number;
  readonly #hasTls: boolean;
  readonly #guard: OwnMachineOnly | undefined;
  readonly #figures: HttpFigures;
  readonly #connections = new Roster<Connection>();
  /** Below TLS: those whose handshake is not done are among them. */
  readonly #rawSockets = new Roster<Socket>();
  readonly #http2: Http2Listener | undefined;
  #whenEmpty: (() => void) | undefined;
  #closing: Promise<{ readonly connectionsCut: number }> | undefined;

  constructor({ server, app, limits, hasTls, hasHttp2, guard }: ListenerParts) {
    this.#server = server;
    this.#app = app;
    this.#hasTls = hasTls;
    this.#guard = guard;
    this.#figures = app.gateway.httpFigures;
    this.#figures.addConnections(() => this.#openCount);
    const { requestIds, bodyBudget, answerBudget, cors } = app.gateway;
    const { lingerTimeoutMs } = limits;
    const headers = securityHeaders(hasTls);
    this.#host = { requestIds, bodyBudget, answerBudget, lingerTimeoutMs, headers, cors };
    this.#closeGraceMs = limits.closeGraceMs;
    this.#hono = getRequestListener(app.fetch, {
      hostname: "localhost",
      overrideGlobalObjects: false,
      errorHandler: () =>
        toResponse(
          refusalAnswer(requestIds(undefined), malformed("the URL is not valid"), true),
          "GET",
        ),
    });
    if (hasHttp2) {
      const host = this.#host;
      const onEmpty = (): void => this.#onClosed();
      this.#http2 = new Http2Listener({ app, host, timeouts: limits, onEmpty });
    }
    this.#listen();
  }

  #listen(): void {
    const server = this.#server;
    const http2 = this.#http2;
    if (http2 !== undefined) {
      divertHttp2(server as unknown as HttpsServer, (socket) => http2.accept(socket));
    }
    if (this.#hasTls) {
      server.on("connection", (socket) => {
        socket.once("close", this.#rawSockets.add(socket));
      });
    }
    server.on(this.#hasTls ? "secureConnection" : "connection", (socket: Socket) => {
      if (isHttp2(socket)) return;
      const connection = Connection.begin(socket);
      const remove = this.#connections.add(connection);
      socket.once("close", () => {
        remove();
        connection.closed();
        this.#onClosed();
      });
    });
    server.on("request", (incoming, outgoing) => {
      this.#accept({ incoming, outgoing, expectation: "none" });
    });
    server.on("checkContinue", (incoming, outgoing) => {
      this.#accept({ incoming, outgoing, expectation: "continue" });
    });
    server.on("checkExpectation", (incoming, outgoing) => {
      this.#accept({ incoming, outgoing, expectation: "unknown" });
    });
    server.on("upgrade", (incoming, socket, head) => {
      this.#upgrade({ incoming, socket: socket as Socket, head });
    });
    server.on("clientError", (error: Error & { readonly code?: string }, socket) => {
      if (error.code === "ERR_SSL_HTTP_REQUEST") {
        answerPlainHttp(socket as Socket);
        return;
      }
      handleClientError({
        error,
        socket: socket as Socket,
        connection: Connection.of(socket as Socket),
        ...this.#host,
      });
      this.#figures.malformed();
    });
  }

  #accept(request: QueuedRequest): void {
    const connection = Connection.of(request.incoming.socket);
    // A request behind the last one that is answered here: its client sees the connection close.
    if (connection === undefined || connection.isEnding) return;
    connection.lastOutgoing = request.outgoing;
    if (connection.running === undefined) {
      this.#start(connection, request);
    } else if (connection.waiting.length < HTTP_PIPELINED_REQUESTS_MAX) {
      connection.waiting.push(request);
    } else {
      const exchange = this.#exchangeFor(connection, request);
      const refusal = new RequestRefused("OVERLOADED", "too many pipelined requests");
      this.#refuse(exchange, refusal, () => undefined);
    }
  }

  #start(connection: Connection, request: QueuedRequest): void {
    const exchange = this.#exchangeFor(connection, request);
    connection.running = exchange;
    this.#figures.inFlight++;
    if (this.#closing !== undefined) connection.endAfterRunning();
    const refusal = refusalOf(exchange, request.expectation, this.#guard);
    if (refusal !== undefined) {
      this.#refuse(exchange, refusal, () => this.#finish(connection));
      return;
    }
    const preflight = this.#host.cors.isOn ? exchange.preflight() : undefined;
    if (preflight !== undefined) {
      this.#send(exchange, preflight, () => this.#finish(connection));
      return;
    }
    const { kv, watch } = this.#app.gateway;
    const { target } = exchange;
    const handler = kv.handlerFor(target) ?? watch?.handlerFor(target);
    if (handler !== undefined) {
      exchange.route = kv.routeFor(target) || this.#watchRouteOf(target);
      void handler(exchange).then((answer) =>
        this.#send(exchange, answer, () => this.#finish(connection)),
      );
    } else {
      request.outgoing.once("close", () => this.#finish(connection));
      // What a route sets itself comes behind them, and wins.
      exchange.setCommonHeaders();
      this.#hono(request.incoming, request.outgoing).catch((error: unknown) => {
        const { requestId, method } = exchange;
        this.#app.gateway.reportFailure({ requestId, method, error });
        connection.socket.destroy();
      });
    }
  }

  mayUpgrade(incoming: IncomingMessage): boolean {
    const { sockets } = this.#app.gateway;
    return sockets !== undefined && mayUpgrade(incoming, Connection.of(incoming.socket));
  }

  #upgrade(request: UpgradeRequest): void {
    const { incoming, socket } = request;
    const connection = Connection.of(socket);
    const { sockets } = this.#app.gateway;
    if (connection === undefined || sockets === undefined) {
      socket.destroy();
      return;
    }
    if (this.#closing !== undefined) connection.isEnding = true;
    const outgoing = new ServerResponse(incoming);
    const exchange = this.#exchangeFor(connection, { incoming, outgoing, expectation: "none" });
    exchange.route = this.#watchRouteOf(exchange.target);
    upgradeConnection(request, {
      ...{ connection, outgoing, sockets, exchange, hasTls: this.#hasTls, guard: this.#guard },
      send: (answer) => this.#send(exchange, answer, () => undefined),
      count: (status) => this.#figures.finished(exchange.route, exchange.method, status, undefined),
    }).catch((error: unknown) => {
      const { requestId, method } = exchange;
      this.#app.gateway.reportFailure({ requestId, method, error });
      socket.destroy();
    });
  }

  #exchangeFor(connection: Connection, request: QueuedRequest): NodeExchange {
    const { incoming, outgoing, expectation } = request;
    return new NodeExchange({
      host: this.#host,
      cancellation: connection.cancellation,
      incoming,
      outgoing,
      expectsContinue: expectation !== "none",
    });
  }

  #refuse(exchange: NodeExchange, refusal: RequestRefused, done: () => void): void {
    const { requestId, method } = exchange;
    this.#send(exchange, refusalAnswer(requestId, refusal, isWrite(method)), done);
  }

  /** Never throws: an answer that Node refuses to write becomes an internal error. */
  #send(exchange: NodeExchange, answer: Answer, done: () => void): void {
    try {
      exchange.send(answer, done);
    } catch (error) {
      const { requestId, method, outgoing } = exchange;
      this.#app.gateway.reportFailure({ requestId, method, error });
      if (outgoing.headersSent) {
        exchange.incoming.socket.destroy();
        done();
      } else {
        exchange.send(problemAnswer(requestId, problemOfError(error, isWrite(method))), done);
      }
    }
  }

  /**
   * Goes on to the next request, but not before a client has taken most of the last answer: a few
   * pipelined bytes could otherwise ask for a hundred megabytes to be kept in memory.
   */
  #finish(connection: Connection): void {
    const { socket } = connection;
    if (connection.waiting.length > 0 && socket.writableNeedDrain && !socket.destroyed) {
      const go = (): void => {
        socket.off("drain", go);
        socket.off("close", go);
        this.#finish(connection);
      };
      socket.on("drain", go);
      // A client that goes instead has had its answer, and is counted.
      socket.on("close", go);
      return;
    }
    // After `Connection: close` nothing more may be carried out, though it may have been received.
    const outgoing = connection.running?.outgoing;
    if (outgoing?.shouldKeepAlive === false) connection.isEnding = true;
    if (connection.running !== undefined) this.#count(connection.running);
    connection.running = undefined;
    if (!connection.isEnding) {
      const next = connection.waiting.shift();
      if (next !== undefined) this.#start(connection, next);
      return;
    }
    connection.waiting.length = 0;
    // The answer may still wait for its turn behind the one before it, or for the client to read:
    // ending the socket now would lose it, and its client would not know of a write carried out.
    const isLeaving = outgoing !== undefined && !outgoing.writableFinished && !outgoing.destroyed;
    if (isLeaving) outgoing.once("close", () => connection.endAfterRunning());
    else connection.endAfterRunning();
  }

  #count(exchange: NodeExchange): void {
    const { method, outgoing, route, startedMs, isPushed } = exchange;
    const figures = this.#figures;
    figures.inFlight--;
    const noted = route === 0 ? notedRoute(outgoing) : undefined;
    const index = noted === undefined ? route : figures.routeIndex(noted);
    const status = outgoing.headersSent ? outgoing.statusCode : 0;
    // How long somebody watched says nothing of the server.
    figures.finished(index, method, status, isPushed ? undefined : performance.now() - startedMs);
  }

  /** Called for paths of watches only, of which there are few. */
  #watchRouteOf(target: string): number {
    return this.#figures.routeIndex(splitTarget(target).path);
  }

  close(timeoutMs: number): Promise<{ readonly connectionsCut: number }> {
    this.#closing ??= this.#closeOnce(timeoutMs);
    return this.#closing;
  }

  async #closeOnce(timeoutMs: number): Promise<{ readonly connectionsCut: number }> {
    // Not `http.Server.close`: that destroys connections whose answer is not yet flushed.
    NetServer.prototype.close.call(this.#server);
    this.#http2?.endAfterRunning();
    for (const connection of this.#connections.values()) {
      if (connection.isAnswering) connection.endAfterRunning();
    }
    // A connection that seems idle may have a request on its way, or waiting in the kernel while
    // this process was busy. Closing at once would reset it, and its client would not know whether
    // a write was carried out. So it is given a moment in which that request is still answered.
    const graceMs = Math.min(this.#closeGraceMs, timeoutMs);
    await this.#emptyWithin(graceMs);
    this.#http2?.stopStreams();
    for (const connection of this.#connections.values()) {
      connection.endAfterRunning();
      connection.running?.stopStream();
    }
    await this.#emptyWithin(timeoutMs - graceMs);
    const connectionsCut = this.#connections.size + (this.#http2?.busyCount ?? 0);
    this.#http2?.cut();
    for (const { socket } of this.#connections.values()) socket.destroy();
    for (const socket of this.#rawSockets.values()) socket.destroy();
    await this.#emptyWithin(Number.POSITIVE_INFINITY);
    // Now only to stop Node's timer for slow connections; the listener is closed already.
    this.#server.close(() => undefined);
    return { connectionsCut };
  }

  get #openCount(): number {
    return this.#connections.size + (this.#http2?.connectionCount ?? 0);
  }

  #onClosed(): void {
    if (this.#openCount === 0) this.#whenEmpty?.();
  }

  #emptyWithin(timeoutMs: number): Promise<void> {
    if (this.#openCount === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = Number.isFinite(timeoutMs) ? setTimeout(resolve, timeoutMs) : undefined;
      this.#whenEmpty = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

const isHttp2 = (socket: Socket): boolean => (socket as TLSSocket).alpnProtocol === "h2";

const isWrite = (method: string): boolean => method !== "GET" && method !== "HEAD";
