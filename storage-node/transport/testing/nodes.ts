/**
 * Transports in one process over real gRPC on 127.0.0.1, and a TCP proxy between them that can stall
 * and cut. For tests and measurements.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { systemClock } from "#shared/clock.ts";
import type { GroupId, LogIndex, NodeId, Term } from "#shared/ids.ts";
import { replicaIdOf } from "#shared/ids.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import { systemRandom } from "#shared/random.ts";
import { type GrpcCredentials, insecureCredentials } from "#shared/runtime/grpc-credentials.ts";
import { EntryKind, type Message } from "#storage-node/raft/types.ts";
import { type RpcServer, startRpcServer } from "#storage-node/rpc/server.ts";
import { GrpcTransport } from "#storage-node/transport/grpc-transport.ts";
import type { PeerEvent } from "#storage-node/transport/link.ts";
import { nodeService } from "#storage-node/transport/node-service.ts";

export const CLUSTER = "test";
const clock = systemClock();
const cleanups: (() => Promise<void>)[] = [];

/** For `afterEach`: closes what the test opened, last first. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export type NodeOptions = {
  readonly clusterId?: string;
  readonly credentials?: GrpcCredentials;
  /** `host:port`; by default any that is free. */
  readonly listen?: string;
  /** The transport is not attached to the server before `attach` is called. */
  readonly detached?: boolean;
};

/** One node's transport and server, and what they told. */
export class TestNode {
  readonly id: NodeId;
  readonly transport: GrpcTransport;
  readonly events: PeerEvent[] = [];
  readonly messages: Message[] = [];
  readonly unreachable: NodeId[] = [];
  /** Takes snapshot streams; those of whoever does not care are left alone. */
  onSnapshotStream: (from: NodeId, stream: MessageStream) => void = () => {};
  onMessage: (message: Message) => void = (message) => this.messages.push(message);
  readonly #credentials: GrpcCredentials;
  readonly #detached: boolean;
  #service = nodeService();
  #server: RpcServer | undefined;

  constructor(id: number, options: NodeOptions = {}) {
    this.id = id as NodeId;
    this.#credentials = options.credentials ?? insecureCredentials();
    this.#detached = options.detached === true;
    this.transport = new GrpcTransport({
      clusterId: options.clusterId ?? CLUSTER,
      nodeId: this.id,
      softwareVersion: "test",
      clock,
      random: systemRandom(),
      credentials: this.#credentials.channel,
      onEvent: (event) => this.events.push(event),
    });
    this.transport.start({
      onMessage: (message) => this.onMessage(message),
      onUnreachable: (node) => this.unreachable.push(node),
      onSnapshotStream: (from, stream) => this.onSnapshotStream(from, stream),
    });
  }

  get address(): string {
    if (this.#server === undefined) throw new Error("the server does not run");
    return this.#server.address;
  }

  async listen(address = "127.0.0.1:0"): Promise<void> {
    this.#service = nodeService();
    if (!this.#detached) this.attach();
    this.#server = await startRpcServer({
      listen: address,
      credentials: this.#credentials.server,
      services: [this.#service],
      clock,
    });
  }

  attach(): void {
    this.#service.attach(this.transport);
  }

  /** As when the process ends: without a word. */
  async kill(): Promise<void> {
    this.transport.close();
    await this.#server?.close(0);
  }

  know(...peers: readonly (readonly [TestNode, string?])[]): void {
    const addresses = peers.map(([node, address]) => [node.id, address ?? node.address] as const);
    this.transport.setPeers(new Map(addresses));
  }

  connectedTo({ id }: TestNode): boolean {
    const last = this.events.findLast(({ node }) => node === id);
    return last?.kind === "connected";
  }
}

export async function startNode(id: number, options?: NodeOptions): Promise<TestNode> {
  const node = new TestNode(id, options);
  cleanups.push(() => node.kill());
  await node.listen(options?.listen);
  return node;
}

/** Nodes 1, 2, … that know each other, with all links up. */
export async function startNodes(count: number, options?: NodeOptions): Promise<TestNode[]> {
  const nodes: TestNode[] = [];
  for (let id = 1; id <= count; id++) nodes.push(await startNode(id, options));
  await introduce(nodes);
  return nodes;
}

export async function introduce(nodes: readonly TestNode[]): Promise<void> {
  const pairs = nodes.flatMap((node) =>
    nodes.filter((other) => other !== node).map((other) => [node, other] as const),
  );
  for (const node of nodes) node.know(...nodes.map((other) => [other] as const));
  await until(() => pairs.every(([node, other]) => node.connectedTo(other)));
}

/** Within the time that a test has. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

type Pair = { readonly from: TestNode; readonly to: TestNode };

const envelope = ({ from, to }: Pair, group: number) => ({
  group: group as GroupId,
  from: replicaIdOf(from.id, 0),
  to: replicaIdOf(to.id, 0),
  term: 3 as Term,
});

export const heartbeat = (pair: Pair, group = 1, commit = 70_000): Message => ({
  kind: "heartbeat",
  ...envelope(pair, group),
  commit: commit as LogIndex,
  readRound: 0,
});

export const vote = (pair: Pair, group = 1): Message => ({
  kind: "vote",
  ...envelope(pair, group),
  lastIndex: 10 as LogIndex,
  lastTerm: 2 as Term,
  forced: false,
  commit: 9 as LogIndex,
  commitTerm: 2 as Term,
});

/** `data` in one entry for each of `entries`. */
export const append = (pair: Pair, data: Uint8Array, group = 1, entries = 1): Message => ({
  kind: "append",
  ...envelope(pair, group),
  previousIndex: 10 as LogIndex,
  previousTerm: 2 as Term,
  commit: 9 as LogIndex,
  entries: Array.from({ length: entries }, (_, i) => ({
    index: (11 + i) as LogIndex,
    term: 3 as Term,
    kind: EntryKind.Normal,
    data,
  })),
});

/** Forwards connections to a port, until told otherwise. */
export type Proxy = {
  readonly address: string;
  /** Connections that were made so far. */
  readonly connections: () => number;
  /** Nothing passes any more, in either direction, and nobody is told. New connections hang. */
  stall(): void;
  resume(): void;
  /** Breaks all connections. */
  cut(): void;
  /** For new connections. */
  target(address: string): void;
};

export async function startProxy(targetAddress: string): Promise<Proxy> {
  const sockets = new Set<Socket>();
  let target = targetAddress;
  let stalled = false;
  let connections = 0;
  const server = createServer((client) => {
    connections++;
    const upstream = connect(Number(target.split(":")[1]), "127.0.0.1");
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("data", (bytes) => {
        if (!other.write(bytes)) one.pause();
      });
      one.on("drain", () => {
        if (!stalled) other.resume();
      });
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      if (stalled) one.pause();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  cleanups.push(async () => {
    server.close();
    cut();
  });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
    stall: () => {
      stalled = true;
      for (const socket of sockets) socket.pause();
    },
    resume: () => {
      stalled = false;
      for (const socket of sockets) socket.resume();
    },
    cut,
    target: (address) => {
      target = address;
    },
  };
}
