/**
 * The gateway's own thread in the all-in-one: what `main.ts` is to the process of a gateway. It
 * has no signals and no end of its own; `thread.ts` asks, and this answers.
 *
 * An exception that nobody catches ends the thread, and with it the process.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { assert } from "#shared/assert.ts";
import { type Clock, systemClock } from "#shared/clock.ts";
import { type ClusterNode, fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { toNodeId } from "#shared/ids.ts";
import { type Random, systemRandom } from "#shared/random.ts";
import { CertificateDates } from "#shared/runtime/certificate-dates.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { createLogger, type Logger } from "#shared/runtime/log.ts";
import { LogLevelControl } from "#shared/runtime/log-level.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { MetaLeaderAdmin } from "./cluster/cluster-admin.ts";
import type { ClusterView } from "./cluster/cluster-view.ts";
import type { MetaLeaderOptions } from "./cluster/meta-leader.ts";
import { PortClusterRpc } from "./cluster/port-cluster-rpc.ts";
import { DirectoryFollower } from "./directory/directory-follower.ts";
import { portDirectoryRpc } from "./directory/port-directory-rpc.ts";
import { PortMetrics } from "./metrics/port-metrics.ts";
import { type Serving, serveHttp } from "./serve.ts";
import { StorageClient } from "./storage/client.ts";
import { portConnector } from "./storage/port-connector.ts";
import { StreamChannel } from "./storage/stream-channel.ts";
import type {
  GatewayThreadData,
  GatewayThreadStorage,
  LevelNews,
  PortAsk,
  ThreadReply,
  ThreadRequest,
  ThreadTask,
} from "./thread.ts";
import { openGatewayTracing } from "./tracing/open-tracing.ts";
import { DirectChanges } from "./watch/direct-changes.ts";
import { portChangesConnector } from "./watch/port-changes-connector.ts";

type Context = {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly logLevel: LogLevelControl;
  readonly data: GatewayThreadData;
  readonly stopping: () => boolean;
  readonly clusterRpc: PortClusterRpc;
  readonly nodeMetrics: PortMetrics;
  /** Sends a message, with a port in it, to the storage node's thread. */
  readonly ask: (ask: PortAsk) => void;
};

function runThread(): void {
  assert(parentPort !== null, "this module is the entry of a thread");
  const port = parentPort;
  const data = workerData as GatewayThreadData;
  const logger = createLogger({ level: data.logLevel, program: data.program });
  let stopping = false;
  const clock = systemClock();
  const logLevel = new LogLevelControl({
    ...{ clock, configured: data.logLevel },
    apply: (level) => {
      logger.level = level;
      port.postMessage({ kind: "logLevel", level } satisfies LevelNews);
    },
  });
  const clusterRpc = new PortClusterRpc({ clock, post: (ask) => port.postMessage(ask) });
  const nodeMetrics = new PortMetrics({ clock, post: (ask) => port.postMessage(ask) });
  const context: Context = {
    clock,
    random: systemRandom(),
    logger,
    logLevel,
    data,
    stopping: () => stopping,
    clusterRpc,
    nodeMetrics,
    ask: (ask) => port.postMessage(ask, [ask.port]),
  };
  let serving: Serving | undefined;

  const carryOut = async (request: ThreadTask): Promise<ThreadReply> => {
    if (request.kind === "serve") {
      serving = await serve(context, request);
      serving.watch.start();
      const stopSteps = serving.stopSteps.map(({ name }) => name);
      const { url, watch } = serving;
      return { kind: "serving", url, stopSteps, isReloadable: watch.isUsed };
    }
    stopping = true;
    await serving?.stopSteps[request.step]?.run(request.remainingMs);
    return { kind: "stopped" };
  };
  port.on("message", (request: ThreadRequest) => {
    if (request.kind === "clusterAnswers") {
      clusterRpc.receive(request);
      return;
    }
    if (request.kind === "metrics") {
      nodeMetrics.receive(request);
      return;
    }
    if (request.kind === "reload") {
      void serving?.watch.reload();
      if (request.logLevel !== undefined) logLevel.configure(request.logLevel);
      return;
    }
    carryOut(request).then(
      (reply) => port.postMessage(reply),
      (error: unknown) => port.postMessage(failed(error)),
    );
  });
}

