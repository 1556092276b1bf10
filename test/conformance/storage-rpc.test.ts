/** `storageService()` on a server against gateways with and without manners, over 127.0.0.1. */
import { fromBinary } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { failureOf } from "#proto/codec/failure.ts";
import type { ResultBody, Scan } from "#proto/codec/messages.ts";
import { encodeOperateRequest } from "#proto/codec/operate-request.ts";
import { GET_STATUS_PATH, OPERATE_PATH } from "#proto/codec/service.ts";
import { GetStatusResponseSchema, StorageService } from "#proto/gen/minikv/v1/storage_pb.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { ERRORS, GrpcStatus } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space } from "#shared/ids.ts";
import { OPERATE_STREAMS_MAX, STREAM_HELLO_TIMEOUT_MS } from "#shared/limits.ts";
import { grpcClient, passBytes } from "#shared/runtime/grpc.ts";
import { insecureCredentials, tlsCredentials } from "#shared/runtime/grpc-credentials.ts";
import { OperationFigures } from "#storage-node/operation-figures.ts";
import { type Authority, createAuthority } from "#storage-node/transport/testing/certificates.ts";
import {
  channelTo,
  cleanUp,
  clock,
  codeOf,
  echo,
  FakeHandler,
  found,
  getOperation,
  goodHello,
  NODE,
  rawStream,
  ready,
  serve,
  until,
} from "./stream-fixture.ts";

afterEach(cleanUp);

async function getStatus(address: string, { channel } = insecureCredentials()) {
  const client = grpcClient(address, channel);
  try {
    const bytes = await new Promise<Buffer>((resolve, reject) => {
      const done = (error: ServiceError | null, response?: Buffer): void => {
        if (response) resolve(response);
        else reject(error);
      };
      client.makeUnaryRequest(GET_STATUS_PATH, passBytes, passBytes, Buffer.alloc(0), done);
    });
    return fromBinary(GetStatusResponseSchema, new Uint8Array(bytes));
  } finally {
    client.close();
  }
}

