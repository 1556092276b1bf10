/**
 * A cluster of real processes on 127.0.0.1: storage nodes and gateways, each of which can be killed,
 * paused and started again on its own, on the same address and data directory.
 *
 * Knows no test runner, so that a long run outside of one can use it: whoever starts a cluster closes
 * it. Every process is killed when this one ends, and ends by itself when this one is killed.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFreePorts } from "#bin/dev-cluster/ports.ts";
import { systemRandom } from "#shared/random.ts";
import { gatewayArguments, storageNodeArguments } from "#test/processes/cluster-arguments.ts";
import { type Environment, NODE_ID, SERVES_GRPC, SERVES_HTTP } from "#test/processes/minikv.ts";
import {
  type ExitStatus,
  type LogRecord,
  ServerProcess,
  waitForReadiness,
} from "./server-process.ts";

const HOST = "127.0.0.1";

export type ClusterOptions = {
  /** That found the cluster; 3 by default. */
  readonly nodes?: number;
  /** 1 by default. */
  readonly gateways?: number;
  /** For the data directories. By default a temporary one, which `close()` removes. */
  readonly directory?: string;
  /** Round robin; by default nodes have no zone. */
  readonly zones?: readonly string[];
  /** More flags for the storage node with this index, from 0. */
  readonly nodeArgs?: (index: number) => readonly string[];
  readonly gatewayArgs?: readonly string[];
  /** Added to the environment of every process. */
  readonly env?: Environment;
  /** Added to that of the storage node with this index. */
  readonly nodeEnv?: (index: number) => Environment;
  /**
   * Where others reach the storage node with this index that listens on `address`, such as a proxy
   * that a test can cut. By default there.
   */
  readonly advertise?: (index: number, address: string) => string | Promise<string>;
};

/** A place in the cluster, and the processes that have filled it one after the other. */
abstract class Member {
  /** `node-1`, `gateway-1`, … */
  readonly name: string;
  /** `host:port` where it listens, the same over restarts. */
  readonly address: string;
  readonly #args: readonly string[];
  readonly #env: Environment;
  readonly #spawned: ServerProcess[] = [];

  constructor(name: string, address: string, args: readonly string[], env: Environment) {
    this.name = name;
    this.address = address;
    this.#args = args;
    this.#env = { ...env, MINIKV_EXIT_WITH_PARENT: "true" };
  }

  /** The latest process. */
  get process(): ServerProcess {
    return this.#spawned.at(-1)!;
  }

  get pid(): number {
    return this.process.pid;
  }

  get isRunning(): boolean {
    return this.#spawned.length > 0 && this.process.exit === undefined;
  }

  /** Oldest first. */
  get spawned(): readonly ServerProcess[] {
    return this.#spawned;
  }

  /** Starts it if it has ended, and waits until it says that it serves. */
  async restart(): Promise<void> {
    if (this.isRunning) return;
    this.#spawned.push(new ServerProcess(this.#args, this.#env));
    await this.serves();
  }

  /** @throws Error with the log when the process refuses to start */
  protected abstract serves(): Promise<void>;

  /** SIGKILL, and waits for the end. */
  async kill9(): Promise<void> {
    if (this.isRunning) await this.process.kill9();
  }

  /** SIGTERM, and waits for the end. */
  stop(): Promise<ExitStatus> {
    const ended = this.process.stop();
    this.resume();
    return ended;
  }

  /** SIGSTOP: it keeps its sockets, and does nothing. */
  pause(): void {
    this.process.signal("SIGSTOP");
  }

  resume(): void {
    this.process.signal("SIGCONT");
  }
}

export class ClusterNode extends Member {
  readonly dataDir: string;
  #id = 0;

  constructor(
    name: string,
    address: string,
    dataDir: string,
    args: readonly string[],
    env: Environment,
  ) {
    super(name, address, args, env);
    this.dataDir = dataDir;
  }

  /** In the cluster; known once it has served. */
  get id(): number {
    return this.#id;
  }

  protected async serves(): Promise<void> {
    await this.process.printed(SERVES_GRPC);
    this.#id = Number(await this.process.printed(NODE_ID));
  }
}

export class ClusterGateway extends Member {
  get url(): string {
    return `http://${this.address}`;
  }

  protected async serves(): Promise<void> {
    await this.process.printed(SERVES_HTTP);
  }
}

export class Cluster {
  readonly storageNodes: ClusterNode[] = [];
  readonly gateways: ClusterGateway[] = [];
  readonly directory: string;
  readonly #options: ClusterOptions;
  /** Advertised addresses of the nodes that found the cluster. */
  readonly #seeds: string[] = [];

