/**
 * A cluster under test: real storage nodes and gateways on 127.0.0.1, each node behind a proxy
 * (`network/`), with data and logs below one directory.
 *
 * `cluster.json` in it says what runs, in the form of `minikv dev`. Names are n1, n2, … for nodes and g1,
 * g2, … for gateways; a node's name is not its id, which the cluster gives out.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findFreePorts } from "#bin/dev-cluster/ports.ts";
import type { Random } from "#shared/random.ts";
import {
  gatewayArguments,
  type NodePlace,
  storageNodeArguments,
} from "#test/processes/cluster-arguments.ts";
import { NODE_ID, SERVES_HTTP, untilReadiness } from "#test/processes/minikv.ts";
import type { NatsServer } from "#test/processes/nats-server.ts";
import { Network } from "#test/torture/network/network.ts";
import { ManagedProcess } from "./managed-process.ts";

const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 60_000;

export type ClusterOptions = {
  readonly directory: string;
  readonly nodes: number;
  readonly gateways: number;
  readonly random: Random;
  /** Added to the arguments of each storage node. */
  readonly nodeArgs?: readonly string[];
  /** Added to the environment of a storage node, by its name. */
  readonly environmentOf?: (node: string) => Readonly<Record<string, string>>;
  /** Where a node keeps its data, when not in the directory. */
  readonly dataDirectoryOf?: (node: string) => string | undefined;
  /** Changes are published there; without it gateways follow the nodes. Closed with the cluster. */
  readonly bus?: NatsServer | undefined;
  readonly onUnexpectedEnd: (description: string) => void;
};

export type ClusterNode = {
  readonly name: string;
  readonly process: ManagedProcess;
  readonly dataDirectory: string;
  /** Its own listener, past the proxy: what asks it there is not disturbed by the network's rules. */
  readonly directAddress: string;
  /** Where nodes and gateways reach it. */
  readonly address: string;
};

export type ClusterGateway = {
  readonly name: string;
  readonly process: ManagedProcess;
  readonly url: string;
};

export class Cluster {
  readonly network = new Network();
  readonly #options: ClusterOptions;
  readonly #nodes = new Map<string, ClusterNode>();
  /** No longer in the cluster; somebody may still name them. */
  readonly #retired = new Map<string, ClusterNode>();
  readonly #gateways = new Map<string, ClusterGateway>();
  /** Of processes that may not listen right now. */
  readonly #ports = new Set<number>();
  #seeds: readonly string[] = [];

  constructor(options: ClusterOptions) {
    this.#options = options;
    mkdirSync(join(options.directory, "logs"), { recursive: true });
  }

  get bus(): NatsServer | undefined {
    return this.#options.bus;
  }

