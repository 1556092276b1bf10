/**
 * A small HTTP listener beside a program's main one: for scrapers, probes of orchestrators, and an
 * operator on the machine. It asks for no credentials, so it belongs on this machine or a trusted network
 * (`refuseExposedProbe`), and on this machine tells no web page that points its own name here.
 *
 * All is bounded: connections, head, body, time. A route is a path without parameters; what it does not
 * have is 404, other methods are 405. Answers are never kept by a cache.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createSecureContext } from "node:tls";
import {
  PROBE_BODY_SIZE_BYTES_MAX,
  PROBE_CONNECTIONS_MAX,
  PROBE_HEADERS_SIZE_BYTES_MAX,
  PROBE_TIMEOUT_MS,
} from "#shared/limits-telemetry.ts";
import { formatHostPort, type HostPort } from "./config-value.ts";
import { listenFailure } from "./listen-advice.ts";
import { NOT_THIS_MACHINE, type OwnMachineOnly, ownMachineOnly } from "./own-machine.ts";

export type ProbeAnswer = {
  readonly status: number;
  /** Default: application/json. */
  readonly contentType?: string;
  readonly body: string;
};

export type ProbeRequest = {
  readonly header: (name: string) => string | undefined;
  /** Of the connection's other end. */
  readonly peerAddress: string;
  readonly body: string;
};

export type ProbeRoute = {
  readonly method: "GET" | "PUT";
  readonly path: string;
  readonly run: (request: ProbeRequest) => ProbeAnswer | Promise<ProbeAnswer>;
};

export type ProbeTls = { readonly cert: Buffer; readonly key: Buffer };

export type ProbeServer = {
  readonly url: string;
  replaceTls(tls: ProbeTls): void;
  /** Cuts what is under way: who asks comes again. */
  close(): Promise<void>;
};

export type ProbeServerOptions = {
  readonly listen: HostPort;
  /** The setting that names it, for who has to change it. */
  readonly flag: string;
  readonly routes: readonly ProbeRoute[];
  readonly tls?: ProbeTls | undefined;
  /** A route has thrown. */
  readonly onFailure: (error: unknown) => void;
};

const json = (status: number, value: unknown): ProbeAnswer => ({
  status,
  body: `${JSON.stringify(value)}\n`,
});

export const jsonProbe = json;

/** Listens, and resolves once requests are taken. Rejects when the address cannot be had. */
export async function startProbeServer(options: ProbeServerOptions): Promise<ProbeServer> {
  const { listen, flag, tls } = options;
  const limits = {
    maxHeaderSize: PROBE_HEADERS_SIZE_BYTES_MAX,
    headersTimeout: PROBE_TIMEOUT_MS,
    requestTimeout: PROBE_TIMEOUT_MS,
    keepAliveTimeout: PROBE_TIMEOUT_MS,
    connectionsCheckingInterval: PROBE_TIMEOUT_MS / 2,
  };
  const guard = ownMachineOnly(listen, { isOpen: true, hasTls: tls !== undefined });
  const answer: RequestListener = (incoming, outgoing) => {
    void answerTo(incoming, options, guard).then(({ status, contentType, body }) => {
      outgoing.writeHead(status, {
        "Content-Type": contentType ?? "application/json",
        "Content-Length": Buffer.byteLength(body),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        // What is left of a body is not read.
        ...(incoming.complete ? {} : { Connection: "close" }),
      });
      outgoing.end(incoming.method === "HEAD" ? undefined : body);
    });
  };
  const secure = { ...limits, ...tls, minVersion: "TLSv1.2", handshakeTimeout: PROBE_TIMEOUT_MS };
  const server: Server =
    tls === undefined
      ? createServer(limits, answer)
      : (createHttpsServer({ ...secure, minVersion: "TLSv1.2" }, answer) as unknown as Server);
  server.maxConnections = PROBE_CONNECTIONS_MAX;
  server.timeout = PROBE_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error) => reject(listenFailure(flag, error));
    server.once("error", onError);
    server.listen({ host: listen.host, port: listen.port }, () => {
      server.off("error", onError);
      resolve();
    });
  });
  const { address, port } = server.address() as AddressInfo;
  const scheme = tls === undefined ? "http" : "https";
  return {
    url: `${scheme}://${formatHostPort({ host: address, port })}`,
    replaceTls: (next) => {
      createSecureContext(next);
      (server as unknown as { setSecureContext(tls: ProbeTls): void }).setSecureContext(next);
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answerTo(
  incoming: IncomingMessage,
  { routes, onFailure }: ProbeServerOptions,
  guard: OwnMachineOnly | undefined,
): Promise<ProbeAnswer> {
  if (guard?.refuses(incoming.headers.host)) return json(403, { error: NOT_THIS_MACHINE });
  const path = (incoming.url ?? "/").split("?", 1)[0]!;
  const ofPath = routes.filter((route) => route.path === path);
  if (ofPath.length === 0) return json(404, { error: "nothing is at this path" });
  const method = incoming.method === "HEAD" ? "GET" : incoming.method;
  const route = ofPath.find((candidate) => candidate.method === method);
  if (route === undefined) return json(405, { error: "this path does not take the method" });
  try {
    const body = await bodyOf(incoming);
    if (body === undefined) return json(413, { error: "the body is too large" });
    return await route.run({
      header: (name) => {
        const value = incoming.headers[name];
        return Array.isArray(value) ? value.join(", ") : value;
      },
      peerAddress: incoming.socket.remoteAddress ?? "",
      body,
    });
  } catch (error) {
    // Whoever goes in the middle of his body is no failure of ours, and must not fill the log.
    if (incoming.complete) onFailure(error);
    return json(500, { error: "this could not be answered" });
  }
}

/** Undefined when it is larger than it may be. */
async function bodyOf(incoming: IncomingMessage): Promise<string | undefined> {
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    sizeBytes += piece.length;
    if (sizeBytes > PROBE_BODY_SIZE_BYTES_MAX) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}
