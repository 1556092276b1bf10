/**
 * Deployments for the end-to-end tests: minikv as real processes on 127.0.0.1: as the
 * all-in-one, as gateway and storage node over gRPC, and as a cluster of three storage nodes.
 *
 * A deployment ends with the test that started it, or with the file when a hook started it; its
 * temporary directory goes with it. Ports are chosen by the system at the first start and kept over
 * restarts, so that clients find the server again where it was.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, onTestFinished } from "vitest";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import { type Environment, SERVES_GRPC, SERVES_HTTP } from "#test/processes/minikv.ts";
import { ClusterDeployment } from "./cluster-deployment.ts";
import { type LogRecord, ServerProcess, waitForReadiness } from "./server-process.ts";

export { SERVES_GRPC, SERVES_HTTP, waitForReadiness };

export type DeploymentOptions = {
  /** By default a fresh temporary directory, removed at the end. A given one is left alone. */
  readonly dataDir?: string;
  /** More flags for the process that stores: `dev` or `storage-node`. */
  readonly args?: readonly string[];
  /** More flags for `gateway`; the all-in-one gets them too. */
  readonly gatewayArgs?: readonly string[];
  /** Added to the environment of every process. */
  readonly env?: Environment;
};

export type DeploymentKind = "all-in-one" | "pair" | "cluster";

export interface Deployment {
  readonly kind: DeploymentKind;
  /** `http://127.0.0.1:port`, the same over restarts. */
  readonly url: string;
  readonly dataDir: string;
  /** The process that owns the data directory. After a restart it is another one. */
  readonly storageProcess: ServerProcess;
  /** The process that serves HTTP: in the all-in-one the same as `storageProcess`. */
  readonly gatewayProcess: ServerProcess;
  /** SIGTERM, gateway first; waits. @returns the first exit code that is not 0, else 0. */
  stop(): Promise<number>;
  /** SIGKILL to every process; waits until they are gone. */
  kill9(): Promise<void>;
  /**
   * Starts again whatever has ended (kill one process to restart only that one), on the same data
   * directory and ports, and waits until it is ready.
   *
   * @throws Error with the log when a process refuses to start.
   */
  restart(): Promise<void>;
  /** All that every process has printed so far, over restarts. */
  logs(): string;
  /** The log lines of every process so far, over restarts. */
  logRecords(): readonly LogRecord[];
}

export type StartDeployment = (options?: DeploymentOptions) => Promise<Deployment>;

const endsOfFile: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const end of endsOfFile.splice(0).reverse()) await end();
});

/** Runs `end` after the test; from a hook, after the file. The last one comes first. */
function atEnd(end: () => Promise<void>): void {
  try {
    onTestFinished(end);
  } catch {
    // Not inside a test: a hook that starts one deployment for several tests.
    endsOfFile.push(end);
  }
}

/** A directory that is removed at the end of the test, or of the file. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "minikv-e2e-"));
  atEnd(async () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Spawns `bin/minikv` with `args` and kills it at the end, for what is no deployment. */
export function spawnMinikv(args: readonly string[], env: Environment = {}): ServerProcess {
  const server = new ServerProcess(args, env);
  atEnd(() => server.kill9());
  return server;
}

/** What both kinds share. */
abstract class Processes {
  readonly dataDir: string;
  protected readonly options: DeploymentOptions;
  /** Every process there has been, oldest first. */
  readonly #spawned: ServerProcess[] = [];

