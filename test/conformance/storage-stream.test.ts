/**
 * Gateway and storage node over a real gRPC stream on 127.0.0.1, with a handler that the tests
 * command: what arrives, what is answered, and what happens when either side misbehaves.
 */
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { StorageClient } from "#gateway/storage/client.ts";
import { GrpcChannel } from "#gateway/storage/grpc-channel.ts";
import { failureOf } from "#proto/codec/failure.ts";
import type { Hello, Operation, OperationHandler, ResultBody } from "#proto/codec/messages.ts";
import { encodeOperateRequest } from "#proto/codec/operate-request.ts";
import { decodeOperateResponse } from "#proto/codec/operate-response.ts";
import { OPERATE_PATH, PROTOCOL_VERSION } from "#proto/codec/service.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { ERRORS, GrpcStatus, KvError } from "#shared/errors.ts";
import {
  DEFAULT_TENANT,
  type NodeId,
  type ReplicaId,
  type Revision,
  Space,
  VSHARD_COUNT,
  type VshardId,
} from "#shared/ids.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom, systemRandom } from "#shared/random.ts";
import { grpcChannelOptions, passBytes } from "#shared/runtime/grpc.ts";
import { type StorageRpc, startStorageRpc } from "#storage-node/rpc/server.ts";

const CLUSTER = "test";
const NODE = 1 as NodeId;
const clock = systemClock();
const random = systemRandom();
const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Asked = { readonly operation: Operation; readonly reply: (body: ResultBody) => void };

/** Keeps what it is asked, and answers when told, or at once through `answer`. */
class FakeHandler implements OperationHandler {
  readonly asked: Asked[] = [];
  answer: ((operation: Operation) => ResultBody | undefined) | undefined;

  operate(operation: Operation, reply: (body: ResultBody) => void): void {
    this.asked.push({ operation, reply });
    const body = this.answer?.(operation);
    if (body) reply(body);
  }
}

function found(value: Uint8Array): ResultBody {
  return {
    kind: "get",
    found: true,
    revision: 7 as Revision,
    value,
    contentType: "text/plain",
    expiresAtMs: 0,
    modifiedAtMs: 5,
    valueSizeBytes: value.length,
  };
}

const stored: ResultBody = {
  kind: "write",
  applied: true,
  mutations: [{ status: 1, revision: 3 as Revision, created: true }],
};

/** Reads answer with their key as the value, writes as stored. */
const echo = ({ body }: Operation): ResultBody => (body.kind === "get" ? found(body.key) : stored);

type ServerOptions = {
  readonly listen?: string;
  readonly clusterId?: string;
  readonly nodeId?: NodeId;
  readonly windowOperations?: number;
  readonly windowBytes?: number;
};

async function serve(handler: OperationHandler, options: ServerOptions = {}): Promise<StorageRpc> {
  const rpc = await startStorageRpc({
    handler,
    status: () => ({ groups: 256, groupsLed: 255, writable: true, engine: "memory" }),
    listen: "127.0.0.1:0",
    clusterId: CLUSTER,
    nodeId: NODE,
    softwareVersion: "test",
    clock,
    ...options,
  });
  cleanups.push(() => rpc.close(0));
  return rpc;
}

function channelTo(address: string, onReadiness = (): void => {}): GrpcChannel {
  const channel = new GrpcChannel({
    address,
    clusterId: CLUSTER,
    nodeId: NODE,
    softwareVersion: "test",
    clock,
    random,
    onReadiness,
  });
  cleanups.push(() => channel.close(0));
  return channel;
}

