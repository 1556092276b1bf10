/**
 * Credentials of gRPC channels and servers: none, or mutual TLS under one authority.
 *
 * Under TLS every connection shows a certificate of the cluster's authority, on both sides, and a
 * client also checks that the server's certificate names the host that it dialled. A server has no
 * half-open door: a client without such a certificate does not get through the handshake.
 */
import { isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import { ChannelCredentials, type ChannelOptions, ServerCredentials } from "@grpc/grpc-js";
import { ConfigError } from "./config.ts";
import { parseHostPort } from "./config-value.ts";
import { hasTls, type TlsPaths } from "./tls-settings.ts";

/** PEM. */
export type TlsMaterial = {
  /** The authority that signs the certificates of all peers. */
  readonly ca: Buffer;
  /** The own certificate, and the ones between it and the authority. */
  readonly cert: Buffer;
  readonly key: Buffer;
};

export type GrpcCredentials = {
  readonly channel: ChannelCredentials;
  readonly server: ServerCredentials;
};

export function insecureCredentials(): GrpcCredentials {
  return {
    channel: ChannelCredentials.createInsecure(),
    server: ServerCredentials.createInsecure(),
  };
}

/** @throws Error when the material is no PEM, or key and certificate do not belong together */
export function tlsCredentials({ ca, cert, key }: TlsMaterial): GrpcCredentials {
  return {
    channel: ChannelCredentials.createSsl(ca, key, cert, { checkServerIdentity: checkServer }),
    server: ServerCredentials.createSsl(ca, [{ private_key: key, cert_chain: cert }], true),
  };
}

/**
 * The credentials that a program's settings ask for.
 * @throws ConfigError when a file cannot be read or used
 */
export function loadCredentials(
  paths: TlsPaths,
  readFile: (path: string) => Buffer,
): GrpcCredentials {
  if (!hasTls(paths)) return insecureCredentials();
  const read = (flag: string, path: string): Buffer => {
    try {
      return readFile(path);
    } catch (cause) {
      throw new ConfigError(`${flag}: cannot read ${path}: ${reasonOf(cause)}`, { cause });
    }
  };
  const ca = read("--tls-ca", paths.tlsCa);
  const cert = read("--tls-cert", paths.tlsCert);
  const key = read("--tls-key", paths.tlsKey);
  try {
    return tlsCredentials({ ca, cert, key });
  } catch (cause) {
    const files = [paths.tlsCa, paths.tlsCert, paths.tlsKey].join(", ");
    throw new ConfigError(`TLS cannot use ${files}: ${reasonOf(cause)}`, { cause });
  }
}

/** Reserved: no name below it exists (RFC 6761). */
const ADDRESS_DOMAIN = ".address.invalid";

/**
 * grpc-js names the host that it dials in the handshake, also when it is an IP address, which TLS
 * forbids and Node 26 refuses. It is given a name that spells the address instead; the certificate is
 * still checked against the address itself, by `checkServer`.
 */
export function serverNameOf(address: string): ChannelOptions {
  const host = parseHostPort(address, 0)?.host ?? "";
  if (isIP(host) === 0) return {};
  const spelled = Buffer.from(host).toString("hex");
  return { "grpc.ssl_target_name_override": spelled + ADDRESS_DOMAIN };
}

function checkServer(name: string, certificate: PeerCertificate): Error | undefined {
  if (!name.endsWith(ADDRESS_DOMAIN)) return checkServerIdentity(name, certificate);
  const host = Buffer.from(name.slice(0, -ADDRESS_DOMAIN.length), "hex").toString();
  return checkServerIdentity(host, certificate);
}

const reasonOf = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);
