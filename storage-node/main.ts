/** `minikv storage-node`: wires one storage node and its gRPC listener. */
import { readFileSync } from "node:fs";
import { systemClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import { MOVES_AT_ONCE_MAX } from "#shared/limits.ts";
import { systemRandom } from "#shared/random.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { loadCredentials } from "#shared/runtime/grpc-credentials.ts";
import { createLogger, type Logger } from "#shared/runtime/log.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { StorageNodeConfig } from "./config.ts";
import type { DataDirectory } from "./data-directory.ts";
import { MemberCandidate, type SelfDescription } from "./meta/bootstrap.ts";
import { CandidateHandler } from "./meta/cluster-handler.ts";
import { soloMembership } from "./meta/founding.ts";
import type { ClusterHandler } from "./meta/peers.ts";
import { nodeEvents } from "./node-events.ts";
import { type OpenNodeOptions, openStorageNode } from "./open-node.ts";
import { systemFreeSpace } from "./replica/disk-guard.ts";
import { GrpcClusterPeers } from "./rpc/cluster-client.ts";
import { clusterService } from "./rpc/cluster-service.ts";
import { type ServingNode, startStorageRpc } from "./rpc/server.ts";
import { soloTransport } from "./transport/transport.ts";

/** Starts the node and returns once it serves; it runs until a signal. */
export async function runStorageNode(config: StorageNodeConfig): Promise<void> {
  const credentials = loadCredentials(config, (path) => readFileSync(path));
  const logger = createLogger({ level: config.logLevel, program: "storage-node" });
  const clock = systemClock();
  const random = systemRandom();
  let serving: ServingNode | undefined;
  let cluster: ClusterHandler | undefined;
  const rpc = await startStorageRpc({
    node: () => serving,
    services: [
      clusterService(() => {
        if (cluster === undefined) throw new KvError("UNAVAILABLE", "the node is starting");
        return cluster;
      }),
    ],
    credentials: credentials.server,
    listen: formatHostPort(config.listen),
    clock,
  });
  const address = config.advertise === "" ? rpc.address : config.advertise;
  const peers = new GrpcClusterPeers(credentials.channel);
  const describe = (directory: DataDirectory): SelfDescription => ({
    address,
    zone: config.zone,
    host: config.hostName,
    capacityBytes: 0,
    joinToken: directory.joinToken,
    seeds: config.seeds.map(formatHostPort).sort(),
    bootstrapExpect: config.bootstrapExpect,
  });
  const options: OpenNodeOptions = {
    dataDirectory: config.dataDir,
    nodeId: config.nodeId === 0 ? undefined : toNodeId(config.nodeId),
    clusterId: config.clusterId,
    engine: config.engine,
    walSegmentSizeBytes: config.walSegmentSizeBytes,
    diskReserveBytes: config.diskReserveBytes,
    clock,
    random,
    freeSpace: systemFreeSpace,
    softwareVersion: VERSION,
    cluster: {
      replicationFactor: config.replicationFactor,
      metaReplicas: config.metaReplicas,
      movesAtOnceMax: MOVES_AT_ONCE_MAX,
      rebuildAfterMs: config.rebuildAfterMs,
    },
    describe,
    becomeMember: (directory) =>
      becomeMember(directory, {
        config,
        self: describe(directory),
        peers,
        logger,
        candidateId: `${config.clusterId}-${random.fill(new Uint8Array(4)).toHex()}`,
        onCandidate: (handler) => {
          cluster = handler;
        },
      }),
    connect: () => ({ transport: soloTransport(), peers }),
    ...nodeEvents(logger),
  };
  const opened = await openStorageNode(options);
  const { node, identity } = opened;
  cluster = opened.cluster;
  serving = { ...identity, softwareVersion: VERSION, handler: node, status: () => node.status() };
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      { name: "hand leadership over", run: (remainingMs) => node.handOver(remainingMs / 4) },
      { name: "close gRPC", run: (remainingMs) => rpc.close(remainingMs / 2) },
      { name: "close the node", run: (remainingMs) => opened.close(remainingMs / 2) },
    ],
  });
  logger.info({ ...node.status(), dataDir: config.dataDir }, "storage node serves");
  process.stdout.write(
    `minikv storage-node ${VERSION} serves gRPC on ${rpc.address}, ` +
      `node ${identity.nodeId} of cluster ${identity.clusterId}, data in ${config.dataDir}\n`,
  );
}

/** An empty directory: this node is a cluster of its own, or founds or joins one with its seeds. */
async function becomeMember(
  directory: DataDirectory,
  parts: {
    readonly config: StorageNodeConfig;
    readonly self: SelfDescription;
    readonly peers: GrpcClusterPeers;
    readonly logger: Logger;
    readonly candidateId: string;
    readonly onCandidate: (handler: ClusterHandler) => void;
  },
): Promise<void> {
  const { config, self, peers, logger, candidateId } = parts;
  if (config.seeds.length === 0) {
    const nodeId = toNodeId(config.nodeId === 0 ? 1 : config.nodeId);
    await directory.adopt(soloMembership(nodeId, candidateId, self));
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
    clock: systemClock(),
    clusterId: candidateId,
    replicationFactor: config.replicationFactor,
    metaReplicas: config.metaReplicas,
    adopt: async (membership) => void (await directory.adopt(membership)),
    onWaiting: (reason) => logger.info({ reason }, "waiting for the cluster"),
  });
  parts.onCandidate(new CandidateHandler(self, VERSION, candidate));
  const { nodeId, map } = await candidate.run();
  const { clusterId } = map;
  logger.info({ nodeId, clusterId, founded: map.version === 0 }, "member of a cluster");
}