function clientTo(address: string): StorageClient {
  const map: ClusterMap = {
    clusterId: CLUSTER,
    version: 1,
    nodes: [{ id: NODE, address, zone: "", host: "", state: "up" }],
    placements: Array.from({ length: VSHARD_COUNT }, (_, vshard) => ({
      vshard: vshard as VshardId,
      replicas: [{ node: NODE, replica: 1 as ReplicaId, role: "voter" }],
      preferredLeader: NODE,
    })),
  };
  const connect = () => channelTo(address);
  const client = new StorageClient({ map, connect, clock, random });
  cleanups.push(() => client.close(0));
  return client;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

const ready = (channel: { readiness(): { ready: boolean } }): Promise<void> =>
  until(() => channel.readiness().ready);

const keyRef = (key: string) => ({ tenant: DEFAULT_TENANT, key: utf8(key) });
const within = (ms: number) => ({ deadlineMs: clock.nowMs() + ms });
const putInput = (value = EMPTY_BYTES as Uint8Array) => ({
  value,
  contentType: "text/plain",
  ttlMs: 0,
});

let nextCallId = 1;
function getOperation(key = "key", deadlineMs = clock.nowMs() + 5_000): Operation {
  return {
    callId: nextCallId++,
    vshard: 3 as VshardId,
    deadlineMs,
    traceContext: EMPTY_BYTES,
    body: {
      kind: "get",
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      key: utf8(key),
      maxStalenessMs: 0,
      metadataOnly: false,
    },
  };
}

function putOperation(value: Uint8Array, requestId = new Uint8Array(16)): Operation {
  const deadlineMs = clock.nowMs() + 5_000;
  const action = { kind: "put", ...putInput(value) } as const;
  const mutation = {
    tenant: DEFAULT_TENANT,
    space: Space.Kv,
    key: utf8("key"),
    condition: undefined,
    action,
  };
  const command = { requestId, deadlineMs, mutations: [mutation] };
  return { ...getOperation(), deadlineMs, body: { kind: "write", command } };
}

/** A gateway without manners: sends any bytes, and tells what came back. */
function rawStream(address: string) {
  const client = new Client(address, credentials.createInsecure(), grpcChannelOptions());
  const stream = client.makeBidiStreamRequest(
    OPERATE_PATH,
    passBytes,
    passBytes,
    new Metadata({ waitForReady: true }),
  );
  const messages: ReturnType<typeof decodeOperateResponse>[] = [];
  stream.on("data", (bytes: Buffer) => messages.push(decodeOperateResponse(bytes)));
  stream.on("error", () => {});
  const status = new Promise<{ code: number; details: string }>((resolve) => {
    stream.on("status", resolve);
  });
  cleanups.push(async () => {
    stream.cancel();
    client.close();
  });
  const send = (hello: Hello | undefined, operations: readonly Operation[]): void => {
    stream.write(encodeOperateRequest({ hello, operations }) as Buffer);
  };
  return { stream, messages, status, send };
}

const goodHello: Hello = {
  protocolVersion: PROTOCOL_VERSION,
  clusterId: CLUSTER,
  nodeId: 0,
  softwareVersion: "test",
  windowOperations: 10,
  windowBytes: 1000,
};

function codeOf(body: ResultBody | undefined): number | undefined {
  return body?.kind === "failure" ? body.code : undefined;
}

describe("StorageClient over GrpcChannel and startStorageRpc()", () => {
  it("carries gets, puts and deletes and their results", async () => {
    const handler = new FakeHandler();
    handler.answer = echo;
    const { address } = await serve(handler);
    const client = clientTo(address);
    await ready(client);
    expect(await client.get(keyRef("a"), within(5_000))).toMatchObject({
      revision: 7,
      value: utf8("a"),
      contentType: "text/plain",
    });
    const condition = { mustBeAbsent: true, mustExist: false, revisionIs: [], revisionIsNot: [4] };
    const input = { ...putInput(utf8("value")), ttlMs: 9, condition };
    expect(await client.put(keyRef("b"), input, within(5_000))).toEqual({
      kind: "stored",
      revision: 3,
      created: true,
    });
    expect(await client.delete(keyRef("c"), undefined, within(5_000))).toEqual({
      kind: "deleted",
      revision: 3,
    });
    const [, put] = handler.asked.map(({ operation }) => operation.body);
    if (put?.kind !== "write") throw new Error("a write was expected");
    expect(put.command.requestId.length).toBe(16);
    expect(put.command.mutations[0]).toEqual({
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      key: utf8("b"),
      condition,
      action: { kind: "put", value: utf8("value"), contentType: "text/plain", ttlMs: 9 },
    });
  });

  it("answers each of 20,000 operations once, with its own result", async () => {
    const handler = new FakeHandler();
    let later: (() => void)[] = [];
    const runLater = (): void => {
      const due = later.reverse();
      later = [];
      for (const run of due) run();
    };
    handler.operate = (operation, reply) => {
      // Some at once, some later, and those in another order.
      if (operation.callId % 3 === 0) reply(echo(operation));
      else if (later.push(() => reply(echo(operation))) === 1) setImmediate(runLater);
    };
    const { address } = await serve(handler);
    const client = clientTo(address);
    await ready(client);
    let next = 0;
    const answers = new Uint8Array(20_000);
    const lane = async (): Promise<void> => {
      for (let i = next++; i < answers.length; i = next++) {
        const result = await client.get(keyRef(`key-${i}`), within(20_000));
        if (Buffer.from(result!.value).toString() === `key-${i}`) answers[i]!++;
      }
    };
    await Promise.all(Array.from({ length: 256 }, lane));
    expect(answers.every((count) => count === 1)).toBe(true);
  });

  it("carries values of the largest size both ways", async () => {
    const handler = new FakeHandler();
    const value = new SeededRandom(1).fill(new Uint8Array(VALUE_SIZE_BYTES_MAX));
    handler.answer = ({ body }) => (body.kind === "get" ? found(value) : stored);
    const { address } = await serve(handler);
    const client = clientTo(address);
    await ready(client);
    const puts = Array.from({ length: 20 }, (_, i) =>
      client.put(keyRef(`${i}`), putInput(value), within(10_000)),
    );
    const gets = Array.from({ length: 20 }, (_, i) => client.get(keyRef(`${i}`), within(10_000)));
    await Promise.all(puts);
    for (const result of await Promise.all(gets)) expect(result?.value.length).toBe(value.length);
    const { body } = handler.asked[0]!.operation;
    const action = body.kind === "write" ? body.command.mutations[0]!.action : undefined;
    expect(action?.kind === "put" && Buffer.compare(action.value, value)).toBe(0);
  });

  it("reports failures of the storage node with their code", async () => {
    const handler = new FakeHandler();
    handler.answer = () => failureOf("STORAGE_FULL", "no room", { notApplied: true });
    const { address } = await serve(handler);
    const client = clientTo(address);
    await ready(client);
    const error = await client.put(keyRef("a"), putInput(), within(5_000)).catch((e) => e);
    expect(error).toBeInstanceOf(KvError);
    expect(error).toMatchObject({ code: "STORAGE_FULL", outcome: "not_applied" });
  });

  it("gives up at the deadline when the handler never answers", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const client = clientTo(address);
    await ready(client);
    const put = client.put(keyRef("a"), putInput(), within(60));
    await expect(put).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "unknown" });
    const get = client.get(keyRef("a"), within(60));
    await expect(get).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: undefined });
    // Late answers reach nobody, and the stream goes on.
    for (const { operation, reply } of handler.asked.splice(0)) reply(echo(operation));
    handler.answer = echo;
    expect(await client.get(keyRef("b"), within(5_000))).toMatchObject({ value: utf8("b") });
  });

  it("gives up when the caller's signal aborts, and drops the late answer", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const client = clientTo(address);
    await ready(client);
    const abort = new AbortController();
    const options = { ...within(5_000), signal: abort.signal };
    const put = client.put(keyRef("a"), putInput(), options);
    await until(() => handler.asked.length === 1);
    abort.abort();
    await expect(put).rejects.toMatchObject({ code: "CANCELLED", outcome: "unknown" });
    handler.asked[0]!.reply(stored);
    handler.answer = echo;
    expect(await client.get(keyRef("b"), within(5_000))).toMatchObject({ value: utf8("b") });
  });

  it("sends a write again with its request id after the server died in mid-flight", async () => {
    const first = new FakeHandler();
    const rpc = await serve(first);
    const client = clientTo(rpc.address);
    await ready(client);
    const put = client.put(keyRef("a"), putInput(utf8("v")), within(10_000));
    await until(() => first.asked.length === 1);
    await rpc.close(0);
    const second = new FakeHandler();
    second.answer = echo;
    await serve(second, { listen: rpc.address });
    expect(await put).toMatchObject({ kind: "stored" });
    const commands = [...first.asked, ...second.asked].map(({ operation: { body } }) =>
      body.kind === "write" ? body.command : undefined,
    );
    expect(commands.length).toBe(2);
    expect(commands[1]).toEqual(commands[0]);
  });

  it("says unknown when the server died in mid-flight and does not come back", async () => {
    const handler = new FakeHandler();
    const rpc = await serve(handler);
    const client = clientTo(rpc.address);
    await ready(client);
    const put = client.put(keyRef("a"), putInput(), within(300));
    await until(() => handler.asked.length === 1);
    await rpc.close(0);
    const failure = { code: "DEADLINE_EXCEEDED", outcome: "unknown" };
    await expect(put).rejects.toMatchObject(failure);
    const later = client.put(keyRef("a"), putInput(), within(50));
    const notSent = { code: "DEADLINE_EXCEEDED", outcome: "not_applied" };
    await expect(later).rejects.toMatchObject(notSent);
  });

  it("waits for a server that starts later", async () => {
    const rpc = await serve(new FakeHandler());
    await rpc.close(0);
    const client = clientTo(rpc.address);
    const get = client.get(keyRef("a"), within(10_000));
    const handler = new FakeHandler();
    handler.answer = echo;
    await serve(handler, { listen: rpc.address });
    expect(await get).toMatchObject({ value: utf8("a") });
  });
});

