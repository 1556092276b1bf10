/** `minikv gateway`: wires the HTTP gateway to a storage node over gRPC. */
import { readFileSync } from "node:fs";
import { assert } from "#shared/assert.ts";
import { systemClock } from "#shared/clock.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { loadCredentials } from "#shared/runtime/grpc-credentials.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { GatewayConfig } from "./config.ts";
import { serveHttp } from "./serve.ts";
import { StorageClient } from "./storage/client.ts";
import { grpcConnector } from "./storage/grpc-connector.ts";
import { StreamChannel } from "./storage/stream-channel.ts";

/** Starts the gateway and returns once it listens; it runs until a signal. */
export async function runGateway(config: GatewayConfig): Promise<void> {
  const credentials = loadCredentials(config, (path) => readFileSync(path));
  const logger = createLogger({ level: config.logLevel, program: "gateway" });
  const clock = systemClock();
  const random = systemRandom();
  const [node] = config.storage;
  assert(node !== undefined, "the configuration has one storage node");
  const map = fullyReplicatedMap(config.clusterId, [
    {
      // The node's number is not known before it answers; the map only needs one for its own use.
      id: toNodeId(1),
      address: formatHostPort(node),
      zone: "",
      host: node.host,
      state: NodeState.Up,
      capacityBytes: 0,
    },
  ]);
  let connectedOnce = false;
  let stopping = false;
  const storage = new StorageClient({
    map,
    clock,
    random,
    connect: ({ address }) =>
      new StreamChannel({
        connector: grpcConnector(address, credentials.channel),
        clusterId: config.clusterId,
        nodeId: 0,
        softwareVersion: VERSION,
        clock,
        random,
        onReadiness: ({ ready, reason }) => {
          if (ready) {
            connectedOnce = true;
            logger.info({ address }, "storage node connected");
          } else if (!stopping) {
            logger.warn({ address, reason }, "storage node not reachable");
          }
        },
      }),
  });
  const serving = await serveHttp({
    storage,
    clock,
    random,
    logger,
    listen: config.listen,
    started: () => connectedOnce,
  });
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      {
        name: "expect the storage streams to end",
        run: () => {
          stopping = true;
        },
      },
      ...serving.stopSteps,
    ],
  });
  logger.info({ url: serving.url, storage: formatHostPort(node) }, "gateway serves");
  process.stdout.write(
    `minikv gateway ${VERSION} serves ${serving.url}, storage node ${formatHostPort(node)}\n`,
  );
}