describe("storageService()", () => {
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

  it("serves gateways with a certificate of its authority, and no others", async () => {
    const authority = createAuthority("test");
    const issue = (from: Authority) => tlsCredentials(from.issue("127.0.0.1"));
    const handler = new FakeHandler();
    handler.answer = echo;
    const { address } = await serve(handler, { credentials: issue(authority) });
    const channel = channelTo(address, undefined, issue(authority));
    await ready(channel);
    const answers: ResultBody[] = [];
    channel.send(getOperation("key"), (body) => answers.push(body));
    await until(() => answers.length === 1);
    expect(answers[0]).toMatchObject({ kind: "get", value: utf8("key") });
    expect((await getStatus(address, issue(authority))).nodeId).toBe(NODE);
    for (const strange of [insecureCredentials(), issue(createAuthority("another"))]) {
      await expect(getStatus(address, strange)).rejects.toMatchObject({
        code: GrpcStatus.Unavailable,
      });
    }
  });

  it("has the paths of the generated service", () => {
    const { operate, getStatus } = StorageService.method;
    expect(OPERATE_PATH).toBe(`/${StorageService.typeName}/${operate.name}`);
    expect(GET_STATUS_PATH).toBe(`/${StorageService.typeName}/${getStatus.name}`);
  });

  it("answers GetStatus with the node's status and identity", async () => {
    const { address } = await serve(new FakeHandler());
    expect(await getStatus(address)).toMatchObject({
      nodeId: 1,
      clusterId: "test",
      softwareVersion: "test",
      groups: 256,
      groupsLed: 255,
      writable: true,
      engine: "memory",
    });
  });

  it.each([
    ["garbage", Buffer.from([0xff, 0xff, 0xff]), GrpcStatus.InvalidArgument],
    ["no hello", Buffer.from([]), GrpcStatus.InvalidArgument],
    [
      "a protocol that is too old",
      encodeOperateRequest({ hello: { ...goodHello, protocolVersion: 1 }, operations: [] }),
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

  it("ends a stream on which no hello comes in time, and no other", async () => {
    const manual = new ManualClock();
    const figures = new OperationFigures();
    const { address } = await serve(new FakeHandler(), { clock: manual, figures });
    const good = rawStream(address);
    good.send(goodHello, []);
    await until(() => good.messages.length === 1);
    const silent = rawStream(address);
    await until(() => figures.streams === 2);
    manual.advance(STREAM_HELLO_TIMEOUT_MS);
    expect(figures.streams).toBe(1);
    expect(await silent.status).toMatchObject({ code: GrpcStatus.DeadlineExceeded });
    good.send(undefined, []);
    await until(() => good.messages.length === 2);
  });

  it("refuses streams beyond a number, and serves a gateway when others have gone", async () => {
    const figures = new OperationFigures();
    const { address } = await serve(new FakeHandler(), { figures, clock: new ManualClock() });
    // As many streams on each connection as it may have.
    const clients = Array.from({ length: OPERATE_STREAMS_MAX / 128 }, () =>
      grpcClient(address, insecureCredentials().channel),
    );
    try {
      for (const client of clients) {
        for (let i = 0; i < 128; i++) {
          const call = client.makeBidiStreamRequest(OPERATE_PATH, passBytes, passBytes);
          call.on("error", () => {});
        }
      }
      await until(() => figures.streams === OPERATE_STREAMS_MAX);
      expect(await rawStream(address).status).toEqual({
        code: GrpcStatus.ResourceExhausted,
        details: `the storage node has ${OPERATE_STREAMS_MAX} streams of gateways already`,
        metadata: expect.anything(),
      });
      const channel = channelTo(address);
      await until(() => channel.readiness().reason.includes("streams of gateways already"));
      const answers: ResultBody[] = [];
      channel.send(getOperation(), (body) => answers.push(body));
      expect(answers).toMatchObject([{ code: ERRORS.UNAVAILABLE.wire, notApplied: true }]);
      expect(figures.streams).toBe(OPERATE_STREAMS_MAX);
      clients[0]!.close();
      await ready(channel);
    } finally {
      for (const client of clients) client.close();
    }
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

  it("answers an empty message with an empty one, whatever else it still owes", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const { messages, send } = rawStream(address);
    send(goodHello, [getOperation()]);
    await until(() => handler.asked.length === 1);
    send(undefined, []);
    send(undefined, []);
    await until(() => messages.length === 3);
    expect(messages.slice(1)).toEqual([
      { hello: undefined, results: [] },
      { hello: undefined, results: [] },
    ]);
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

  it("says of a step of a scan whether its answer is still wanted", async () => {
    const handler = new FakeHandler();
    const { address } = await serve(handler);
    const { send, stream } = rawStream(address);
    const scan: Scan = {
      ...{ kind: "scan", tenant: DEFAULT_TENANT, space: Space.Kv, start: EMPTY_BYTES },
      ...{ end: EMPTY_BYTES, reverse: false, rowsMax: 1, valueBytesMax: 0, keysOnly: false },
      ...{ countOnly: false, maxStalenessMs: 0 },
    };
    const scans = ["first", "second"].map((key) => ({ ...getOperation(key), body: scan }));
    const isWanted = () => handler.asked.map(({ reply }) => reply.isWanted?.());
    send(goodHello, scans);
    await until(() => handler.asked.length === 2);
    expect(isWanted()).toEqual([true, true]);
    send(undefined, [{ ...scans[0]!, body: { kind: "cancel" } }]);
    await until(() => isWanted()[0] === false);
    expect(isWanted()).toEqual([false, true]);
    stream.cancel();
    await until(() => isWanted()[1] === false);
  });

  it("ends a stream that goes on sending far beyond the window", async () => {
    const { address } = await serve(new FakeHandler(), { windowOperations: 2 });
    const { status, send } = rawStream(address);
    send(
      goodHello,
      Array.from({ length: 7 }, () => getOperation()),
    );
    expect((await status).code).toBe(GrpcStatus.ResourceExhausted);
  });

  it("bounds the values that wait to be sent, and answers every read all the same", async () => {
    const handler = new FakeHandler();
    const value = new Uint8Array(100_000);
    const { address } = await serve(handler, { windowBytes: 1_000_000 });
    const { messages, send } = rawStream(address);
    const operations = Array.from({ length: 100 }, () => getOperation());
    send(goodHello, operations);
    await until(() => handler.asked.length === operations.length);
    for (const { reply } of handler.asked) reply(found(value));
    const results = () => messages.flatMap((message) => message.results);
    await until(() => results().length === operations.length);
    expect(results().map(({ callId }) => callId)).toEqual(operations.map(({ callId }) => callId));
    const refused = results().filter(({ body }) => codeOf(body) === ERRORS.OVERLOADED.wire);
    expect(refused.length).toBe(operations.length - 9);
  });
});
