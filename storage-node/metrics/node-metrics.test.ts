import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { systemClock } from "#shared/clock.ts";
import { type ReplicaId, toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import type { OpenNode } from "#storage-node/open-node.ts";
import { openSoloNode } from "#storage-node/open-solo.ts";
import { cleanUp, startNodes, vote } from "#storage-node/transport/testing/nodes.ts";
import { soloTransport, type Transport } from "#storage-node/transport/transport.ts";
import { NODE_METRICS } from "./catalogue.ts";
import { readNodeMetrics } from "./node-metrics.ts";

const clock = systemClock();
const random = systemRandom();
let directory: string;
let opened: OpenNode;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "minikv-metrics-"));
  opened = await openSoloNode({
    ...{ dataDirectory: directory, nodeId: toNodeId(1), clusterId: "test", engine: "memory" },
    ...{ walSegmentSizeBytes: 1024 * 1024, diskReserveBytes: 0, clock, random },
    softwareVersion: "test",
    freeSpace: (_path, done) => done(null, 2 ** 40),
    onFatal: (error) => {
      throw error;
    },
    onWritable: () => {},
  });
});

afterEach(async () => {
  await cleanUp();
  await opened.close(1_000);
  await rm(directory, { recursive: true, force: true });
});

const unroutableOf = (transport: Transport) =>
  readNodeMetrics({ ...opened.node.sources(), transport }, 1)
    .find(({ name }) => name === NODE_METRICS.messagesUnroutable.name)
    ?.samples.map(({ value }) => value);

it("tells how many messages of Raft there was no way for", async () => {
  const [one, two] = await startNodes(2);
  expect(unroutableOf(one!.transport)).toEqual([0]);
  const good = vote({ from: one!, to: two! });
  one!.transport.send([{ ...good, from: 7 as ReplicaId }, { ...good, to: 9 as ReplicaId }, good]);
  expect(unroutableOf(one!.transport)).toEqual([2]);
});

it("tells of none where a node is alone", () => {
  expect(unroutableOf(soloTransport())).toEqual([0]);
});