  get nodes(): readonly ClusterNode[] {
    return [...this.#nodes.values()];
  }

  get gateways(): readonly ClusterGateway[] {
    return [...this.#gateways.values()];
  }

  node(name: string): ClusterNode {
    const node = this.#nodes.get(name) ?? this.#retired.get(name);
    if (node === undefined) throw new Error(`there is no node ${name}`);
    return node;
  }

  gateway(name: string): ClusterGateway {
    const gateway = this.#gateways.get(name);
    if (gateway === undefined) throw new Error(`there is no gateway ${name}`);
    return gateway;
  }

  /** Founds the cluster, and waits until every gateway is ready. */
  async start(): Promise<void> {
    const { nodes, gateways } = this.#options;
    const names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
    const parts = [];
    for (const name of names) parts.push(await this.#prepareNode(name));
    this.#seeds = parts.map(({ address }) => address);
    const founding = nodes === 1 ? { seeds: [] } : { seeds: this.#seeds, expect: nodes };
    for (const part of parts) this.#addNode(part, founding).process.start();
    for (let i = 1; i <= gateways; i++) (await this.#addGateway(`g${i}`)).process.start();
    for (const { process } of this.nodes) await process.printed(NODE_ID, START_TIMEOUT_MS);
    for (const { process, url } of this.gateways) {
      await process.printed(SERVES_HTTP, START_TIMEOUT_MS);
      await untilReadiness(url, 200, START_TIMEOUT_MS);
    }
    this.writeDescription();
  }

  /** Starts one more node, which joins by itself. */
  async join(name: string): Promise<ClusterNode> {
    const part = await this.#prepareNode(name);
    const seeds = this.nodes.map(({ address }) => address);
    const node = this.#addNode(part, { seeds });
    node.process.start();
    this.writeDescription();
    return node;
  }

  /** The id of a node that serves. */
  async idOf(name: string): Promise<number> {
    return Number(await this.node(name).process.printed(NODE_ID, START_TIMEOUT_MS));
  }

  /** Ends a node for good, with its data; the cluster has let go of it before. */
  async retire(name: string): Promise<void> {
    const node = this.node(name);
    this.#nodes.delete(name);
    this.#retired.set(name, node);
    await node.process.retire();
    await this.network.setTarget(name, undefined);
    rmSync(node.dataDirectory, { recursive: true, force: true });
    this.writeDescription();
  }

  /** Everything runs, nothing is paused, and all links are free. */
  async heal(): Promise<void> {
    await this.network.heal();
    this.bus?.resume();
    await this.bus?.restart();
    for (const { process } of [...this.nodes, ...this.gateways]) {
      process.mayEnd = false;
      process.resume();
      process.start();
    }
    this.writeDescription();
  }

  async close(): Promise<void> {
    await Promise.all([...this.nodes, ...this.gateways].map(({ process }) => process.kill()));
    await this.bus?.close();
    await this.network.close();
  }

  /** After the end. Logs stay: they are small, and tell what a long stretch was about. */
  removeData(): void {
    const { directory } = this.#options;
    for (const name of readdirSync(directory)) {
      if (name !== "logs") rmSync(join(directory, name), { recursive: true, force: true });
    }
  }

  /** For people, and for `minikv dev kill` and the like. By rename: nobody reads half of it. */
  writeDescription(): void {
    const description = {
      gateways: this.gateways.map(({ url, process }) => ({ url, pid: process.pid ?? 0 })),
      storageNodes: this.nodes.map(({ name, process, address, dataDirectory }) => ({
        id: Number(name.slice(1)),
        address,
        pid: process.pid ?? 0,
        dataDir: dataDirectory,
      })),
    };
    const path = join(this.#options.directory, "cluster.json");
    writeFileSync(`${path}.new`, `${JSON.stringify(description, null, 2)}\n`);
    renameSync(`${path}.new`, path);
  }

  async #prepareNode(name: string) {
    const { directory, dataDirectoryOf } = this.#options;
    const port = await this.#freePort();
    const proxyPort = await this.network.open(name);
    await this.network.setTarget(name, port);
    return {
      name,
      dataDirectory: dataDirectoryOf?.(name) ?? join(directory, name),
      directAddress: `${HOST}:${port}`,
      address: `${HOST}:${proxyPort}`,
    };
  }

  async #freePort(): Promise<number> {
    const { random } = this.#options;
    const [port] = await findFreePorts({ host: HOST, count: 1, random, taken: this.#ports });
    this.#ports.add(port!);
    return port!;
  }

  #addNode(
    part: Omit<ClusterNode, "process">,
    origin: Pick<NodePlace, "seeds" | "expect">,
  ): ClusterNode {
    const { name, directAddress, address, dataDirectory } = part;
    const { nodeArgs = [], environmentOf } = this.#options;
    const place = {
      ...{ listen: directAddress, advertise: address, dataDir: dataDirectory },
      ...{ host: name, zone: `z-${name}`, ...origin },
    };
    const args = [...storageNodeArguments(place), ...nodeArgs, ...this.#busArguments()];
    const node = { ...part, process: this.#process(name, args, environmentOf?.(name) ?? {}) };
    this.#nodes.set(name, node);
    return node;
  }

  async #addGateway(name: string): Promise<ClusterGateway> {
    const listen = `${HOST}:${await this.#freePort()}`;
    const args = gatewayArguments(listen, this.#seeds, this.#busArguments());
    const gateway = { name, url: `http://${listen}`, process: this.#process(name, args, {}) };
    this.#gateways.set(name, gateway);
    return gateway;
  }

  #busArguments(): readonly string[] {
    return this.bus === undefined ? [] : ["--nats-url", this.bus.url];
  }

  #process(
    name: string,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
  ): ManagedProcess {
    const { directory, onUnexpectedEnd } = this.#options;
    return new ManagedProcess({
      name,
      args,
      env,
      logDirectory: join(directory, "logs"),
      onStart: (pid) => void this.network.setProcess(name, pid),
      onUnexpectedEnd,
    });
  }
}