describe("GrpcChannel", () => {
  it("refuses operations beyond the window of the node's hello", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler, { windowOperations: 4 });
    const channel = channelTo(address);
    await ready(channel);
    const answers: ResultBody[] = [];
    for (let i = 0; i < 6; i++) channel.send(getOperation(), (body) => answers.push(body));
    expect(answers.map(codeOf)).toEqual([ERRORS.OVERLOADED.wire, ERRORS.OVERLOADED.wire]);
    expect(answers[0]).toMatchObject({ notApplied: true });
    await until(() => handler.asked.length === 4);
    for (const { operation, reply } of handler.asked) reply(echo(operation));
    await until(() => answers.length === 6);
    channel.send(getOperation("again"), (body) => answers.push(body));
    await until(() => handler.asked.length === 5);
  });

  it("refuses bytes beyond the window, but takes one operation of any size", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler, { windowBytes: 1_000 });
    const channel = channelTo(address);
    await ready(channel);
    const answers: ResultBody[] = [];
    channel.send(putOperation(new Uint8Array(5_000)), (body) => answers.push(body));
    channel.send(putOperation(new Uint8Array(1)), (body) => answers.push(body));
    expect(answers.map(codeOf)).toEqual([ERRORS.OVERLOADED.wire]);
    await until(() => handler.asked.length === 1);
  });

  it("withdraws an operation that was not written yet", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const channel = channelTo(address);
    await ready(channel);
    const never = (): void => expect.unreachable();
    const [early, late, other] = [getOperation(), getOperation(), getOperation()];
    channel.send(early, never);
    expect(channel.cancel(early)).toBe(true);
    channel.send(late, never);
    await until(() => handler.asked.length === 1);
    expect(handler.asked[0]!.operation.callId).toBe(late.callId);
    expect(channel.cancel(late)).toBe(false);
    const answers: ResultBody[] = [];
    channel.send(other, (body) => answers.push(body));
    await until(() => handler.asked.length === 2);
    for (const { operation, reply } of handler.asked) reply(echo(operation));
    await until(() => answers.length === 1);
  });

  it.each([
    ["another cluster", { clusterId: "other" }, 'cluster "test"'],
    ["another node", { nodeId: 9 as NodeId }, "is storage node 9"],
  ])("does not become ready at %s, and says why", async (_, options, reason) => {
    const { address } = await serve(new FakeHandler(), options);
    const reasons: string[] = [];
    const channel = channelTo(address, () => reasons.push(channel.readiness().reason));
    await until(() => reasons.some((text) => text.includes(reason)));
    const answers: ResultBody[] = [];
    channel.send(getOperation(), (body) => answers.push(body));
    expect(answers).toMatchObject([{ code: ERRORS.UNAVAILABLE.wire, notApplied: true }]);
  });

  it("answers what is in flight when it is closed", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const channel = channelTo(address);
    await ready(channel);
    const answers: ResultBody[] = [];
    channel.send(getOperation(), (body) => answers.push(body));
    await until(() => handler.asked.length === 1);
    await channel.close(10);
    expect(answers).toMatchObject([{ code: ERRORS.UNAVAILABLE.wire, notApplied: false }]);
  });
});

