/** `minikv gateway`: wires the HTTP gateway to the storage nodes of a cluster over gRPC. */
import { readFileSync } from "node:fs";
import { systemClock } from "#shared/clock.ts";
import { type ClusterMap, nodesOfPlacement } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { CertificateDates } from "#shared/runtime/certificate-dates.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { type GrpcCredentials, loadCredentials } from "#shared/runtime/grpc-credentials.ts";
import { createLogger, type Logger } from "#shared/runtime/log.ts";
import { levelOf, rereadLogLevel } from "#shared/runtime/log-level.ts";
import type { ServerSignals } from "#shared/runtime/server-signals.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { Tracing } from "#shared/tracing.ts";
import { authText } from "./auth/settings.ts";
import { MetaLeaderAdmin } from "./cluster/cluster-admin.ts";
import type { ClusterView } from "./cluster/cluster-view.ts";
import { grpcClusterRpc, grpcWatchMap } from "./cluster/grpc-cluster-rpc.ts";
import { MapFollower } from "./cluster/map-follower.ts";
import type { GatewayConfig } from "./config.ts";
import { DirectoryFollower } from "./directory/directory-follower.ts";
import { grpcDirectoryRpc } from "./directory/grpc-directory-rpc.ts";
import { edgeConfigOf } from "./edge-settings.ts";
import { serveHttp } from "./serve.ts";
import { StorageClient } from "./storage/client.ts";
import { grpcConnector } from "./storage/grpc-connector.ts";
import { StreamChannel } from "./storage/stream-channel.ts";
import { openGatewayTracing } from "./tracing/open-tracing.ts";
import { DirectChanges } from "./watch/direct-changes.ts";
import { grpcChangesConnector } from "./watch/grpc-changes-connector.ts";

/** Starts the gateway and returns once it listens; it runs until a signal. */
export async function runGateway(
  config: GatewayConfig,
  signals: ServerSignals,
  again?: () => GatewayConfig,
): Promise<void> {
  const tls = loadCredentials(config, (path) => readFileSync(path));
  const { channel: credentials } = tls;
  const logger = createLogger({ level: config.logLevel, program: "gateway" });
  const clock = systemClock();
  const random = systemRandom();
  const logLevel = levelOf(logger, { clock, configured: config.logLevel });
  const certificates = new CertificateDates();
  const tracing = await openGatewayTracing(config, { clock, random, logger });
  const seeds = config.storage.map(formatHostPort);
  const { storage, cluster, directory, changes, started, stop } = openCluster({
    seeds,
    clusterName: config.clusterId,
    credentials,
    clock,
    random,
    logger,
    tracing,
  });
  const serving = await serveHttp({
    program: "gateway",
    storage,
    cluster,
    directory,
    changes,
    edge: edgeConfigOf(config),
    clock,
    random,
    logger,
    ...{ logLevel, certificates },
    tracing,
    listen: config.listen,
    started,
  });
  const { watch } = serving;
  if (tls.files !== undefined) watch.add(certificates.watched("cluster", tls.files));
  watch.start();
  const reload = (): void => {
    void watch.reload();
    rereadLogLevel(logLevel, again, logger);
  };
  signals.serve(logger, watch.isUsed || again !== undefined ? reload : undefined);
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      { name: "no longer follow the cluster", run: stop },
      ...serving.stopSteps,
      { name: "no longer follow the directory", run: () => directory.close() },
    ],
  });
  const nodes =
    seeds.length === 1 ? `storage node ${seeds[0]}` : `storage nodes ${seeds.join(",")}`;
  logger.info({ url: serving.url, storage: seeds.join(",") }, "gateway serves");
  const auth = authText(config, config.listen);
  process.stdout.write(`minikv gateway ${VERSION} serves ${serving.url}, ${nodes}, ${auth}\n`);
}

type ClusterOptions = {
  readonly seeds: readonly string[];
  readonly clusterName: string;
  readonly credentials: GrpcCredentials["channel"];
  readonly clock: ReturnType<typeof systemClock>;
  readonly random: ReturnType<typeof systemRandom>;
  readonly logger: Logger;
  readonly tracing: Tracing;
};

