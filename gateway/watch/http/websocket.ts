/**
 * Watches over WebSocket (RFC 6455): the handshake, what a client may say (nothing), pings, and close codes.
 *
 * The hub hands over whole frames, shared by all clients that get the same. They go straight to the socket; so
 * do the frames of the library (pings, pongs, close), each of which it writes in one turn, because nothing is
 * compressed. Both write whole frames, so frames never mix.
 *
 * What a client can cost is bounded: no message of it is taken, the largest frame is 125 bytes, its pings are
 * counted and answered only as far as it takes the answers, and one that does not answer a ping, or sends more
 * than answers need, is cut.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Cors } from "#gateway/http/cors.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import type { Clock } from "#shared/clock.ts";
import {
  WATCH_CLIENT_BYTES_PER_PING_MAX,
  WATCH_CLIENT_PINGS_MAX,
  WATCH_CLOSE_TIMEOUT_MS,
  WATCH_MESSAGE_SIZE_BYTES_MAX,
  WATCH_PING_INTERVAL_MS,
  WATCH_PING_PARTS,
} from "#shared/limits-watch-http.ts";
import type { OpenWatch, WatchRoutes } from "./watch-routes.ts";
import type { SessionEnd } from "./watch-session.ts";
import { mayOpenSocket } from "./web-origin.ts";

/** What a client may name in `Sec-WebSocket-Protocol`; it may also name none. */
export const WEBSOCKET_PROTOCOL = "minikv.watch.v1";

/** As Node hands it over. */
export type UpgradeRequest = {
  readonly incoming: IncomingMessage;
  readonly socket: Socket;
  readonly head: Buffer;
};

/** What a connection is from then on. */
export type Upgraded = {
  /** The server stops. */
  readonly stop: () => void;
};

export type WatchSocketsOptions = {
  readonly routes: Pick<WatchRoutes, "openFor">;
  readonly clock: Clock;
  readonly cors: Cors;
  /** Nobody is authenticated. */
  readonly isOpen: boolean;
};

const CLOSE: Readonly<Record<SessionEnd, readonly [code: number, reason: string]>> = {
  drain: [1001, "the gateway stops"],
  revoke: [1008, "the credentials are not taken any more"],
  busy: [1013, "try again"],
};
/** A token of HTTP (RFC 9110, 5.6.2). */
const PROTOCOL = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Of 16 bytes. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** Whether a request asks for WebSocket, well or badly; any other goes the way of all requests. */
export const asksForWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === "GET" &&
  headers.upgrade?.toLowerCase() === "websocket" &&
  // It would be taken for frames.
  headers["transfer-encoding"] === undefined &&
  (headers["content-length"] ?? "0") === "0";

