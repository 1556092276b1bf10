/** A cluster as one of the deployments that the same end-to-end tests run on (harness.ts). */
import { Cluster } from "./cluster-harness.ts";
import type { Deployment, DeploymentOptions } from "./harness.ts";
import type { LogRecord, ServerProcess } from "./server-process.ts";

/**
 * Three storage nodes behind one gateway. Where a test asks for the process that stores, or its data
 * directory, it gets those of the first node.
 */
export class ClusterDeployment implements Deployment {
  readonly kind = "cluster";
  readonly cluster: Cluster;

  constructor({ args = [], gatewayArgs = [], env = {} }: DeploymentOptions) {
    this.cluster = new Cluster({ nodeArgs: () => args, gatewayArgs, env });
  }

  get url(): string {
    return this.cluster.url;
  }

  get dataDir(): string {
    return this.cluster.storageNodes[0]!.dataDir;
  }

  get storageProcess(): ServerProcess {
    return this.cluster.storageNodes[0]!.process;
  }

  get gatewayProcess(): ServerProcess {
    return this.cluster.gateways[0]!.process;
  }

  async start(): Promise<void> {
    await this.cluster.prepare();
    await this.restart();
  }

  restart(): Promise<void> {
    return this.cluster.restart();
  }

  stop(): Promise<number> {
    return this.cluster.stop();
  }

  kill9(): Promise<void> {
    return this.cluster.kill9();
  }

  logs(): string {
    return this.cluster.logs();
  }

  logRecords(): readonly LogRecord[] {
    return this.cluster.logRecords();
  }
}