type OpenedCluster = {
  readonly storage: StorageClient;
  readonly cluster: ClusterView;
  readonly directory: DirectoryFollower;
  readonly changes: DirectChanges;
  /** Whether a storage node has been connected once. */
  readonly started: () => boolean;
  /** The map stays as it is, and streams that end are no news any more. */
  readonly stop: () => void;
};

function openCluster(options: ClusterOptions): OpenedCluster {
  const { seeds, clusterName, credentials, clock, random, logger, tracing } = options;
  let connectedOnce = false;
  let stopping = false;
  const follower = new MapFollower({
    seeds,
    clusterName,
    watch: grpcWatchMap(credentials),
    clock,
    random,
    onMap: (map) => {
      const { version, nodes } = map;
      logger.debug({ version, nodes: nodes.length, clusterId: map.clusterId }, "new cluster map");
      storage.setMap(map);
    },
    onTrouble: (address, reason) => {
      if (!stopping) logger.warn({ address, reason }, "cannot follow the cluster map there");
    },
  });
  const storage = new StorageClient({
    clock,
    random,
    tracing,
    onUnknownNode: () => follower.lookElsewhere(),
    whyNoMap: () => follower.problem,
    connect: (node, id) =>
      new StreamChannel({
        connector: grpcConnector(node.address, credentials),
        clusterId: id,
        nodeId: node.id,
        softwareVersion: VERSION,
        clock,
        random,
        onReadiness: ({ ready, reason }) => {
          const { address } = node;
          if (ready) {
            connectedOnce = true;
            logger.info({ node: node.id, address }, "storage node connected");
          } else if (!stopping) {
            logger.warn({ node: node.id, address, reason }, "storage node not reachable");
          }
        },
      }),
  });
  const { admin, directory } = openMetaLeader(storage, {
    ...options,
    whyNone: () => follower.problem,
    isStopping: () => stopping,
  });
  follower.start();
  directory.start();
  return {
    storage,
    directory,
    changes: openChanges(storage, options),
    cluster: {
      admin,
      map: () => storage.map,
      isReachable: (node: NodeId) => storage.isReachable(node),
    },
    started: () => connectedOnce,
    stop: () => {
      stopping = true;
      follower.close();
    },
  };
}

function openChanges(
  storage: StorageClient,
  { credentials, clock, random }: Pick<ClusterOptions, "credentials" | "clock" | "random">,
): DirectChanges {
  return new DirectChanges({
    leaders: storage.leaders,
    clusterId: () => storage.map?.clusterId,
    connect: ({ address }) => grpcChangesConnector(address, credentials),
    softwareVersion: VERSION,
    ...{ clock, random },
  });
}

/** What only the leader of the meta group answers. */
function openMetaLeader(
  storage: StorageClient,
  options: Omit<ClusterOptions, "seeds" | "clusterName"> & {
    readonly whyNone: () => string;
    readonly isStopping: () => boolean;
  },
) {
  const { credentials, clock, random, logger, whyNone, isStopping } = options;
  const shared = {
    clusterId: () => storage.map?.clusterId,
    addressOf: (id: number) => storage.map?.nodes.find((node) => node.id === id)?.address,
    whyNone,
    clock,
    random,
  };
  const admin = new MetaLeaderAdmin({
    ...shared,
    rpc: grpcClusterRpc(credentials),
    // Not the seeds: one of them could belong to another cluster.
    addresses: () => storage.map?.nodes.map(({ address }) => address).filter(Boolean) ?? [],
  });
  const directory = new DirectoryFollower({
    ...shared,
    rpc: grpcDirectoryRpc(credentials),
    addresses: () => (storage.map === undefined ? [] : metaAddresses(storage.map)),
    onTrouble: (address, reason) => {
      if (!isStopping()) logger.info({ address, reason }, "cannot follow the directory there");
    },
    onListenerFailed: (row, err) =>
      logger.error({ row, err }, "a row of the directory is of no use"),
  });
  return { admin, directory };
}

/** Of the nodes that may lead the meta group. */
function metaAddresses({ nodes, meta }: ClusterMap): readonly string[] {
  const members = new Set(nodesOfPlacement(meta));
  return nodes.flatMap(({ id, address }) => (members.has(id) && address !== "" ? [address] : []));
}
