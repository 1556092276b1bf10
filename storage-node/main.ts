/** `minikv storage-node`: wires one storage node and its gRPC listener. */
import { systemClock } from "#shared/clock.ts";
import { toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { formatHostPort } from "#shared/runtime/config-value.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { StorageNodeConfig } from "./config.ts";
import { nodeEvents } from "./node-events.ts";
import { openStorageNode } from "./open-node.ts";
import { systemFreeSpace } from "./replica/disk-guard.ts";
import { startStorageRpc } from "./rpc/server.ts";
import { soloTransport } from "./transport/transport.ts";

/** Starts the node and returns once it listens; it runs until a signal. */
export async function runStorageNode(config: StorageNodeConfig): Promise<void> {
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
    snapshotBytesPerSecond: config.snapshotBytesPerSecond,
    freeSpace: systemFreeSpace,
    ...nodeEvents(logger),
  });
  const { node } = opened;
  const rpc = await startStorageRpc({
    handler: node,
    status: () => node.status(),
    listen: formatHostPort(config.listen),
    clusterId: config.clusterId,
    nodeId: toNodeId(config.nodeId),
    softwareVersion: VERSION,
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