describe("startStorageRpc()", () => {
  it("answers before it closes, and refuses what comes meanwhile", async () => {
    const handler = new FakeHandler();
    const rpc = await serve(handler);
    const channel = channelTo(rpc.address);
    await ready(channel);
    const answers: ResultBody[] = [];
    channel.send(getOperation("early"), (body) => answers.push(body));
    await until(() => handler.asked.length === 1);
    const closed = rpc.close(10_000);
    channel.send(getOperation("late"), (body) => answers.push(body));
    await until(() => answers.length === 1);
    expect(answers[0]).toMatchObject({ code: ERRORS.UNAVAILABLE.wire, notApplied: true });
    for (const { operation, reply } of handler.asked) reply(echo(operation));
    await closed;
    await until(() => answers.length === 2);
    expect(answers[1]).toMatchObject({ kind: "get", value: utf8("early") });
  });

  it("closes in time although an operation is never answered", async () => {
    const handler = new FakeHandler();
    const rpc = await serve(handler);
    const channel = channelTo(rpc.address);
    await ready(channel);
    channel.send(getOperation(), () => {});
    await until(() => handler.asked.length === 1);
    await rpc.close(20);
    await until(() => !channel.readiness().ready);
    // The stream has gone: a late answer must be dropped without harm.
    handler.asked[0]!.reply(found(EMPTY_BYTES));
  });

  it.each([
    ["garbage", Buffer.from([0xff, 0xff, 0xff]), GrpcStatus.InvalidArgument],
    ["no hello", Buffer.from([]), GrpcStatus.InvalidArgument],
    [
      "another protocol version",
      encodeOperateRequest({ hello: { ...goodHello, protocolVersion: 99 }, operations: [] }),
      GrpcStatus.FailedPrecondition,
    ],
    [
      "another cluster",
      encodeOperateRequest({ hello: { ...goodHello, clusterId: "x" }, operations: [] }),
      GrpcStatus.FailedPrecondition,
    ],
  ])("ends a stream that opens with %s", async (_, bytes, code) => {
    const { address } = await serve(new FakeHandler());
    const { stream, status } = rawStream(address);
    stream.write(bytes as Buffer);
    expect((await status).code).toBe(code);
  });

  it.each([
    ["garbage", Buffer.from([0x12, 0xff])],
    ["a second hello", encodeOperateRequest({ hello: goodHello, operations: [] })],
  ])("ends a greeted stream at %s", async (_, bytes) => {
    const { address } = await serve(new FakeHandler());
    const { stream, status, send } = rawStream(address);
    send(goodHello, []);
    stream.write(bytes as Buffer);
    expect((await status).code).toBe(GrpcStatus.InvalidArgument);
  });

  it("ends a stream that uses a call id twice at once", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const { status, send } = rawStream(address);
    const operation = getOperation();
    send(goodHello, [operation, operation]);
    expect((await status).code).toBe(GrpcStatus.InvalidArgument);
    handler.asked[0]!.reply(found(EMPTY_BYTES));
  });

  it("enforces its window on a gateway that does not", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler, { windowOperations: 2 });
    const { messages, send } = rawStream(address);
    const operations = [getOperation(), getOperation(), getOperation()];
    send(goodHello, operations);
    await until(() => messages.length === 2);
    expect(messages[0]!.hello).toMatchObject({ nodeId: NODE, windowOperations: 2 });
    expect(messages[1]!.results).toEqual([
      {
        callId: operations[2]!.callId,
        body: failureOf("OVERLOADED", "the stream's window is full", { notApplied: true }),
      },
    ]);
  });

  it("refuses an operation whose deadline has passed, and one that breaks a rule", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const { messages, send } = rawStream(address);
    const late = getOperation("key", clock.nowMs() - 1);
    send(goodHello, [late, getOperation("")]);
    await until(() => messages.length === 2);
    const bodies = messages[1]!.results.map(({ body }) => body);
    expect(bodies).toMatchObject([
      { code: ERRORS.DEADLINE_EXCEEDED.wire, notApplied: true },
      { code: ERRORS.INVALID_ARGUMENT.wire, notApplied: true },
    ]);
    expect(handler.asked).toEqual([]);
  });

  it("does not send the answer of a cancelled operation", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const { messages, send } = rawStream(address);
    const [first, second] = [getOperation("first"), getOperation("second")];
    send(goodHello, [first, second]);
    await until(() => handler.asked.length === 2);
    send(undefined, [{ ...first, body: { kind: "cancel" } }]);
    const third = getOperation("third");
    send(undefined, [third]);
    await until(() => handler.asked.length === 3);
    for (const { operation, reply } of handler.asked) reply(echo(operation));
    await until(() => messages.length === 2);
    const answered = messages[1]!.results.map(({ callId }) => callId);
    expect(answered).toEqual([second.callId, third.callId]);
  });
});
