/**
 * The address under which others reach a storage node: a TCP proxy in front of its listener, which knows
 * who dials (`socket-owner.ts`) and applies the rules of the two links of each connection.
 *
 * A connection that begins while either direction is silent is taken, as the system would do for a
 * listener behind a dead link only in part, and leads nowhere until the link is well: whoever dialled
 * hears nothing.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { Pipe } from "./pipe.ts";
import { FREE, type LinkRule, type LinkRules, linkName } from "./rules.ts";
import { ownerOf } from "./socket-owner.ts";

const HOST = "127.0.0.1";
/** The socket of whoever dials may show itself a moment later. */
const OWNER_ATTEMPTS_MAX = 5;
const OWNER_RETRY_MS = 3;

export const UNKNOWN_SOURCE = "unknown";

/** What all proxies share. */
export type ProxyContext = {
  /** Replaced as a whole when rules change. */
  rules: LinkRules;
  /** Names by process id. */
  readonly processes: Map<number, string>;
  unknownSources: number;
};

class Connection {
  readonly source: string;
  readonly #target: string;
  readonly #port: () => number | undefined;
  readonly #context: ProxyContext;
  readonly #client: Socket;
  #upstream: Socket | undefined;
  #pipes: readonly Pipe[] = [];

  constructor(source: string, proxy: NodeProxy, client: Socket) {
    this.source = source;
    this.#target = proxy.node;
    this.#port = () => proxy.targetPort;
    this.#context = proxy.context;
    this.#client = client;
    this.refresh();
  }

  #rule(from: string, to: string): LinkRule {
    return this.#context.rules.get(linkName(from, to)) ?? FREE;
  }

  refresh(): void {
    const there = this.#rule(this.source, this.#target);
    const back = this.#rule(this.#target, this.source);
    if (there.block === "reset" || back.block === "reset") this.reset();
    else if (this.#upstream !== undefined) for (const pipe of this.#pipes) pipe.refresh();
    else if (there.block === undefined && back.block === undefined) this.#dial();
  }

  #dial(): void {
    const port = this.#port();
    if (port === undefined || this.#client.destroyed) {
      this.reset();
      return;
    }
    const upstream = connect({ host: HOST, port, noDelay: true, allowHalfOpen: true });
    upstream.on("error", () => {});
    this.#upstream = upstream;
    const { source } = this;
    this.#pipes = [
      new Pipe(this.#client, upstream, () => this.#rule(source, this.#target)),
      new Pipe(upstream, this.#client, () => this.#rule(this.#target, source)),
    ];
  }

  reset(): void {
    if (!this.#client.destroyed) this.#client.resetAndDestroy();
    if (this.#upstream !== undefined && !this.#upstream.destroyed) this.#upstream.resetAndDestroy();
  }
}

export class NodeProxy {
  readonly node: string;
  readonly context: ProxyContext;
  /** Where the node listens; undefined refuses connections. */
  targetPort: number | undefined;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();

  constructor(node: string, context: ProxyContext) {
    this.node = node;
    this.context = context;
    const options = { pauseOnConnect: true, allowHalfOpen: true, noDelay: true };
    this.#server = createServer(options, (client) => void this.#accept(client));
  }

  /** @returns the port of the proxy. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, HOST, () => {
        const address = this.#server.address();
        if (address === null || typeof address === "string") throw new Error("no port");
        resolve(address.port);
      });
    });
  }

  get connections(): number {
    return this.#connections.size;
  }

  refresh(): void {
    for (const connection of [...this.#connections]) connection.refresh();
  }

  /** Breaks what `source` has open here now; undefined for everybody. */
  resetFrom(source: string | undefined): void {
    for (const connection of [...this.#connections]) {
      if (source === undefined || connection.source === source) connection.reset();
    }
  }

  close(): void {
    this.#server.close();
    this.resetFrom(undefined);
  }

  async #accept(client: Socket): Promise<void> {
    // Listened to before anything is awaited: a reset without a listener would end the process.
    client.on("error", () => {});
    const source = await this.#sourceOf(client);
    if (client.destroyed) return;
    const connection = new Connection(source, this, client);
    this.#connections.add(connection);
    client.on("close", () => this.#connections.delete(connection));
  }

  async #sourceOf({ remotePort, localPort }: Socket): Promise<string> {
    if (remotePort === undefined || localPort === undefined) return UNKNOWN_SOURCE;
    // Seen from the side that dialled.
    const ports = { localPort: remotePort, remotePort: localPort };
    for (let attempt = 1; attempt <= OWNER_ATTEMPTS_MAX; attempt++) {
      const owner = ownerOf(ports, this.context.processes);
      if (owner !== undefined) return owner;
      await new Promise((resolve) => setTimeout(resolve, OWNER_RETRY_MS));
    }
    this.context.unknownSources++;
    return UNKNOWN_SOURCE;
  }
}
