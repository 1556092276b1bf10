/** The gateway's thread: it serves, stops in steps, and never dies unnoticed. */
import { MessageChannel } from "node:worker_threads";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import {
  ChangeClusterResponseSchema,
  GetClusterStatusResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  ChangeDirectoryResponseSchema,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { systemClock } from "#shared/clock.ts";
import { ERRORS } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import { serveStoragePort } from "#storage-node/rpc/port.ts";
import { type EdgeConfig, edgeSettings } from "./edge-settings.ts";
import { GatewayThread, type ThreadHandler } from "./thread.ts";

/** A storage node that never answers. */
const NODE = {
  handler: { operate: () => {} },
  clock: systemClock(),
  clusterId: "test",
  nodeId: toNodeId(1),
  softwareVersion: "test",
};

const CLUSTER: ThreadHandler = {
  metrics: async () => [],
  status: async () => create(GetClusterStatusResponseSchema, { metaLeaderNodeId: 1 }),
  change: async ({ change }) => {
    if (change.case !== "drain") throw new Error("a bug");
    const detail = `node ${change.value.nodeId} is the only one`;
    const failure = { code: ERRORS.CONFLICT.wire, detail, notApplied: true };
    return create(ChangeClusterResponseSchema, { failure });
  },
  changeDirectory: async () => create(ChangeDirectoryResponseSchema, { applied: true }),
  followDirectory: (port) => {
    const empty = create(FollowDirectoryResponseSchema, { revision: 1n });
    const stream = new PortStream(port);
    stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
    stream.write(toBinary(FollowDirectoryResponseSchema, empty));
  },
  openChanges: (port) => port.close(),
};

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** An entry that is not the gateway. */
const entry = (code: string): URL =>
  new URL(
    `data:text/javascript,${encodeURIComponent(`import { parentPort as port } from "node:worker_threads";${code}`)}`,
  );

/** All settings at their defaults. */
const settings: Readonly<Record<string, { readonly default?: unknown }>> = edgeSettings;
const EDGE = Object.fromEntries(
  Object.entries(settings).map(([name, setting]) => [name, setting.default]),
) as EdgeConfig;

function start(options: { readonly entry?: URL } = {}) {
  const deaths: unknown[] = [];
  const thread = new GatewayThread({
    listen: { host: "127.0.0.1", port: 0 },
    edge: EDGE,
    logLevel: "error",
    program: "test",
    onDeath: (error) => deaths.push(error),
    ...(options.entry ? { entry: options.entry } : {}),
  });
  cleanups.push(() => thread.terminate());
  const { port1, port2 } = new MessageChannel();
  cleanups.push(() => port1.close());
  return { thread, deaths, storage: { port: port2, clusterId: "test" }, nodePort: port1 };
}

const SERVES = `port.on("message", ({ kind, step }) => {
  if (kind === "serve") port.postMessage({ kind: "serving", url: "http://x", stopSteps: ["a", "b"] });
  else if (step === 0) port.postMessage({ kind: "stopped" });
  else BEHAVIOUR
});`;

describe("GatewayThread", () => {
  it("carries out its stop steps one by one, and passes on what fails", async () => {
    const failing = SERVES.replace(
      "BEHAVIOUR",
      'port.postMessage({ kind: "failed", error: new Error("stuck"), code: "ECODE" });',
    );
    const { thread, storage, deaths } = start({ entry: entry(failing) });
    const { url, stopSteps } = await thread.serve(storage, CLUSTER);
    expect(url).toBe("http://x");
    expect(stopSteps.map(({ name }) => name)).toEqual(["a", "b"]);
    await stopSteps[0]!.run(100);
    await expect(stopSteps[1]!.run(100)).rejects.toMatchObject({ message: "stuck", code: "ECODE" });
    expect(deaths).toEqual([]);
  });

  it.each([
    ["throws", 'throw new Error("bug");', "bug"],
    ["rejects", 'void Promise.reject(new Error("bug"));', "bug"],
    ["exits", "process.exit(0);", "ended with exit code 0"],
  ])("reports its death when it %s while it serves", async (_, behaviour, message) => {
    const { thread, storage, deaths } = start({
      entry: entry(SERVES.replace("BEHAVIOUR", behaviour)),
    });
    const { stopSteps } = await thread.serve(storage, CLUSTER);
    await expect(stopSteps[1]!.run(100)).rejects.toThrow(message);
    await expect.poll(() => deaths.length).toBe(1);
    expect(String(deaths[0])).toContain(message);
  });

  it("does not start when the thread dies first", async () => {
    const { thread, storage, deaths } = start({ entry: entry('throw new Error("bug");') });
    await expect(thread.serve(storage, CLUSTER)).rejects.toThrow("bug");
    expect(deaths).toEqual([]);
  });

  it("listens only when the storage node has answered", async () => {
    const { thread, storage, nodePort } = start();
    const first = new Promise((resolve) => nodePort.once("message", resolve));
    let served = false;
    void thread.serve(storage, CLUSTER).then(
      () => (served = true),
      () => undefined,
    );
    // Its hello, to which nobody answers.
    expect(await first).toBeInstanceOf(ArrayBuffer);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(served).toBe(false);
  });

  it("serves, and stops in order without counting as dead", async () => {
    const { thread, storage, nodePort, deaths } = start();
    serveStoragePort({ port: nodePort, ...NODE });
    const { url, stopSteps } = await thread.serve(storage, CLUSTER);
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    for (const { run } of stopSteps) await run(1_000);
    await expect(fetch(`${url}/health/ready`)).rejects.toThrow();
    expect(deaths).toEqual([]);
  });

  it("passes on what operators ask, and the answer", async () => {
    const { thread, storage, nodePort } = start();
    serveStoragePort({ port: nodePort, ...NODE });
    const { url } = await thread.serve(storage, CLUSTER);
    const refused = await fetch(`${url}/admin/nodes/1/drain`, { method: "POST" });
    expect(refused.status).toBe(409);
    expect(await refused.json()).toMatchObject({
      detail: "node 1 is the only one",
      outcome: "not_applied",
    });
    const headers = { "Minikv-Timeout": "100ms" };
    const failed = await fetch(`${url}/admin/rebalance`, { method: "POST", headers });
    expect(failed.status).toBe(503);
    expect(await failed.json()).toMatchObject({ code: "UNAVAILABLE", outcome: "unknown" });
  });

  it("dies when the stream to the storage node breaks", async () => {
    const { thread, storage, nodePort, deaths } = start();
    serveStoragePort({ port: nodePort, ...NODE });
    await thread.serve(storage, CLUSTER);
    nodePort.close();
    await expect.poll(() => String(deaths[0])).toContain("closed its port");
  });

  it("does not serve a storage node that is not the one it was told of", async () => {
    const { thread, storage, nodePort } = start();
    serveStoragePort({ port: nodePort, ...NODE, clusterId: "other" });
    await expect(thread.serve(storage, CLUSTER)).rejects.toThrow('cluster "test"');
  });
});
