/**
 * `minikv dev`: gateway and storage node in one process, wired through a call instead of gRPC.
 *
 * The only module that knows both sides. It is the same code behind the same interfaces: every write
 * goes through a Raft group, the synced log and the engine.
 */
import { serveHttp } from "#gateway/serve.ts";
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
  const serving = await serveHttp({
    storage,
    clock,
    random,
    logger,
    listen: config.listen,
    // An open node serves.
    started: () => true,
  });
  runUntilSignal({
    logger,
    timeoutMs: config.shutdownTimeoutMs,
    steps: [
      ...serving.stopSteps,
      { name: "close the storage node", run: (remainingMs) => opened.close(remainingMs * 0.8) },
    ],
  });
  logger.info({ ...node.status(), url: serving.url, dataDir: config.dataDir }, "minikv serves");
  process.stdout.write(banner(serving.url, config));
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
