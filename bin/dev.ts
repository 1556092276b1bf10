/**
 * `minikv dev`: gateway and storage node in one process, each with a thread of its own.
 *
 * The only module that knows both sides. It is the same code behind the same interfaces: every write
 * goes through a Raft group, the synced log and the engine, and between the threads goes the same
 * protocol as between processes, over a message port instead of gRPC.
 */
import { MessageChannel } from "node:worker_threads";
import { authText, curlAuth } from "#gateway/auth/settings.ts";
import { edgeConfigOf } from "#gateway/edge-settings.ts";
import { GatewayThread } from "#gateway/thread.ts";
import { systemClock } from "#shared/clock.ts";
import { toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { compactHeapWhenIdle } from "#shared/runtime/compact-heap.ts";
import { endAtOnce } from "#shared/runtime/exit.ts";
import { createLogger, type Logger, type LogLevel } from "#shared/runtime/log.ts";
import { joinMetrics } from "#shared/runtime/metrics.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import { ProcessMetrics } from "#shared/runtime/process-metrics.ts";
import type { ServerSignals } from "#shared/runtime/server-signals.ts";
import { EXIT_FAILURE, runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { changeLogRetention } from "#storage-node/changes/settings.ts";
import { type NodePublisher, openPublisher } from "#storage-node/events/open-publisher.ts";
import { readBusMetrics } from "#storage-node/metrics/bus-metrics.ts";
import { nodeEvents } from "#storage-node/node-events.ts";
import type { OpenNode } from "#storage-node/open-node.ts";
import { type OpenSoloOptions, openSoloNode } from "#storage-node/open-solo.ts";
import { openNodeTracing } from "#storage-node/open-tracing.ts";
import { systemFreeSpace } from "#storage-node/replica/disk-guard.ts";
import { serveChangesPort, serveStoragePort } from "#storage-node/rpc/port.ts";
import { logSlowOperations } from "#storage-node/slow-operations.ts";
import type { DevConfig } from "./dev-config.ts";

const PROGRAM = "dev";
const NODE_ID = toNodeId(1);

/** Starts the all-in-one and returns once it listens; it runs until a signal. */
export async function runDev(
  config: DevConfig,
  signals: ServerSignals,
  again?: () => DevConfig,
): Promise<void> {
  const logger = createLogger({ level: config.logLevel, program: PROGRAM });
  const clock = systemClock();
  const random = systemRandom();
  const tracing = await openNodeTracing({ clock, random, logger });
  const publisher = await openPublisher({ config, clock, random, logger, tracing });
  // First, so that it loads its code while the node opens its files.
  const gateway = new GatewayThread({
    listen: config.listen,
    edge: edgeConfigOf(config),
    logLevel: config.logLevel,
    program: PROGRAM,
    onLogLevel: (level) => {
      logger.level = level;
    },
    onDeath: (err) => {
      logger.fatal({ err }, "the gateway cannot go on; ending the process");
      endAtOnce(EXIT_FAILURE);
    },
  });
  const opened = await openNode(config, { clock, random, tracing, ...nodeEvents(logger) });
  const { node, cluster, directory } = opened;
  const { clusterId } = node.status();
  publisher.start(node.changes.tail, opened.identity);
  const ports = new MessageChannel();
  const identity = { clusterId, nodeId: NODE_ID, softwareVersion: VERSION };
  const figures = node.operations;
  const slow = logSlowOperations(node, { clock, logger, slowMs: config.slowOperationMs });
  const ofThread = new ProcessMetrics({
    ...{ program: PROGRAM, thread: "storage-node", ofProcess: false },
    slow: () => slow.total,
  });
  serveStoragePort({ port: ports.port1, handler: node, clock, figures, ...identity });
  const serving = await gateway.serve(
    { port: ports.port2, clusterId },
    {
      status: async () => cluster.status(),
      change: (request) => cluster.change(request),
      changeDirectory: (request) => directory.changeDirectory(request),
      followDirectory: (port) => directory.follow(new PortStream(port)),
      metrics: () => metricsOf(ofThread, opened, publisher),
      openChanges: (port) => serveChangesPort({ port, changes: node.changes, ...identity }),
    },
  );
  compactHeapWhenIdle({ clock });
  // Signals reach the main thread alone.
  const isReloadable = serving.isReloadable || again !== undefined;
  signals.serve(logger, isReloadable ? () => serving.reload(levelOf(again, logger)) : undefined);
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      ...serving.stopSteps,
      { name: "close the storage node", run: (remainingMs) => opened.close(remainingMs * 0.8) },
      ...publisher.stopSteps,
      { name: "deliver traces", run: (remainingMs) => tracing.close(remainingMs * 0.8) },
    ],
  });
  logger.info({ ...node.status(), url: serving.url, dataDir: config.dataDir }, "minikv serves");
  process.stdout.write(banner(serving.url, config));
}

function banner(url: string, config: DevConfig): string {
  const auth = curlAuth(config, config.listen);
  return `minikv ${VERSION} serves ${url}
data in ${config.dataDir} (${config.engine}), every answered write is on disk
${authText(config, config.listen)}${auth && ", and the first start prints a root key where none is set"}

Try it:
  curl -X PUT${auth} ${url}/v1/kv/hello -H 'Content-Type: text/plain' --data-binary 'world'
  curl -i${auth} ${url}/v1/kv/hello
  curl -i -X DELETE${auth} ${url}/v1/kv/hello

Stop with Ctrl-C.
`;
}

const metricsOf = async (
  ofThread: ProcessMetrics,
  opened: Pick<OpenNode, "metrics">,
  publisher: NodePublisher,
) => joinMetrics([await ofThread.read(), opened.metrics(), readBusMetrics(publisher.figures())]);

type Given = Pick<OpenSoloOptions, "clock" | "random" | "tracing"> & ReturnType<typeof nodeEvents>;

const openNode = (config: DevConfig, given: Given) =>
  openSoloNode({
    dataDirectory: config.dataDir,
    nodeId: NODE_ID,
    clusterId: undefined,
    engine: config.engine,
    walSegmentSizeBytes: config.walSegmentSizeBytes,
    changeLog: changeLogRetention(config),
    diskReserveBytes: config.diskReserveBytes,
    softwareVersion: VERSION,
    freeSpace: systemFreeSpace,
    ...given,
  });

/** As the configuration says it now; undefined without a file, and when it cannot be read. */
function levelOf(again: (() => DevConfig) | undefined, logger: Logger): LogLevel | undefined {
  try {
    return again?.().logLevel;
  } catch (err) {
    const reason = err instanceof Error ? err.message : String(err);
    logger.error({ reason }, "the configuration cannot be read again, nothing is changed");
    return undefined;
  }
}
