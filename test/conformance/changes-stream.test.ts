/** The Changes stream of a real node, over each of its carriers. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MessageChannel } from "node:worker_threads";
import { Metadata } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type {
  ChangeRecord,
  ChangesRequest,
  ChangesResponse,
} from "#proto/codec/change-messages.ts";
import { decodeChangesResponse, encodeChangesRequest } from "#proto/codec/changes.ts";
import type { Hello, MutationAction, ResultBody } from "#proto/codec/messages.ts";
import { CHANGES_PATH, PROTOCOL_VERSION } from "#proto/codec/service.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { ManualClock, systemClock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { DEFAULT_TENANT, type NodeId, type Revision, Space } from "#shared/ids.ts";
import {
  CHANGE_STREAMS_MAX,
  CHANGE_VALUE_SIZE_BYTES_MAX,
  STREAM_HELLO_TIMEOUT_MS,
  TRACE_CONTEXT_SIZE_BYTES,
} from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { systemRandom } from "#shared/random.ts";
import { grpcClient, passBytes } from "#shared/runtime/grpc.ts";
import { insecureCredentials } from "#shared/runtime/grpc-credentials.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import { vshardOf } from "#shared/vshard.ts";
import { openSoloNode } from "#storage-node/open-solo.ts";
import { changesService } from "#storage-node/rpc/changes-service.ts";
import { serveChangesPort } from "#storage-node/rpc/port.ts";
import { type RpcServer, startRpcServer } from "#storage-node/rpc/server.ts";

const CLUSTER = "test";
const clock = systemClock();
/** Of the service over gRPC. */
const serviceClock = new ManualClock();
const random = systemRandom();
const NOTHING = { hello: undefined, reads: [], follows: [], unfollow: [] };
const hello: Hello = {
  ...{ protocolVersion: PROTOCOL_VERSION, clusterId: CLUSTER, nodeId: 0, softwareVersion: "test" },
  ...{ windowOperations: 0, windowBytes: 0 },
};

let directory: string;
let opened: Awaited<ReturnType<typeof openSoloNode>>;
let rpc: RpcServer;
let cleanups: (() => void)[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "minikv-changes-"));
  opened = await openSoloNode({
    dataDirectory: directory,
    nodeId: 1 as NodeId,
    clusterId: CLUSTER,
    engine: "rocksdb",
    walSegmentSizeBytes: 1024 * 1024,
    diskReserveBytes: 0,
    clock,
    random,
    softwareVersion: "test",
    freeSpace: (_path, done) => done(null, 2 ** 40),
    onFatal: (error) => {
      throw error;
    },
    onWritable: () => {},
  });
  rpc = await startRpcServer({
    listen: "127.0.0.1:0",
    credentials: insecureCredentials().server,
    services: [changesService({ node: identity, clock: serviceClock })],
    clock,
  });
});

afterEach(() => {
  for (const cleanup of cleanups) cleanup();
  cleanups = [];
});

afterAll(async () => {
  await rpc.close(0);
  await opened.close(1_000);
  await rm(directory, { recursive: true, force: true });
});

const identity = () => ({
  ...{ clusterId: CLUSTER, nodeId: 1 as NodeId, softwareVersion: "test" },
  changes: opened.node.changes,
});

function overGrpc() {
  const client = grpcClient(rpc.address, insecureCredentials().channel);
  const waiting = new Metadata({ waitForReady: true });
  const call = client.makeBidiStreamRequest(CHANGES_PATH, passBytes, passBytes, waiting);
  cleanups.push(() => {
    call.cancel();
    client.close();
  });
  const stream: Pick<MessageStream, "listen" | "write" | "end"> = {
    listen: ({ onMessage, onClosed }) => {
      call.on("data", onMessage);
      call.on("error", () => {});
      call.on("status", onClosed);
    },
    write: (bytes) => call.write(bytes as Buffer),
    end: () => call.end(),
  };
  return { stream, call };
}

function overPort() {
  const { port1, port2 } = new MessageChannel();
  serveChangesPort({ port: port1, ...identity() });
  cleanups.push(() => port2.close());
  return { stream: new PortStream(port2) };
}

class Gateway {
  readonly #stream: Pick<MessageStream, "write" | "end">;
  readonly received: ChangesResponse[] = [];
  closed: StreamStatus | undefined;

  constructor(stream: Pick<MessageStream, "listen" | "write" | "end">, said: Hello = hello) {
    this.#stream = stream;
    stream.listen({
      onMessage: (bytes) => this.received.push(decodeChangesResponse(bytes)),
      onDrain: () => {},
      onClosed: (status) => {
        this.closed ??= status;
      },
    });
    this.say({ hello: said });
  }

