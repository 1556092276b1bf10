/** Nodes and gateways as the bus knows them, in this process, on a real NATS server. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { NatsLive } from "#gateway/watch/nats-live.ts";
import type { ChangeBatch } from "#proto/codec/change-messages.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import { type Revision, Space, toNodeId, toTenantId, type VshardId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { type NatsConfig, natsSettings } from "#shared/runtime/nats-settings.ts";
import { openBus } from "#shared/runtime/open-bus.ts";
import { type ChangeSink, Publisher } from "#storage-node/events/publisher.ts";
import { NatsServer, type NatsServerOptions } from "#test/processes/nats-server.ts";

export const CLUSTER = "minikv-1";
export const SEVEN = 7 as VshardId;

const clock = systemClock();
const random = systemRandom();
const DEFAULTS = Object.fromEntries(
  Object.entries(natsSettings).map(([name, setting]) => [name, setting.default]),
) as NatsConfig;

/** A directory that is removed at the end of the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "minikv-bus-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** That only its owner can read. */
export function secretFile(text: string): string {
  const path = join(temporaryDirectory(), "secret");
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

export async function startNats(options?: NatsServerOptions): Promise<NatsServer> {
  const server = await NatsServer.start(options);
  onTestFinished(() => server.close());
  return server;
}

export const configOf = (server: NatsServer, more: Partial<NatsConfig> = {}): NatsConfig => ({
  ...DEFAULTS,
  natsUrl: server.url,
  ...more,
});

/** With all that it has logged. */
export async function open(config: NatsConfig) {
  const lines: string[] = [];
  const logger = createLogger({ level: "info", program: "t", write: (line) => lines.push(line) });
  const opened = (await openBus({ config, name: "test", clock, random, logger }))!;
  onTestFinished(() => opened.close(100));
  const messages = () => lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  return { ...opened, lines, messages };
}

export const batchOf = (previousRevision: number, count = 1, valueBytes = 0): ChangeBatch => ({
  vshard: SEVEN,
  previousRevision: previousRevision as Revision,
  changes: Array.from({ length: count }, (_, at) => ({
    kind: 1,
    tenant: toTenantId(1),
    space: Space.Kv,
    key: utf8(`key-${previousRevision + 1 + at}`),
    revision: (previousRevision + 1 + at) as Revision,
    previousRevision: 0 as Revision,
    valueSizeBytes: valueBytes,
    expiresAtMs: 0,
    timeMs: 1,
    transactionId: EMPTY_BYTES,
    value:
      valueBytes === 0
        ? undefined
        : { value: new Uint8Array(valueBytes), encoding: 0, contentType: "" },
    traceContext: EMPTY_BYTES,
  })),
});

/** A node that leads vshard 7, and applies when it is told to. */
export async function startNode(config: NatsConfig, clusterId = CLUSTER) {
  const bus = await open(config);
  let sink: ChangeSink | undefined;
  let revision = 0;
  const publisher = new Publisher({
    bus: bus.bus,
    tail: {
      subscribe: (given) => {
        sink = given;
        return () => {};
      },
      heads: () => [{ vshard: SEVEN, revision: revision as Revision }],
    },
    ...{ nodeId: toNodeId(1), clusterId, clock },
  });
  publisher.start();
  bus.start();
  onTestFinished(() => publisher.stop());
  const apply = (count = 1, valueBytes = 0): void => {
    sink!.onFresh(batchOf(revision, count, valueBytes));
    revision += count;
  };
  return { bus, publisher, apply };
}

/** Listens to vshard 7. */
export async function startGateway(config: NatsConfig) {
  const bus = await open(config);
  const live = new NatsLive({
    bus: bus.bus,
    open: bus.start,
    close: () => bus.close(100),
    clusterId: () => CLUSTER,
    clock,
  });
  const batches: ChangeBatch[] = [];
  let head = 0;
  live.start({
    onBatch: (batch) => batches.push(batch),
    onHead: (_, revision) => {
      head = Math.max(head, revision);
    },
  });
  live.listen(SEVEN);
  onTestFinished(() => live.close());
  const revisions = () =>
    batches.flatMap(({ changes }) => changes.map((change) => change.revision as number));
  return { bus, live, batches, revisions, head: () => head };
}
