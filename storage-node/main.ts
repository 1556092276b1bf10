/** `minikv storage-node`: wires one storage node and its gRPC listener. */
import { readFileSync } from "node:fs";
import { systemClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import { MOVES_AT_ONCE_MAX } from "#shared/limits.ts";
import { systemRandom } from "#shared/random.ts";
import { compactHeapWhenIdle } from "#shared/runtime/compact-heap.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { FileWatch, type WatchedFiles } from "#shared/runtime/file-watch.ts";
import type { GrpcService } from "#shared/runtime/grpc.ts";
import { type GrpcCredentials, loadCredentials } from "#shared/runtime/grpc-credentials.ts";
import { createLogger, type Logger } from "#shared/runtime/log.ts";
import { levelOf, rereadLogLevel } from "#shared/runtime/log-level.ts";
import type { ServerSignals } from "#shared/runtime/server-signals.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { Tracing } from "#shared/tracing.ts";
import { changeLogRetention } from "./changes/settings.ts";
import type { StorageNodeConfig } from "./config.ts";
import type { DataDirectory, Identity } from "./data-directory.ts";
import { openPublisher } from "./events/open-publisher.ts";
import { MemberCandidate, type SelfDescription } from "./meta/bootstrap.ts";
import { CandidateHandler } from "./meta/cluster-handler.ts";
import { soloMembership } from "./meta/founding.ts";
import type { ClusterHandler, DirectoryHandler } from "./meta/peers.ts";
import { readBusMetrics } from "./metrics/bus-metrics.ts";
import { openProbes } from "./metrics/open-probes.ts";
import { nodeEvents, onPeerEvent } from "./node-events.ts";
import { openStorageNode } from "./open-node.ts";
import { openNodeTracing } from "./open-tracing.ts";
import { systemFreeSpace } from "./replica/disk-guard.ts";
import { type ChangesNode, changesService } from "./rpc/changes-service.ts";
import { GrpcClusterPeers } from "./rpc/cluster-client.ts";
import { clusterService } from "./rpc/cluster-service.ts";
import { directoryService } from "./rpc/directory-service.ts";
import { startRpcServer } from "./rpc/server.ts";
import { type ServingNode, storageService } from "./rpc/storage-service.ts";
import { logSlowOperations } from "./slow-operations.ts";
import { GrpcTransport } from "./transport/grpc-transport.ts";
import { type NodeService, nodeService } from "./transport/node-service.ts";

const clock = systemClock();
const random = systemRandom();

/** What the process serves, before and after it has become a member of a cluster. */
type Served = {
  storage: ServingNode | undefined;
  changes: ChangesNode | undefined;
  cluster: ClusterHandler | undefined;
  directory: DirectoryHandler | undefined;
};

type Parts = {
  readonly config: StorageNodeConfig;
  readonly logger: Logger;
  readonly credentials: GrpcCredentials;
  readonly served: Served;
  readonly peers: GrpcClusterPeers;
  readonly links: NodeService;
  /** Under which others reach this node. */
  readonly address: string;
  readonly tracing: Tracing;
};

/** Starts the node and returns once it serves; it runs until a signal. */
export async function runStorageNode(
  config: StorageNodeConfig,
  signals: ServerSignals,
  again?: () => StorageNodeConfig,
): Promise<void> {
  const credentials = loadCredentials(config, (path) => readFileSync(path));
  let nodeId: number | undefined;
  const logger = createLogger({
    ...{ level: config.logLevel, program: "storage-node" },
    fields: () => ({ node: nodeId }),
  });
  const logLevel = levelOf(logger, { clock, configured: config.logLevel });
  const tracing = await openNodeTracing({ clock, random, logger });
  const publisher = await openPublisher({ config, clock, random, logger, tracing });
  const served: Served = {
    ...{ storage: undefined, changes: undefined, cluster: undefined, directory: undefined },
  };
  const links = nodeService();
  // First, so that a node that waits for its cluster is seen to be alive.
  const probes = await openProbes({ config, files: credentials.files, logger, logLevel });
  // Before the node: without a listener no cluster could be founded.
  const rpc = await startRpcServer({
    ...{ listen: formatHostPort(config.listen), credentials: credentials.server, clock },
    services: [...servicesOf(served), links],
  });
  const address = config.advertise === "" ? rpc.address : config.advertise;
  const peers = new GrpcClusterPeers(credentials.channel);
  const shared = { config, logger, credentials, served, peers, links };
  const opened = await open({ ...shared, address, tracing });
  const { node, identity } = opened;
  served.cluster = opened.cluster;
  served.directory = opened.directory;
  nodeId = identity.nodeId;
  const status = () => node.status();
  served.changes = { ...identity, softwareVersion: VERSION, changes: node.changes };
  publisher.start(node.changes.tail, identity);
  const figures = node.operations;
  served.storage = { ...identity, softwareVersion: VERSION, handler: node, figures, status };
  const slow = logSlowOperations(node, { clock, logger, slowMs: config.slowOperationMs });
  const metrics = () => [...opened.metrics(), ...readBusMetrics(publisher.figures())];
  probes.serve({ metrics, isServing: () => node.serving, slow });
  const reread = again && (() => rereadLogLevel(logLevel, again, logger));
  signals.serve(logger, watchFiles(probes.files, logger, reread));
  compactHeapWhenIdle({ clock });
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      { name: "report unready", run: async () => probes.stopping() },
      { name: "hand leadership over", run: (remainingMs) => node.handOver(remainingMs / 4) },
      { name: "close gRPC", run: (remainingMs) => rpc.close(remainingMs / 2) },
      { name: "close the node", run: (remainingMs) => opened.close(remainingMs / 2) },
      ...publisher.stopSteps,
      { name: "close the HTTP listener", run: () => probes.close() },
      { name: "deliver traces", run: (remainingMs) => tracing.close(remainingMs / 2) },
    ],
  });
  logger.info({ ...node.status(), dataDir: config.dataDir }, "storage node serves");
  const http = probes.url === undefined ? "" : `HTTP on ${probes.url}, `;
  process.stdout.write(
    `minikv storage-node ${VERSION} serves gRPC on ${rpc.address}, ` +
      `node ${identity.nodeId} of cluster ${identity.clusterId}, ${http}data in ${config.dataDir}\n`,
  );
}