  /** Use `startCluster()`. */
  constructor(options: ClusterOptions) {
    this.#options = options;
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), "minikv-cluster-"));
  }

  /** Of the first gateway. */
  get url(): string {
    return this.gateways[0]!.url;
  }

  /** Adds the members that the options ask for, without starting them. */
  async prepare(): Promise<void> {
    const { nodes = 3, gateways = 1 } = this.#options;
    const ports = await findFreePorts({
      host: HOST,
      count: nodes + gateways,
      random: systemRandom(),
    });
    const addresses = ports.map((port) => `${HOST}:${port}`);
    const nodeAddresses = addresses.splice(0, nodes);
    const advertised = await Promise.all(
      nodeAddresses.map((address, index) => this.#advertised(index, address)),
    );
    this.#seeds.push(...advertised);
    nodeAddresses.forEach((address, index) => {
      this.#place(index, address, advertised[index]!, nodes);
    });
    for (const address of addresses) this.#placeGateway(address);
  }

  /**
   * Starts again whatever has ended, and waits until every gateway is ready.
   *
   * @throws Error with the log when a process refuses to start
   */
  async restart(): Promise<void> {
    // All at once: nodes that found a cluster wait for one another.
    await Promise.all([...this.storageNodes, ...this.gateways].map((member) => member.restart()));
    await Promise.all(this.gateways.map(({ url }) => waitForReadiness(url, 200)));
  }

  /** Starts one more node, which joins. */
  async addNode(): Promise<ClusterNode> {
    const index = this.storageNodes.length;
    const [port] = await findFreePorts({ host: HOST, count: 1, random: systemRandom() });
    const address = `${HOST}:${port}`;
    const node = this.#place(index, address, await this.#advertised(index, address));
    await node.restart();
    return node;
  }

  /** SIGTERM, gateways first; waits. @returns the first exit code that is not 0, else 0 */
  async stop(): Promise<number> {
    const codes: number[] = [];
    for (const members of [this.gateways, this.storageNodes]) {
      const running = members.filter(({ isRunning }) => isRunning);
      const ends = await Promise.all(running.map((member) => member.stop()));
      codes.push(...ends.map(({ code }) => code ?? 1));
    }
    return codes.find((code) => code !== 0) ?? 0;
  }

  /** SIGKILL to every process; waits until they are gone. */
  async kill9(): Promise<void> {
    await Promise.all([...this.gateways, ...this.storageNodes].map((member) => member.kill9()));
  }

  /** Ends everything, and removes the directory unless it was given. */
  async close(): Promise<void> {
    await this.kill9();
    if (this.#options.directory === undefined) {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }

  /** All that every process has printed so far, over restarts. */
  logs(): string {
    return this.#spawned()
      .map(({ stdout, stderr }) => stdout + stderr)
      .join("");
  }

  /** The log lines of every process so far, over restarts. */
  logRecords(): readonly LogRecord[] {
    return this.#spawned().flatMap((server) => server.logRecords());
  }

  #spawned(): readonly ServerProcess[] {
    return [...this.storageNodes, ...this.gateways].flatMap(({ spawned }) => spawned);
  }

  async #advertised(index: number, address: string): Promise<string> {
    return this.#options.advertise?.(index, address) ?? address;
  }

  #place(index: number, address: string, advertise: string, expect?: number): ClusterNode {
    const { zones = [], nodeArgs, nodeEnv } = this.#options;
    const env = { ...this.#options.env, ...nodeEnv?.(index) };
    const name = `node-${index + 1}`;
    const dataDir = join(this.directory, name);
    const zone = zones.length > 0 ? zones[index % zones.length]! : undefined;
    const seeds = this.#seeds;
    const place = { listen: address, advertise, dataDir, host: name, zone, seeds, expect };
    const args = [...storageNodeArguments(place), ...(nodeArgs?.(index) ?? [])];
    const node = new ClusterNode(name, address, dataDir, args, env);
    this.storageNodes.push(node);
    return node;
  }

  #placeGateway(address: string): void {
    const { gatewayArgs = [], env = {} } = this.#options;
    const args = gatewayArguments(address, this.#seeds, gatewayArgs);
    const name = `gateway-${this.gateways.length + 1}`;
    this.gateways.push(new ClusterGateway(name, address, args, env));
  }
}

/** Starts a cluster; it is ready to serve, and has to be closed. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const cluster = new Cluster(options);
  try {
    await cluster.prepare();
    await cluster.restart();
  } catch (error) {
    await cluster.close();
    throw error;
  }
  return cluster;
}