  say(request: Partial<ChangesRequest>): void {
    this.#stream.write(encodeChangesRequest({ ...NOTHING, ...request }));
  }

  end(): void {
    this.#stream.end();
  }

  follow(key: string, afterRevision: number | undefined): void {
    const fromHead = afterRevision === undefined;
    const vshard = vshardOfKey(key);
    this.say({ follows: [{ vshard, fromHead, afterRevision: (afterRevision ?? 0) as Revision }] });
  }

  get batches() {
    return this.received.flatMap(({ batches }) => batches);
  }

  get changes(): readonly ChangeRecord[] {
    return this.batches.flatMap(({ changes }) => changes);
  }

  async until(what: () => boolean): Promise<void> {
    while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const vshardOfKey = (key: string) =>
  vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) });

let requests = 0;
function write(
  key: string,
  action: MutationAction,
  traceContext = EMPTY_BYTES as Uint8Array,
): Promise<ResultBody> {
  const requestId = new Uint8Array(16);
  new DataView(requestId.buffer).setUint32(0, ++requests);
  const deadlineMs = clock.nowMs() + 30_000;
  const mutation = {
    ...{ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key), condition: undefined, action },
  };
  const command = { requestId, deadlineMs, mutations: [mutation] };
  const body = { kind: "write", command } as const;
  return new Promise((resolve) => {
    const operation = { callId: 1, vshard: vshardOfKey(key), deadlineMs, traceContext, body };
    opened.node.operate(operation, resolve);
  });
}

const put = (key: string, value: string, trace?: Uint8Array) =>
  write(key, { kind: "put", value: utf8(value), contentType: "text/plain", ttlMs: 0 }, trace);

describe.each([
  ["gRPC", overGrpc],
  ["a message port", overPort],
])("the Changes stream over %s", (carrier, connect) => {
  const key = `key over ${carrier}`;

  it("shows changes as they happen: small values, and traces of sampled writes", async () => {
    const gateway = new Gateway(connect().stream);
    gateway.follow(key, undefined);
    await gateway.until(() => gateway.batches.length === 1);
    const from = gateway.batches[0]!.previousRevision;
    const sampled = new Uint8Array(TRACE_CONTEXT_SIZE_BYTES).fill(1);
    const unsampled = new Uint8Array(TRACE_CONTEXT_SIZE_BYTES).fill(2);
    await put(key, "small", sampled);
    await put(key, "x".repeat(CHANGE_VALUE_SIZE_BYTES_MAX + 1), unsampled);
    await write(key, { kind: "delete" });
    await gateway.until(() => gateway.changes.length === 3);
    const value = { value: utf8("small"), encoding: 0, contentType: "text/plain" };
    expect(gateway.changes).toMatchObject([
      { kind: ChangeKind.Put, revision: from + 1, key: utf8(key), traceContext: sampled, value },
      { kind: ChangeKind.Put, revision: from + 2, traceContext: EMPTY_BYTES, value: undefined },
      { kind: ChangeKind.Delete, revision: from + 3, previousRevision: from + 2, value: undefined },
    ]);
    expect(gateway.received[0]!.hello).toMatchObject({ clusterId: CLUSTER, nodeId: 1 });
  });

  it("gives the whole log in pieces, and to a follow that catches up while others write", async () => {
    for (let i = 0; i < 30; i++) {
      await Promise.all(Array.from({ length: 20 }, (_, j) => put(key, `value ${i} ${j}`)));
    }
    const gateway = new Gateway(connect().stream);
    const vshard = vshardOfKey(key);
    const read: number[] = [];
    for (let callId = 1; ; callId++) {
      const afterRevision = read.length as Revision;
      const asked = { callId, vshard, afterRevision, headOnly: false, bytesMax: 10_000 };
      gateway.say({ reads: [asked] });
      const answer = () => gateway.received.flatMap(({ results }) => results).at(-1);
      await gateway.until(() => answer()?.callId === callId);
      const { failure, batch, headRevision, oldestRevision } = answer()!;
      expect([failure, oldestRevision]).toEqual([undefined, 1]);
      read.push(...batch!.changes.map(({ revision }) => revision));
      if (read.length >= headRevision) break;
    }
    expect(read).toEqual(Array.from(read, (_, i) => i + 1));
    gateway.follow(key, 0);
    const more = Array.from({ length: 100 }, (_, i) => put(key, `more ${i}`));
    await Promise.all(more);
    await gateway.until(() => gateway.changes.length >= read.length + more.length);
    const revisions = gateway.changes.map(({ revision }) => revision);
    expect(revisions).toEqual(Array.from(revisions, (_, i) => i + 1));
  });

  it("answers probes, says what it does not know, and forgets who goes", async () => {
    const gateway = new Gateway(connect().stream);
    gateway.say({});
    await gateway.until(() => gateway.received.length === 2);
    expect(gateway.received[1]).toEqual({ hello: undefined, results: [], batches: [], ended: [] });
    gateway.follow(key, 0);
    await gateway.until(() => opened.node.changes.figures().follows === 1);
    gateway.end();
    await gateway.until(() => opened.node.changes.figures().streams === 0);
    expect(opened.node.changes.figures().follows).toBe(0);
  });

  it("ends for a gateway of another cluster, and says why", async () => {
    const gateway = new Gateway(connect().stream, { ...hello, clusterId: "other" });
    await gateway.until(() => gateway.closed !== undefined);
    expect(gateway.closed).toMatchObject({ code: GrpcStatus.FailedPrecondition });
    expect(gateway.closed!.details).toContain('"other"');
  });
});