  constructor(options: DeploymentOptions) {
    this.options = options;
    this.dataDir = options.dataDir ?? join(temporaryDirectory(), "data");
    atEnd(async () => {
      await Promise.all(this.#spawned.map((server) => server.kill9()));
    });
  }

  protected spawn(args: readonly string[]): ServerProcess {
    const server = new ServerProcess(args, this.options.env);
    this.#spawned.push(server);
    return server;
  }

  logs(): string {
    return this.#spawned.map(({ stdout, stderr }) => stdout + stderr).join("");
  }

  logRecords(): readonly LogRecord[] {
    return this.#spawned.flatMap((server) => server.logRecords());
  }

  async kill9(): Promise<void> {
    await Promise.all(this.#spawned.map((server) => server.kill9()));
  }
}

/** The address without its scheme, as `--listen` takes it. */
const hostPort = (url: string): string => url.replace("http://", "");

class AllInOne extends Processes implements Deployment {
  readonly kind = "all-in-one";
  url = "";
  #process: ServerProcess | undefined;

  get storageProcess(): ServerProcess {
    return this.#process!;
  }

  get gatewayProcess(): ServerProcess {
    return this.#process!;
  }

  async restart(): Promise<void> {
    if (this.#process === undefined || this.#process.exit !== undefined) {
      const { args = [], gatewayArgs = [] } = this.options;
      const listen = this.url === "" ? "127.0.0.1:0" : hostPort(this.url);
      const own = ["dev", "--listen", listen, "--data-dir", this.dataDir];
      this.#process = this.spawn([...own, ...args, ...gatewayArgs]);
      this.url = await this.#process.printed(SERVES_HTTP);
    }
    await waitForReadiness(this.url, 200);
  }

  async stop(): Promise<number> {
    return (await this.storageProcess.stop()).code ?? 1;
  }
}

class Pair extends Processes implements Deployment {
  readonly kind = "pair";
  url = "";
  /** Where the storage node serves gRPC. */
  #storageAddress = "";
  #storage: ServerProcess | undefined;
  #gateway: ServerProcess | undefined;

  get storageProcess(): ServerProcess {
    return this.#storage!;
  }

  get gatewayProcess(): ServerProcess {
    return this.#gateway!;
  }

  async restart(): Promise<void> {
    const { args = [], gatewayArgs = [] } = this.options;
    if (this.#storage === undefined || this.#storage.exit !== undefined) {
      const listen = this.#storageAddress === "" ? "127.0.0.1:0" : this.#storageAddress;
      const own = ["storage-node", "--listen", listen, "--data-dir", this.dataDir];
      this.#storage = this.spawn([...own, ...args]);
      this.#storageAddress = await this.#storage.printed(SERVES_GRPC);
    }
    if (this.#gateway === undefined || this.#gateway.exit !== undefined) {
      const listen = this.url === "" ? "127.0.0.1:0" : hostPort(this.url);
      this.#gateway = this.spawn(gatewayArguments(listen, [this.#storageAddress], gatewayArgs));
      this.url = await this.#gateway.printed(SERVES_HTTP);
    }
    await waitForReadiness(this.url, 200);
  }

  async stop(): Promise<number> {
    const gateway = (await this.gatewayProcess.stop()).code ?? 1;
    const storage = (await this.storageProcess.stop()).code ?? 1;
    return gateway === 0 ? storage : gateway;
  }
}

/** `minikv dev`, ready to serve. */
export async function startAllInOne(options: DeploymentOptions = {}): Promise<Deployment> {
  const deployment = new AllInOne(options);
  await deployment.restart();
  return deployment;
}

/** `minikv storage-node` and `minikv gateway` in front of it, ready to serve. */
export async function startPair(options: DeploymentOptions = {}): Promise<Deployment> {
  const deployment = new Pair(options);
  await deployment.restart();
  return deployment;
}

/** Three storage nodes that found a cluster, and a gateway in front of them, ready to serve. */
export async function startClusterDeployment(options: DeploymentOptions = {}): Promise<Deployment> {
  const deployment = new ClusterDeployment(options);
  atEnd(() => deployment.cluster.close());
  await deployment.start();
  return deployment;
}

const STARTS: Readonly<Record<DeploymentKind, StartDeployment>> = {
  "all-in-one": startAllInOne,
  pair: startPair,
  cluster: startClusterDeployment,
};

/** For suites in which several nodes make a difference; each takes the time of a whole cluster. */
export const WITH_CLUSTER = ["all-in-one", "pair", "cluster"] as const;

/** Declares the same tests for each deployment; `start` starts the one of its block. */
export function describeEachDeployment(
  name: string,
  tests: (start: StartDeployment) => void,
  kinds: readonly (typeof WITH_CLUSTER)[number][] = ["all-in-one", "pair"],
): void {
  for (const kind of kinds) {
    describe(`${name} (${kind})`, () => tests(STARTS[kind]));
  }
}