export class WatchSockets {
  readonly #options: WatchSocketsOptions;
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: WATCH_MESSAGE_SIZE_BYTES_MAX,
    closeTimeout: WATCH_CLOSE_TIMEOUT_MS,
    maxPendingAutoPongs: 4,
    handleProtocols: (names: Set<string>) =>
      names.has(WEBSOCKET_PROTOCOL) ? WEBSOCKET_PROTOCOL : false,
  } as ConstructorParameters<typeof WebSocketServer>[0]);
  /** Pinged one after the other. */
  readonly #parts: readonly Set<WatchSocket>[] = Array.from(
    { length: WATCH_PING_PARTS },
    () => new Set<WatchSocket>(),
  );
  #opened = 0;
  #count = 0;
  #part = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(options: WatchSocketsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#count;
  }

  /**
   * Makes the connection one of WebSocket, and says so to `taken`. Else the answer to be sent before it closes;
   * undefined when its client has gone.
   */
  upgrade(
    exchange: Exchange,
    request: UpgradeRequest,
    taken: (upgraded: Upgraded) => void,
    hasTls: boolean,
  ): Promise<Answer | undefined> {
    const { routes, cors, isOpen } = this.#options;
    const { incoming } = request;
    return routes.openFor(exchange, "ws", {
      before: () => {
        refuseHandshake(incoming);
        const { origin, host } = incoming.headers;
        if (mayOpenSocket(origin, host, { cors, isOpen, hasTls })) return;
        throw new RequestRefused("FORBIDDEN", "pages of this origin may not open a WebSocket here");
      },
      take: (watch) => {
        this.#take(watch, request, taken);
        return undefined;
      },
    });
  }

  #take(
    { session }: OpenWatch,
    { incoming, socket, head }: UpgradeRequest,
    taken: (upgraded: Upgraded) => void,
  ): void {
    if (!socket.readable || !socket.writable) {
      session.close();
      socket.destroy();
      return;
    }
    let isTaken = false;
    this.#server.handleUpgrade(incoming, socket as Duplex, head, (ws) => {
      isTaken = true;
      taken({ stop: () => session.finish({ kind: "drain" }) });
      const part = this.#parts[this.#opened++ % WATCH_PING_PARTS]!;
      const connection = new WatchSocket(ws, socket);
      part.add(connection);
      this.#count++;
      this.#cancelTimer ??= this.#timer();
      socket.on("drain", () => session.drained());
      ws.on("close", () => {
        part.delete(connection);
        this.#count--;
        if (this.#count === 0) {
          this.#cancelTimer?.();
          this.#cancelTimer = undefined;
        }
        session.close();
      });
      session.attach({
        // Behind a close frame nothing may follow (RFC 6455, 5.5.1).
        write: (bytes) => ws.readyState !== ws.OPEN || socket.write(bytes),
        end: (why) => ws.close(...CLOSE[why]),
      });
    });
    // What the library finds wrong it answers by itself, and tells nobody.
    if (!isTaken) session.close();
  }

  #timer(): () => void {
    return this.#options.clock.after(WATCH_PING_INTERVAL_MS / WATCH_PING_PARTS, () => {
      this.#part = (this.#part + 1) % WATCH_PING_PARTS;
      this.#cancelTimer = this.#timer();
      for (const connection of this.#parts[this.#part]!) connection.ping();
    });
  }
}

class WatchSocket {
  readonly #ws: WebSocket;
  readonly #socket: Pick<Socket, "bytesRead">;
  #isAlive = true;
  #pings = 0;
  #readBytes: number;

  constructor(ws: WebSocket, socket: Pick<Socket, "bytesRead">) {
    this.#ws = ws;
    this.#socket = socket;
    this.#readBytes = socket.bytesRead;
    ws.on("pong", () => {
      this.#isAlive = true;
    });
    ws.on("ping", () => {
      if (++this.#pings > WATCH_CLIENT_PINGS_MAX) ws.close(1008, "too many pings");
    });
    ws.on("message", (_data, isBinary) => {
      if (isBinary) ws.close(1003, "a watch takes no messages");
      else ws.close(1008, "a watch takes no messages");
    });
    // The library closes with the code that fits (1002, 1007, 1009) by itself.
    ws.on("error", () => undefined);
  }

  ping(): void {
    const { bytesRead } = this.#socket;
    // Pongs that nobody asked for, and fragments of nothing, are no message, and cost reading all the same.
    const isFlood = bytesRead - this.#readBytes > WATCH_CLIENT_BYTES_PER_PING_MAX;
    if (!this.#isAlive || isFlood) {
      this.#ws.terminate();
      return;
    }
    this.#readBytes = bytesRead;
    this.#isAlive = false;
    this.#pings = 0;
    if (this.#ws.readyState === this.#ws.OPEN) this.#ws.ping();
  }
}

/** @throws RequestRefused UPGRADE_REQUIRED, INVALID_ARGUMENT unless the handshake is right (RFC 6455, 4.2.1) */
function refuseHandshake({ headers, httpVersion }: IncomingMessage): void {
  const isRight =
    httpVersion === "1.1" &&
    headers["sec-websocket-version"] === "13" &&
    KEY.test(headers["sec-websocket-key"] ?? "");
  if (!isRight) {
    throw new RequestRefused("UPGRADE_REQUIRED", "this path takes version 13 of WebSocket", {
      headers: [...["Upgrade", "websocket"], ...["Sec-WebSocket-Version", "13"]],
    });
  }
  const protocols = headers["sec-websocket-protocol"];
  if (protocols !== undefined && !areProtocols(protocols)) {
    throw malformed("Sec-WebSocket-Protocol must name protocols, each once");
  }
}

/** Names in several headers were joined with commas. */
function areProtocols(text: string): boolean {
  const names = text.split(",").map((name) => name.trim());
  return names.every((name) => PROTOCOL.test(name)) && new Set(names).size === names.length;
}