function servicesOf(served: Served): readonly GrpcService[] {
  const cluster = clusterService(() => {
    if (served.cluster !== undefined) return served.cluster;
    throw new KvError("UNAVAILABLE", "the storage node is starting");
  });
  return [
    storageService({ node: () => served.storage, clock }),
    changesService({ node: () => served.changes, clock }),
    directoryService(() => served.directory),
    cluster,
  ];
}

/**
 * Replaced files are taken over without a restart: by themselves, and at once on SIGHUP.
 *
 * @returns what SIGHUP does; undefined when there is nothing to read again
 */
function watchFiles(
  files: readonly WatchedFiles[],
  logger: Logger,
  reread: (() => void) | undefined,
): (() => void) | undefined {
  const watch = new FileWatch(logger);
  for (const watched of files) watch.add(watched);
  watch.start();
  if (!watch.isUsed && reread === undefined) return undefined;
  return () => {
    void watch.reload();
    reread?.();
  };
}

function open(parts: Parts) {
  const { config, logger, peers, tracing } = parts;
  return openStorageNode({
    dataDirectory: config.dataDir,
    nodeId: config.nodeId === 0 ? undefined : toNodeId(config.nodeId),
    clusterId: config.clusterId,
    engine: config.engine,
    walSegmentSizeBytes: config.walSegmentSizeBytes,
    changeLog: changeLogRetention(config),
    snapshotBytesPerSecond: config.snapshotBytesPerSecond,
    diskReserveBytes: config.diskReserveBytes,
    clock,
    random,
    freeSpace: systemFreeSpace,
    softwareVersion: VERSION,
    tracing,
    cluster: {
      replicationFactor: config.replicationFactor,
      metaReplicas: config.metaReplicas,
      movesAtOnceMax: MOVES_AT_ONCE_MAX,
      rebuildAfterMs: config.rebuildAfterMs,
    },
    describe: (directory) => describe(parts, directory),
    becomeMember: (directory) => becomeMember(parts, directory),
    connect: (identity) => ({ transport: connect(parts, identity), peers }),
    ...nodeEvents(logger),
  });
}

function connect({ logger, credentials, links }: Parts, { clusterId, nodeId }: Identity) {
  const transport = new GrpcTransport({
    clusterId,
    nodeId,
    softwareVersion: VERSION,
    clock,
    random,
    credentials: credentials.channel,
    onEvent: onPeerEvent(logger),
  });
  links.attach(transport);
  return transport;
}

function describe({ config, address }: Parts, { joinToken }: DataDirectory): SelfDescription {
  return {
    address,
    zone: config.zone,
    host: config.hostName,
    capacityBytes: 0,
    joinToken,
    seeds: config.seeds.map(formatHostPort).sort(),
    bootstrapExpect: config.bootstrapExpect,
  };
}

/** An empty directory: this node is a cluster of its own, or founds or joins one with its seeds. */
async function becomeMember(parts: Parts, directory: DataDirectory): Promise<void> {
  const { config, logger, peers, served } = parts;
  const self = describe(parts, directory);
  const clusterId = `${config.clusterId}-${random.fill(new Uint8Array(4)).toHex()}`;
  if (config.seeds.length === 0 && !config.waitForJoin) {
    const nodeId = toNodeId(config.nodeId === 0 ? 1 : config.nodeId);
    await directory.adopt(soloMembership(nodeId, clusterId, self));
    return;
  }
  if (config.nodeId !== 0) {
    throw new KvError(
      "INVALID_ARGUMENT",
      `${directory.path} is empty, so this is not node ${config.nodeId}: a cluster gives every new ` +
        "node a new number. Start it without node-id, or with the directory of that node.",
    );
  }
  const candidate = new MemberCandidate({
    self,
    peers,
    clock,
    clusterId,
    clusterName: config.clusterId,
    replicationFactor: config.replicationFactor,
    metaReplicas: config.metaReplicas,
    adopt: async (membership) => void (await directory.adopt(membership)),
    onWaiting: (reason) => logger.info({ reason }, "waiting for the cluster"),
  });
  served.cluster = new CandidateHandler(self, VERSION, candidate);
  const { nodeId, map } = await candidate.run();
  logger.info({ nodeId, cluster: map.clusterId }, "member of a cluster");
}
