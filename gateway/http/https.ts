/**
 * The certificate of the HTTP listener: read at the start, and again when its files change.
 *
 * TLS 1.2 is the least. What ciphers and curves there are is left to Node, whose lists are kept by people
 * who watch what breaks. Clients choose between HTTP/2 and HTTP/1.1 in the handshake, by ALPN.
 */
import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { TLS_HANDSHAKE_TIMEOUT_MS } from "#shared/limits.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import type { WatchedFiles } from "#shared/runtime/file-watch.ts";
import { type HttpsPaths, hasHttps } from "./settings.ts";

/** PEM. */
export type HttpsMaterial = {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** The authority whose certificates clients must show; undefined asks them for none. */
  readonly clientCa: Buffer | undefined;
};

/** What a listener can take over while it runs. Whether it asks clients for certificates is fixed. */
export const contextOf = ({ cert, key, clientCa }: HttpsMaterial): SecureContextOptions => ({
  cert,
  key,
  ca: clientCa,
  minVersion: "TLSv1.2",
});

type ServerTlsOptions = { readonly hasHttp2: boolean; readonly handshakeTimeoutMs?: number };

/** For `createServer` of node:https. */
export const serverOptionsOf = (
  material: HttpsMaterial,
  { hasHttp2, handshakeTimeoutMs = TLS_HANDSHAKE_TIMEOUT_MS }: ServerTlsOptions,
) => ({
  ...contextOf(material),
  requestCert: material.clientCa !== undefined,
  // A client without a certificate of the authority does not get through the handshake.
  rejectUnauthorized: material.clientCa !== undefined,
  // Of the whole handshake, however slowly its bytes trickle in.
  handshakeTimeout: handshakeTimeoutMs,
  ALPNProtocols: hasHttp2 ? ["h2", "http/1.1"] : ["http/1.1"],
});

/** @throws Error when the material cannot be used; the listener would only say so to its clients */
export function checkHttpsMaterial(material: HttpsMaterial): void {
  createSecureContext(contextOf(material));
}

export type LoadedHttps = {
  readonly material: HttpsMaterial;
  /** The files, to be watched: `take` gets what has replaced them. */
  watched(take: (material: HttpsMaterial) => void): WatchedFiles;
};

/**
 * Undefined without HTTPS.
 * @throws ConfigError when a file cannot be read or used
 */
export function loadHttps(
  paths: HttpsPaths,
  readFile: (path: string) => Buffer,
): LoadedHttps | undefined {
  if (!hasHttps(paths)) return undefined;
  const { httpsCert, httpsKey, httpsClientCa } = paths;
  const files: readonly (readonly [flag: string, path: string])[] = [
    ["--https-cert", httpsCert],
    ["--https-key", httpsKey],
    ...(httpsClientCa === "" ? [] : ([["--https-client-ca", httpsClientCa]] as const)),
  ];
  const current = files.map(([flag, path]) => {
    try {
      return readFile(path);
    } catch (cause) {
      throw new ConfigError(`${flag}: cannot read ${path}: ${reasonOf(cause)}`, { cause });
    }
  });
  const names = files.map(([, path]) => path);
  const material = materialOf(current);
  try {
    checkHttpsMaterial(material);
  } catch (cause) {
    throw new ConfigError(`HTTPS cannot use ${names.join(", ")}: ${reasonOf(cause)}`, { cause });
  }
  return {
    material,
    watched: (take) => ({
      name: "HTTPS certificate",
      paths: names,
      current,
      apply: (contents) => {
        const next = materialOf(contents);
        checkHttpsMaterial(next);
        take(next);
      },
    }),
  };
}

const materialOf = (contents: readonly Buffer[]): HttpsMaterial => ({
  cert: contents[0]!,
  key: contents[1]!,
  clientCa: contents[2],
});

/** Until when the first certificate of a chain is valid, for the log. */
export const validUntil = ({ cert }: HttpsMaterial): string =>
  new X509Certificate(cert).validToDate.toISOString();

const reasonOf = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);

const PLAIN_HTTP_ANSWER = "this port speaks HTTPS: use https:// in the URL\n";

/**
 * Answers one who speaks plain HTTP to the port, in plain HTTP. Node keeps the socket below TLS under a name
 * of its own; where that is gone, the connection closes without a word.
 */
export function answerPlainHttp(socket: Socket): void {
  const { _parent: raw } = socket as { readonly _parent?: Socket };
  if (raw?.writable !== true) {
    socket.destroy();
    return;
  }
  raw.write(
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n" +
      `Content-Length: ${PLAIN_HTTP_ANSWER.length}\r\n\r\n${PLAIN_HTTP_ANSWER}`,
  );
  raw.destroySoon();
}
