/**
 * `minikv dev`: gateway and storage node in one process, wired through a call instead of gRPC.
 *
 * The only module that knows both sides. It is the same code behind the same interfaces: every write
 * goes through a Raft group, the synced log and the engine.
 */
import { createApp } from "#gateway/app.ts";
import type { ServicePhase } from "#gateway/info/routes.ts";
import { startHttpServer } from "#gateway/server.ts";
import { StorageClient } from "#gateway/storage/client.ts";
import { LocalChannel } from "#gateway/storage/local-channel.ts";
import { systemClock } from "#shared/clock.ts";
import { NodeState, singleNodeMap } from "#shared/cluster-map.ts";
import { toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { runUntilSignal } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { nodeEvents } from "#storage-node/node-events.ts";
import { openStorageNode } from "#storage-node/open-node.ts";
import { systemFreeSpace } from "#storage-node/replica/disk-guard.ts";
import { soloTransport } from "#storage-node/transport/transport.ts";
import type { DevConfig } from "./dev-config.ts";

const NODE_ID = toNodeId(1);

/** Starts the all-in-one and returns once it listens; it runs until a signal. */
export async function runDev(config: DevConfig): Promise<void> {
  const logger = createLogger({ level: config.logLevel, program: "dev" });
  const clock = systemClock();
  const random = systemRandom();
  const opened = await openStorageNode({
    dataDirectory: config.dataDir,
    nodeId: NODE_ID,
    clusterId: undefined,
    engine: config.engine,
    walSegmentSizeBytes: config.walSegmentSizeBytes,
    diskReserveBytes: config.diskReserveBytes,
    clock,
    random,
    transport: soloTransport(),
    freeSpace: systemFreeSpace,
    ...nodeEvents(logger),
  });
  const { node } = opened;
  const readiness = () =>
    node.serving
      ? { ready: true, reason: "" }
      : { ready: false, reason: "the storage node is starting or stopping" };
  const storage = new StorageClient({
    map: singleNodeMap(node.status().clusterId, {
      id: NODE_ID,
      address: "",
      zone: "",
      host: "",
      state: NodeState.Up,
    }),
    clock,
    random,
    connect: () => new LocalChannel({ handler: node, readiness, clock }),
  });
  let phase: ServicePhase = "serving";
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
        run: async (remainingMs) => void (await server.close(remainingMs * 0.6)),
      },
      { name: "close the storage client", run: (remainingMs) => storage.close(remainingMs * 0.5) },
      { name: "close the storage node", run: (remainingMs) => opened.close(remainingMs * 0.8) },
    ],
  });
  logger.info({ ...node.status(), url: server.url, dataDir: config.dataDir }, "minikv serves");
  process.stdout.write(banner(server.url, config));
}

function banner(url: string, config: DevConfig): string {
  return `minikv ${VERSION} serves ${url}
data in ${config.dataDir} (${config.engine}), every answered write is on disk

Try it:
  curl -X PUT ${url}/v1/kv/hello -H 'Content-Type: text/plain' --data-binary 'world'
  curl -i ${url}/v1/kv/hello
  curl -i -X DELETE ${url}/v1/kv/hello

Stop with Ctrl-C.
`;
}
