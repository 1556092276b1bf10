/** The server of Node below the listener, with its bounds: sizes, numbers and times. */
import { createServer, type IncomingMessage, type Server, type ServerOptions } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import {
  HTTP_CLOSE_GRACE_MS,
  HTTP_CONNECTIONS_CHECK_INTERVAL_MS,
  HTTP_CONNECTIONS_MAX,
  HTTP_HEADERS_SIZE_BYTES_MAX,
  HTTP_HEADERS_TIMEOUT_MS,
  HTTP_KEEP_ALIVE_TIMEOUT_MS,
  HTTP_LINGER_TIMEOUT_MS,
  HTTP_REQUEST_TIMEOUT_MS,
  HTTP_SOCKET_STALL_TIMEOUT_MS,
  TLS_HANDSHAKE_TIMEOUT_MS,
} from "#shared/limits.ts";
import { type HttpsMaterial, serverOptionsOf } from "./https.ts";

/** Bounds that tests shorten; the defaults are those of `shared/limits.ts`. */
export type HttpServerLimits = {
  readonly headersTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly checkIntervalMs: number;
  readonly lingerTimeoutMs: number;
  readonly closeGraceMs: number;
  readonly connectionsMax: number;
  readonly handshakeTimeoutMs: number;
};

export const DEFAULT_LIMITS: HttpServerLimits = {
  headersTimeoutMs: HTTP_HEADERS_TIMEOUT_MS,
  requestTimeoutMs: HTTP_REQUEST_TIMEOUT_MS,
  keepAliveTimeoutMs: HTTP_KEEP_ALIVE_TIMEOUT_MS,
  stallTimeoutMs: HTTP_SOCKET_STALL_TIMEOUT_MS,
  checkIntervalMs: HTTP_CONNECTIONS_CHECK_INTERVAL_MS,
  lingerTimeoutMs: HTTP_LINGER_TIMEOUT_MS,
  closeGraceMs: HTTP_CLOSE_GRACE_MS,
  connectionsMax: HTTP_CONNECTIONS_MAX,
  handshakeTimeoutMs: TLS_HANDSHAKE_TIMEOUT_MS,
};

export type NodeServerOptions = {
  readonly tls: HttpsMaterial | undefined;
  readonly hasHttp2: boolean;
  /** Whether a request that asks to be no more HTTP gets its way. */
  readonly mayUpgrade: (incoming: IncomingMessage) => boolean;
};

/** Not listening yet. */
export function createNodeServer(limits: HttpServerLimits, options: NodeServerOptions): Server {
  const { tls } = options;
  const server =
    tls === undefined
      ? createServer(nodeOptions(limits, options))
      : createTls(limits, tls, options);
  server.maxConnections = limits.connectionsMax;
  // Node drops headers beyond a count without a word, which could be the condition of a write.
  // Their size is bounded, which bounds their number.
  server.maxHeadersCount = 0;
  server.timeout = limits.stallTimeoutMs;
  return server;
}

function nodeOptions(limits: HttpServerLimits, { mayUpgrade }: NodeServerOptions): ServerOptions {
  return {
    // Whatever else asks for an upgrade (h2c, of curl) is a request like any other.
    shouldUpgradeCallback: mayUpgrade,
    maxHeaderSize: HTTP_HEADERS_SIZE_BYTES_MAX,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    // Else the second of two `Authorization` headers is dropped without a word, and a proxy in front may
    // have looked at that one. Joined they are no credentials.
    joinDuplicateHeaders: true,
    // Checked in `#refusalOf`, whose answer has a body that says what is wrong.
    requireHostHeader: false,
  };
}

/** A server of node:https is one of node:http in all but its types. */
const createTls = (
  limits: HttpServerLimits,
  tls: HttpsMaterial,
  options: NodeServerOptions,
): Server =>
  createHttpsServer({
    ...nodeOptions(limits, options),
    ...serverOptionsOf(tls, {
      hasHttp2: options.hasHttp2,
      handshakeTimeoutMs: limits.handshakeTimeoutMs,
    }),
  }) as unknown as Server;
