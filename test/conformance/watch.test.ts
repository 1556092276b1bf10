/**
 * The gateway's watches over a real storage node, through gRPC and through a message port: what is written through
 * the storage client comes back as events.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MessageChannel } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { StorageClient } from "#gateway/storage/client.ts";
import { portConnector } from "#gateway/storage/port-connector.ts";
import { StreamChannel } from "#gateway/storage/stream-channel.ts";
import type { ChangesConnector } from "#gateway/watch/changes-link.ts";
import { DirectChanges } from "#gateway/watch/direct-changes.ts";
import { grpcChangesConnector } from "#gateway/watch/grpc-changes-connector.ts";
import { openWatch } from "#gateway/watch/open-watch.ts";
import { portChangesConnector } from "#gateway/watch/port-changes-connector.ts";
import type { ResumeToken } from "#gateway/watch/resume-token.ts";
import { FakeClient, query } from "#gateway/watch/testing.ts";
import { utf8 } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import { fullyReplicatedMap } from "#shared/cluster-map.ts";
import { DEFAULT_TENANT, type NodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { insecureCredentials } from "#shared/runtime/grpc-credentials.ts";
import { openSoloNode } from "#storage-node/open-solo.ts";
import { changesService } from "#storage-node/rpc/changes-service.ts";
import { serveChangesPort, serveStoragePort } from "#storage-node/rpc/port.ts";
import { startRpcServer } from "#storage-node/rpc/server.ts";

const clock = systemClock();
const random = systemRandom();
const NODE = 1 as NodeId;
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function openNode() {
  const dataDirectory = mkdtempSync(join(tmpdir(), "minikv-watch-"));
  cleanups.push(() => rmSync(dataDirectory, { recursive: true }));
  const opened = await openSoloNode({
    ...{ dataDirectory, nodeId: NODE, clusterId: undefined, engine: "memory", clock, random },
    ...{ walSegmentSizeBytes: 8 << 20, diskReserveBytes: 0, softwareVersion: "test" },
    freeSpace: (_path, done) => done(null, 2 ** 40),
    onFatal: (error) => {
      throw error;
    },
    onWritable: () => {},
  });
  cleanups.push(() => opened.close(1_000));
  const { clusterId } = opened.node.status();
  const identity = { clusterId, nodeId: NODE, softwareVersion: "test" };
  const map = fullyReplicatedMap(clusterId, [
    { id: NODE, address: "", zone: "", host: "", state: "up", capacityBytes: 0 },
  ]);
  const { port1, port2 } = new MessageChannel();
  serveStoragePort({ port: port1, handler: opened.node, clock, ...identity });
  const storage = new StorageClient({
    ...{ map, clock, random },
    connect: () =>
      new StreamChannel({ ...identity, connector: portConnector(port2), clock, random }),
  });
  cleanups.push(() => storage.close(1_000));
  await until(() => storage.readiness().ready);
  return { node: opened.node, identity, storage };
}

type Node = Awaited<ReturnType<typeof openNode>>;

async function overGrpc({ node, identity }: Node): Promise<ChangesConnector> {
  const server = await startRpcServer({
    ...{ listen: "127.0.0.1:0", credentials: insecureCredentials().server, clock },
    services: [changesService({ node: () => ({ ...identity, changes: node.changes }), clock })],
  });
  cleanups.push(() => server.close(0));
  return grpcChangesConnector(server.address, insecureCredentials().channel);
}

async function overPort({ node, identity }: Node): Promise<ChangesConnector> {
  return portChangesConnector((port) => {
    serveChangesPort({ port, changes: node.changes, ...identity });
  });
}

async function openGateway({ storage, identity }: Node, connect: () => Promise<ChangesConnector>) {
  const connector = await connect();
  const changes = new DirectChanges({
    ...{ leaders: storage.leaders, clusterId: () => identity.clusterId, clock, random },
    ...{ connect: () => connector, softwareVersion: "test" },
  });
  const opened = openWatch({
    ...{ changes, storage, clock, random, clusterId: () => identity.clusterId },
    open: (_, { value }) => value,
  });
  cleanups.push(() => opened.stopStep.run(0));
  return { ...opened, follows: () => changes.figures().followsConfirmed };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

const deadline = () => clock.nowMs() + 10_000;

const put = ({ storage }: Node, key: string, value: string) =>
  storage.put(
    { tenant: DEFAULT_TENANT, key: utf8(key) },
    { value: utf8(value), contentType: "text/plain", ttlMs: 0 },
    { deadlineMs: deadline() },
  );

describe.each([
  ["gRPC", overGrpc],
  ["a message port", overPort],
] as const)("watches over %s", (_, carrier) => {
  it("see what is written, in order per key, and go on from a token elsewhere", async () => {
    const node = await openNode();
    const { watches, figures, follows } = await openGateway(node, () => carrier(node));
    await put(node, "before", "x");
    const client = new FakeClient();
    const from = { since: undefined, isReconnect: false };
    const watch = await watches.open(query({ values: true }), from, client, deadline());
    // What is written before comes from the change log, without its value.
    await until(() => follows() === 256);
    const written: Promise<unknown>[] = [];
    for (let i = 0; i < 200; i++) written.push(put(node, `key-${i % 40}`, `value-${i}`));
    await Promise.all(written);
    await until(() => client.events().filter(({ name }) => name === "put").length === 200);
    const seen = client.events().filter(({ name }) => name === "put");
    for (let key = 0; key < 40; key++) {
      const values = seen.flatMap(({ data }) => (data.key === `key-${key}` ? [data.value] : []));
      expect(values).toEqual([0, 1, 2, 3, 4].map((turn) => `value-${turn * 40 + key}`));
    }
    expect(figures()).toMatchObject({ gaps: 0, vshardsListened: 256, valueReads: 0 });
    watch.close();

    const token = client.lastToken() as ResumeToken;
    await put(node, "between", "y");
    const other = await openGateway(node, () => carrier(node));
    const later = new FakeClient();
    const resumed = { since: token, isReconnect: true };
    await other.watches.open(query({ values: true }), resumed, later, deadline());
    await until(() => later.names().length >= 2);
    await put(node, "after", "z");
    await until(() => later.names().length >= 3);
    expect(later.events().map(({ data }) => data.value)).toEqual([undefined, "y", "z"]);
  });
});