describe("the Changes stream over gRPC", () => {
  it("queues nothing for a gateway that does not read, and loses nothing of it", async () => {
    const { stream, call } = overGrpc();
    const key = "slow reader";
    const gateway = new Gateway(stream);
    gateway.follow(key, undefined);
    await gateway.until(() => gateway.batches.length === 1);
    const from = gateway.batches[0]!.previousRevision;
    call.pause();
    const { node } = opened;
    const before = node.changes.figures();
    let written = 0;
    // The flow control window of a connection is 4 MiB, and what lies in between takes as much again.
    while (node.changes.figures().fallsBehind === before.fallsBehind) {
      expect(written).toBeLessThan(10_000);
      await Promise.all(Array.from({ length: 100 }, () => put(key, "v".repeat(4_000))));
      written += 100;
    }
    const { bytes } = node.changes.figures();
    await Promise.all(Array.from({ length: 100 }, () => put(key, "v".repeat(4_000))));
    expect(node.changes.figures().bytes).toBe(bytes);
    call.resume();
    await gateway.until(() => gateway.changes.length >= written + 100);
    const revisions = gateway.changes.map(({ revision }) => revision);
    expect(revisions).toEqual(Array.from(revisions, (_, i) => from + 1 + i));
    expect(gateway.changes.at(-1)!.value).toBe(undefined);
    await put(key, "live again");
    await gateway.until(() => gateway.changes.length === revisions.length + 1);
    expect(gateway.changes.at(-1)!.value?.value).toEqual(utf8("live again"));
  });

  it("gives its place back when no hello comes in time", async () => {
    const streams = () => opened.node.changes.figures().streams;
    // Those of other tests have gone.
    await expect.poll(streams).toBe(0);
    const gateway = new Gateway(overGrpc().stream);
    await gateway.until(() => gateway.received.length === 1);
    const { call } = overGrpc();
    call.on("error", () => {});
    call.on("data", () => {});
    const ended = new Promise<StreamStatus>((resolve) => call.on("status", resolve));
    await gateway.until(() => streams() === 2);
    serviceClock.advance(STREAM_HELLO_TIMEOUT_MS);
    expect(streams()).toBe(1);
    expect(await ended).toMatchObject({ code: GrpcStatus.DeadlineExceeded });
    gateway.say({});
    await gateway.until(() => gateway.received.length === 2);
  });

  it("is refused beyond a number of streams, until others have gone", async () => {
    const { changes } = opened.node;
    await expect.poll(() => changes.figures().streams).toBe(0);
    const others: (() => void)[] = [];
    for (let i = 0; i < CHANGE_STREAMS_MAX; i++) {
      const listen: MessageStream["listen"] = ({ onClosed }) =>
        others.push(() => onClosed({ code: GrpcStatus.Cancelled, details: "gone" }));
      const stream = { listen, write: () => true, end: () => {}, abort: () => {} };
      changes.serve(stream, hello);
    }
    const tooMany = new Gateway(overGrpc().stream);
    await tooMany.until(() => tooMany.closed !== undefined);
    expect(tooMany.closed).toMatchObject({ code: GrpcStatus.ResourceExhausted });
    for (const leave of others) leave();
    const gateway = new Gateway(overGrpc().stream);
    await gateway.until(() => gateway.received.length === 1);
  });

  it("is refused as long as the node belongs to no cluster", async () => {
    const early = await startRpcServer({
      listen: "127.0.0.1:0",
      credentials: insecureCredentials().server,
      services: [changesService({ node: () => undefined, clock })],
      clock,
    });
    const client = grpcClient(early.address, insecureCredentials().channel);
    cleanups.push(() => client.close());
    const call = client.makeBidiStreamRequest(CHANGES_PATH, passBytes, passBytes);
    call.on("error", () => {});
    call.on("data", () => {});
    const status = await new Promise<StreamStatus>((resolve) => call.on("status", resolve));
    expect(status.code).toBe(GrpcStatus.Unavailable);
    await early.close(0);
  });
});
