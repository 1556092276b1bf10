/** `minikv storage-node`: wires one storage node and its gRPC listener. */
import { readFileSync } from "node:fs";
import { systemClock } from "#shared/clock.ts";
import { toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { loadCredentials } from "#shared/runtime/grpc-credentials.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { StorageNodeConfig } from "./config.ts";
import { nodeEvents } from "./node-events.ts";
import { openStorageNode } from "./open-node.ts";
import { systemFreeSpace } from "./replica/disk-guard.ts";
import { startRpcServer } from "./rpc/server.ts";
import { storageService } from "./rpc/storage-service.ts";
import { soloTransport } from "./transport/transport.ts";

/** Starts the node and returns once it listens; it runs until a signal. */
export async function runStorageNode(config: StorageNodeConfig): Promise<void> {
  const credentials = loadCredentials(config, (path) => readFileSync(path));
  const logger = createLogger({ level: config.logLevel, program: "storage-node" });
  const clock = systemClock();
  const opened = await openStorageNode({
    dataDirectory: config.dataDir,
    nodeId: toNodeId(config.nodeId),
    clusterId: config.clusterId,
    engine: config.engine,
    walSegmentSizeBytes: config.walSegmentSizeBytes,
    diskReserveBytes: config.diskReserveBytes,
    clock,
    random: systemRandom(),
    transport: soloTransport(),
    freeSpace: systemFreeSpace,
    ...nodeEvents(logger),
  });
  const { node } = opened;
  const service = storageService({
    handler: node,
    status: () => node.status(),
    clusterId: config.clusterId,
    nodeId: toNodeId(config.nodeId),
    softwareVersion: VERSION,
    clock,
  });
  const rpc = await startRpcServer({
    listen: formatHostPort(config.listen),
    credentials: credentials.server,
    services: [service],
    clock,
  });
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      { name: "close gRPC", run: (remainingMs) => rpc.close(remainingMs / 2) },
      { name: "close the node", run: (remainingMs) => opened.close(remainingMs / 2) },
    ],
  });
  logger.info({ ...node.status(), dataDir: config.dataDir }, "storage node serves");
  process.stdout.write(
    `minikv storage-node ${VERSION} serves gRPC on ${rpc.address}, ` +
      `data in ${config.dataDir}\n`,
  );
}
