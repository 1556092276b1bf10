/**
 * Dials NATS: the one module that knows its client library.
 *
 * The library's own reconnecting is off. It queues without bound while there is no connection, gives up after
 * two refused log-ins, and says nothing about its first attempts; `bus.ts` does all of that. Each connection
 * reads its credentials and certificates anew, so that files may be replaced while the program runs.
 */
import { connect as connectSocket } from "node:net";
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  type NatsConnection,
  nkeyAuthenticator,
  type TlsOptions,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import {
  BUS_CONNECT_TIMEOUT_MS,
  BUS_MESSAGE_BYTES_MAX,
  BUS_SECRET_BYTES_MAX,
} from "#shared/limits.ts";
import type { BusDial, BusLink, BusLinkEvents } from "./bus.ts";
import { ConfigError } from "./config.ts";
import { type HostPort, parseHostPort } from "./config-value.ts";
import type { NatsConfig } from "./nats-settings.ts";
import { readSecretFile } from "./secret-file.ts";

/** Far beyond `bus.ts`, which asks by itself: the library waits for a hung socket when it gives up. */
const LIBRARY_PING_INTERVAL_MS = 24 * 3600 * 1000;

export type NatsDialOptions = {
  readonly config: NatsConfig;
  readonly tls: boolean;
  /** What the server's monitoring shows. */
  readonly name: string;
  readonly connectTimeoutMs?: number;
};

/** @throws ConfigError when credentials cannot be read or used; it repeats nothing secret */
export function natsDial(options: NatsDialOptions): BusDial {
  const { config, tls, name } = options;
  const timeoutMs = options.connectTimeoutMs ?? BUS_CONNECT_TIMEOUT_MS;
  // Once at the start, when somebody reads the message.
  authenticatorOf(config);
  return async (server, events) => {
    const address = parseHostPort(server, 1);
    if (address === undefined) throw new Error(`${server} is no host:port`);
    const authenticator = authenticatorOf(config);
    await greets(address, timeoutMs);
    const connection = await connect({
      servers: [server],
      name,
      tls: tls ? tlsOf(config, address) : null,
      ...(authenticator === undefined ? {} : { authenticator }),
      timeout: timeoutMs,
      reconnect: false,
      ignoreClusterUpdates: true,
      noAsyncTraces: true,
      pingInterval: LIBRARY_PING_INTERVAL_MS,
    });
    return new NatsLink(connection, events);
  };
}

/**
 * Whether somebody there greets as a NATS server does. A server that takes connections and says nothing, as
 * one that is stopped, would cost a socket for each attempt: the library leaves it open.
 */
function greets({ host, port }: HostPort, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ host, port });
    const end = (error?: Error): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on("error", () => undefined);
      socket.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    const timer = setTimeout(() => end(new Error("the server does not answer")), timeoutMs);
    socket.on("error", (error: NodeJS.ErrnoException) => end(new Error(whyNot(error))));
    socket.on("close", () => end(new Error("the server closes the connection")));
    socket.on("data", (bytes: Buffer) => {
      const isNats = bytes.toString("latin1", 0, 5) === "INFO ";
      end(isNats ? undefined : new Error("what answers there is no NATS server"));
    });
  });
}

/** Without the addresses, which differ between attempts. */
function whyNot(error: NodeJS.ErrnoException): string {
  const { code } = error;
  if (code === "ECONNREFUSED") return "connection refused";
  return code ?? error.message;
}

/**
 * With the host that is dialled, for the check of the server's certificate. Where it is an IP address the
 * library gives TLS no name at all, and the certificate would be held against "localhost".
 */
function tlsOf(config: NatsConfig, { host }: HostPort): TlsOptions {
  const { natsTlsCa, natsTlsCert, natsTlsKey } = config;
  const options = {
    host,
    minVersion: "TLSv1.2",
    ...(natsTlsCa === "" ? {} : { caFile: natsTlsCa }),
    ...(natsTlsCert === "" ? {} : { certFile: natsTlsCert, keyFile: natsTlsKey }),
  };
  return options;
}

