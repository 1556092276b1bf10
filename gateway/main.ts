/** `minikv gateway`: wires the HTTP gateway to a storage node over gRPC. */
import { assert } from "#shared/assert.ts";
import { systemClock } from "#shared/clock.ts";
import { NodeState, singleNodeMap } from "#shared/cluster-map.ts";
import { toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { createApp } from "./app.ts";
import type { GatewayConfig } from "./config.ts";
import type { ServicePhase } from "./info/routes.ts";
import { startHttpServer } from "./server.ts";
import { StorageClient } from "./storage/client.ts";
import { GrpcChannel } from "./storage/grpc-channel.ts";

/** Starts the gateway and returns once it listens; it runs until a signal. */
export async function runGateway(config: GatewayConfig): Promise<void> {
  const logger = createLogger({ level: config.logLevel, program: "gateway" });
  const clock = systemClock();
  const random = systemRandom();
  const [node] = config.storage;
  assert(node !== undefined, "the configuration has one storage node");
  const map = singleNodeMap(config.clusterId, {
    // The node's number is not known before it answers; the map only needs one for its own use.
    id: toNodeId(1),
    address: formatHostPort(node),
    zone: "",
    host: node.host,
    state: NodeState.Up,
  });
  // Until storage has answered once there is nothing that could be served.
  let phase: ServicePhase = "starting";
  const storage = new StorageClient({
    map,
    clock,
    random,
    connect: ({ address }) =>
      new GrpcChannel({
        address,
        clusterId: config.clusterId,
        nodeId: 0,
        softwareVersion: VERSION,
        clock,
        random,
        onReadiness: ({ ready, reason }) => {
          if (ready && phase === "starting") phase = "serving";
          if (ready) logger.info({ address }, "storage node connected");
          else if (phase !== "stopping") {
            logger.warn({ address, reason }, "storage node not reachable");
          }
        },
      }),
  });
  const app = createApp({
    storage,
    clock,
    random,
    version: VERSION,
    phase: () => phase,
    reportFailure: ({ requestId, method, error }) =>
      logger.error({ request_id: requestId, method, err: error }, "a request failed"),
  });
  const server = await startHttpServer({ app, listen: config.listen });
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      {
        name: "report unready",
        run: () => {
          phase = "stopping";
        },
      },
      {
        name: "close the HTTP listener",
        run: async (remainingMs) => void (await server.close(remainingMs * 0.7)),
      },
      { name: "close the storage streams", run: (remainingMs) => storage.close(remainingMs) },
    ],
  });
  logger.info({ url: server.url, storage: formatHostPort(node) }, "gateway serves");
  process.stdout.write(
    `minikv gateway ${VERSION} serves ${server.url}, storage node ${formatHostPort(node)}\n`,
  );
}