/** Listens when the storage node has answered: the first request finds it ready. */
async function serve(context: Context, storage: GatewayThreadStorage): Promise<Serving> {
  const { clock, random, logger, data, stopping } = context;
  const node: ClusterNode = {
    id: toNodeId(1),
    address: "",
    zone: "",
    host: "",
    state: NodeState.Up,
    capacityBytes: 0,
  };
  const tracing = await openGatewayTracing(data.edge, { clock, random, logger });
  const { promise: connected, resolve } = Promise.withResolvers<void>();
  const client = new StorageClient({
    map: fullyReplicatedMap(storage.clusterId, [node]),
    clock,
    random,
    tracing,
    connect: ({ id }) =>
      new StreamChannel({
        connector: portConnector(storage.port),
        clusterId: storage.clusterId,
        nodeId: id,
        softwareVersion: VERSION,
        clock,
        random,
        onReadiness: ({ ready, reason }) => {
          if (ready) resolve();
          // The stream does not come back: end, rather than refuse every request from now on.
          else if (!stopping()) throw new Error(reason);
        },
      }),
  });
  await connected;
  const { listen, edge } = data;
  const leader = metaLeader(context, client);
  const directory = await openDirectory(context, leader);
  const serving = await serveHttp({
    program: data.program,
    storage: client,
    cluster: clusterView(context, client, leader),
    directory,
    changes: openChanges(context, client),
    edge,
    clock,
    random,
    logger,
    logLevel: context.logLevel,
    certificates: new CertificateDates(),
    tracing,
    listen,
    started: () => true,
    nodeMetrics: () => context.nodeMetrics.read(),
  });
  const close = { name: "no longer follow the directory", run: () => directory.close() };
  return { ...serving, stopSteps: [...serving.stopSteps, close] };
}

/** The one node is the leader of everything, and near. */
function metaLeader({ clock, random }: Context, client: StorageClient): MetaLeaderOptions {
  const here = "this process";
  return {
    clusterId: () => client.map?.clusterId,
    addresses: () => [here],
    addressOf: () => here,
    whyNone: () => "the cluster map is not known yet",
    clock,
    random,
  };
}

function clusterView(
  { clusterRpc }: Context,
  client: StorageClient,
  leader: MetaLeaderOptions,
): ClusterView {
  const admin = new MetaLeaderAdmin({ ...leader, rpc: clusterRpc });
  return { admin, map: () => client.map, isReachable: (id) => client.isReachable(id) };
}

function openChanges({ ask, clock, random }: Context, client: StorageClient): DirectChanges {
  const give = (port: MessagePort): void => ask({ kind: "openChanges", port });
  return new DirectChanges({
    leaders: client.leaders,
    clusterId: () => client.map?.clusterId,
    connect: () => portChangesConnector(give),
    softwareVersion: VERSION,
    ...{ clock, random },
  });
}

/** Resolves when its rows are known: the first request finds them. */
async function openDirectory(
  { clusterRpc, ask, logger, stopping }: Context,
  leader: MetaLeaderOptions,
): Promise<DirectoryFollower> {
  const { promise: known, resolve } = Promise.withResolvers<void>();
  const give = (port: MessagePort): void => ask({ kind: "followDirectory", port });
  const directory = new DirectoryFollower({
    ...leader,
    rpc: portDirectoryRpc({ cluster: clusterRpc, give }),
    onKnown: resolve,
    onTrouble: (_, reason) => {
      if (!stopping()) logger.warn({ reason }, "cannot follow the directory");
    },
    onListenerFailed: (row, err) =>
      logger.error({ row, err }, "a row of the directory is of no use"),
  });
  directory.start();
  await known;
  return directory;
}

function failed(error: unknown): ThreadReply {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const isConfig = error instanceof ConfigError;
  return { kind: "failed", error, code: typeof code === "string" ? code : undefined, isConfig };
}

runThread();