function authenticatorOf(config: NatsConfig): Authenticator | undefined {
  const { natsUser, natsPassword, natsPasswordFile, natsToken, natsTokenFile } = config;
  const { natsNkeyFile, natsCredsFile } = config;
  if (natsUser !== "") {
    const password =
      natsPasswordFile === "" ? natsPassword : line("nats-password-file", natsPasswordFile);
    return usernamePasswordAuthenticator(natsUser, password);
  }
  if (natsToken !== "") return tokenAuthenticator(natsToken);
  if (natsTokenFile !== "") return tokenAuthenticator(line("nats-token-file", natsTokenFile));
  if (natsNkeyFile !== "") {
    const seed = Buffer.from(line("nats-nkey-file", natsNkeyFile));
    return tried("nats-nkey-file", natsNkeyFile, nkeyAuthenticator(seed));
  }
  if (natsCredsFile !== "") {
    const creds = secret("nats-creds-file", natsCredsFile);
    return tried("nats-creds-file", natsCredsFile, credsAuthenticator(creds));
  }
  return undefined;
}

function secret(key: string, path: string): Buffer {
  try {
    return readSecretFile(path, BUS_SECRET_BYTES_MAX);
  } catch (error) {
    throw new ConfigError(
      `${key} ${path}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** The first line, without the space around it. */
function line(key: string, path: string): string {
  const [first = ""] = secret(key, path).toString("utf8").trim().split(/\r?\n/, 1);
  if (first === "") throw new ConfigError(`${key} ${path}: it is empty`);
  return first;
}

/** The library finds out only when a server asks. */
function tried(key: string, path: string, authenticator: Authenticator): Authenticator {
  try {
    authenticator("nonce");
  } catch {
    throw new ConfigError(`${key} ${path}: what is in it is of no use as credentials`);
  }
  return authenticator;
}

class NatsLink implements BusLink {
  readonly #connection: NatsConnection;
  readonly ended: Promise<string>;

  constructor(connection: NatsConnection, events: BusLinkEvents) {
    this.#connection = connection;
    this.ended = connection.closed().then((error) => endOf(error ?? undefined));
    void this.#tell(events);
  }

  /**
   * As the server said last: it may be told another bound while it runs. The library throws at a message beyond it,
   * which would end a process for what a server says.
   */
  get payloadBytesMax(): number {
    return Math.min(BUS_MESSAGE_BYTES_MAX, this.#connection.info?.max_payload ?? 0);
  }

  async #tell({ onRefused }: BusLinkEvents): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type === "error" && status.error.name === "PermissionViolationError") {
        onRefused(status.error.message);
      }
    }
  }

  publish(subject: string, payload: Uint8Array): void {
    // Between its end and the news of it the library throws.
    if (!this.#connection.isClosed()) this.#connection.publish(subject, payload);
  }

  flush(): Promise<void> {
    return this.#connection.flush();
  }

  subscribe(subject: string, handler: (payload: Uint8Array) => void): () => void {
    if (this.#connection.isClosed()) return () => undefined;
    const subscription = this.#connection.subscribe(subject, {
      callback: (error, message) => {
        // Not permitted, which the status tells.
        if (error === null) run(handler, message.data);
      },
    });
    return () => {
      if (!this.#connection.isClosed()) subscription.unsubscribe();
    };
  }

  close(): void {
    void this.#connection.close().catch(() => undefined);
  }
}

/**
 * The library reads no further on a connection whose handler threw, and tells nobody. A handler that throws
 * is a bug, and is to end the process as any other does.
 */
function run(handler: (payload: Uint8Array) => void, payload: Uint8Array): void {
  try {
    handler(payload);
  } catch (error) {
    setImmediate(() => {
      throw error;
    });
  }
}

const endOf = (error: Error | undefined): string => error?.message ?? "the connection was closed";
