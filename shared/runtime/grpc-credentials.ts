/**
 * Credentials of gRPC channels and servers: none, or mutual TLS under one authority.
 *
 * Under TLS every connection shows a certificate of the cluster's authority, on both sides, and a
 * client also checks that the server's certificate names the host that it dialled. A server has no
 * half-open door: a client without such a certificate does not get through the handshake.
 */
import { isIP } from "node:net";
import {
  checkServerIdentity,
  createSecureContext,
  type PeerCertificate,
  type SecureContextOptions,
} from "node:tls";
import {
  type CallCredentials,
  ChannelCredentials,
  type ChannelOptions,
  ServerCredentials,
} from "@grpc/grpc-js";
import { ConfigError } from "./config.ts";
import { parseHostPort } from "./config-value.ts";
import type { WatchedFiles } from "./file-watch.ts";
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

/** Credentials whose files may be replaced while they are in use. */
export type LoadedCredentials = GrpcCredentials & {
  /** The files, to be watched; undefined without TLS. */
  readonly files: WatchedFiles | undefined;
};

export function insecureCredentials(): GrpcCredentials {
  return {
    channel: ChannelCredentials.createInsecure(),
    server: ServerCredentials.createInsecure(),
  };
}

export type TlsCredentials = GrpcCredentials & {
  /**
   * Connections that are made from now on use this material; those that are open go on with what they
   * began with.
   *
   * @throws Error, with nothing changed, as `tlsCredentials` does
   */
  replace(material: TlsMaterial): void;
};

/** @throws Error when the material is no PEM, or key and certificate do not belong together */
export function tlsCredentials(material: TlsMaterial): TlsCredentials {
  const channel = new ReplaceableChannelCredentials(channelCredentials(material));
  const server = new ReplaceableServerCredentials(material);
  return {
    channel,
    server,
    replace: (next) => {
      // Made first, since it checks the material: the server would only find out when it is dialled.
      const credentials = channelCredentials(next);
      server.replace(next);
      channel.replace(credentials);
    },
  };
}

function channelCredentials({ ca, cert, key }: TlsMaterial): ChannelCredentials {
  // The same check as of a server, whose context is made from the same three.
  createSecureContext({ ca, cert, key });
  return ChannelCredentials.createSsl(ca, key, cert, { checkServerIdentity: checkServer });
}

/**
 * grpc-js asks its credentials for a connector once for each subchannel, which connects again and again.
 * So the connector here asks for the credentials of the day with every connection. (grpc-js has providers of
 * certificates for this, as an experiment; they load late, and a server drops connections until they have.)
 */
class ReplaceableChannelCredentials extends ChannelCredentials {
  #current: ChannelCredentials;

  constructor(first: ChannelCredentials) {
    super();
    this.#current = first;
  }

  replace(next: ChannelCredentials): void {
    this.#current = next;
  }

  _isSecure(): boolean {
    return true;
  }

  _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  _createSecureConnector(...options: ConnectorOptions): ReturnType<MakeConnector> {
    const first = this.#current._createSecureConnector(...options);
    return {
      connect: (socket) => this.#current._createSecureConnector(...options).connect(socket),
      waitForReady: () => first.waitForReady(),
      getCallCredentials: (): CallCredentials => first.getCallCredentials(),
      destroy: () => first.destroy(),
    };
  }
}

type MakeConnector = ChannelCredentials["_createSecureConnector"];
type ConnectorOptions = Parameters<MakeConnector>;

/**
 * `requestCert` without `rejectUnauthorized: false`: who shows no certificate of the authority does not get
 * through the handshake. Both belong to the listener and outlive every replacement. New material also
 * brings new session keys, so that nobody resumes a session that an authority of old has vouched for.
 */
class ReplaceableServerCredentials extends ServerCredentials {
  constructor(first: TlsMaterial) {
    super({ requestCert: true, rejectUnauthorized: true }, contextOf(first));
  }

  replace(next: TlsMaterial): void {
    this.updateSecureContextOptions(contextOf(next));
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

const contextOf = ({ ca, cert, key }: TlsMaterial): SecureContextOptions => ({
  ca,
  cert,
  key,
  minVersion: "TLSv1.2",
});

/**
 * The credentials that a program's settings ask for.
 * @throws ConfigError when a file cannot be read or used
 */
export function loadCredentials(
  settings: TlsPaths,
  readFile: (path: string) => Buffer,
): LoadedCredentials {
  if (!hasTls(settings)) return { ...insecureCredentials(), files: undefined };
  const read = (flag: string, path: string): Buffer => {
    try {
      return readFile(path);
    } catch (cause) {
      throw new ConfigError(`${flag}: cannot read ${path}: ${reasonOf(cause)}`, { cause });
    }
  };
  const ca = read("--tls-ca", settings.tlsCa);
  const cert = read("--tls-cert", settings.tlsCert);
  const key = read("--tls-key", settings.tlsKey);
  const paths = [settings.tlsCa, settings.tlsCert, settings.tlsKey];
  try {
    const { channel, server, replace } = tlsCredentials({ ca, cert, key });
    const files: WatchedFiles = {
      name: "TLS between nodes",
      paths,
      current: [ca, cert, key],
      apply: (next) => replace({ ca: next[0]!, cert: next[1]!, key: next[2]! }),
    };
    return { channel, server, files };
  } catch (cause) {
    throw new ConfigError(`TLS cannot use ${paths.join(", ")}: ${reasonOf(cause)}`, { cause });
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
