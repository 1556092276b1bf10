/** `StreamChannel` over a stream and a clock that the tests command. */
import { describe, expect, it } from "vitest";
import type { Hello, Operation, ResultBody } from "#proto/codec/messages.ts";
import { decodeOperateRequest } from "#proto/codec/operate-request.ts";
import { encodeOperateResponse } from "#proto/codec/operate-response.ts";
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "#proto/codec/service.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { ERRORS, GrpcStatus } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space, toVshardId } from "#shared/ids.ts";
import {
  STREAM_RECONNECT_BACKOFF_MS_MIN,
  STREAM_SILENCE_CHECK_MS,
  STREAM_SILENT_CHECKS_BEFORE_PROBE,
  STREAM_SILENT_CHECKS_MAX,
} from "#shared/limits.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Readiness } from "./channel.ts";
import { StreamChannel } from "./stream-channel.ts";
import { absent } from "./testing.ts";

const HELLO: Hello = {
  protocolVersion: PROTOCOL_VERSION,
  clusterId: "test",
  nodeId: 1,
  softwareVersion: "test",
  windowOperations: 3,
  windowBytes: 10_000,
};

/** The node's end, in the test's hands. */
class FakeStream implements MessageStream {
  readonly written: ReturnType<typeof decodeOperateRequest>[] = [];
  aborted: StreamStatus | undefined;
  listener!: StreamListener;
  /** What `write` returns. */
  takesMore = true;

  listen(listener: StreamListener): void {
    this.listener = listener;
  }

  write(bytes: Uint8Array): boolean {
    this.written.push(decodeOperateRequest(bytes));
    return this.takesMore;
  }

  end(): void {}

  abort(status: StreamStatus): void {
    this.aborted = status;
  }

  say(hello: Hello | undefined, ...results: readonly (readonly [number, ResultBody])[]): void {
    const message = { hello, results: results.map(([callId, body]) => ({ callId, body })) };
    this.listener.onMessage(encodeOperateResponse(message));
  }

  /** Messages without hello and operations. */
  get probes(): number {
    return this.written.filter(({ hello, operations }) => !hello && operations.length === 0).length;
  }
}

const operation = (callId: number): Operation => ({
  callId,
  vshard: toVshardId(3),
  deadlineMs: 1_800_000_000_000,
  traceContext: EMPTY_BYTES,
  body: {
    kind: "get",
    tenant: DEFAULT_TENANT,
    space: Space.Kv,
    key: utf8("key"),
    maxStalenessMs: 0,
    metadataOnly: false,
  },
});

function setUp(options: { readonly givesUpSilent?: boolean } = {}) {
  const clock = new ManualClock();
  const streams: FakeStream[] = [];
  const told: Readiness[] = [];
  const channel = new StreamChannel({
    connector: {
      peer: "storage node x",
      // Everything leaves at once: no turn of the event loop in between.
      operationsGatheredMax: 1,
      givesUpSilent: options.givesUpSilent ?? true,
      open: () => {
        const stream = new FakeStream();
        streams.push(stream);
        return stream;
      },
      close: () => {},
    },
    clusterId: "test",
    nodeId: 1,
    softwareVersion: "test",
    clock,
    random: new SeededRandom(1),
    onReadiness: (readiness) => told.push(readiness),
  });
  streams[0]!.say(HELLO);
  const answers = new Map<number, ResultBody>();
  const send = (callId: number) =>
    channel.send(operation(callId), (body) => answers.set(callId, body));
  return { clock, channel, streams, told, answers, send };
}

const PROBE_MS = STREAM_SILENT_CHECKS_BEFORE_PROBE * STREAM_SILENCE_CHECK_MS;
const SILENT_MS = STREAM_SILENT_CHECKS_MAX * STREAM_SILENCE_CHECK_MS;
const lost = { kind: "failure", code: ERRORS.UNAVAILABLE.wire, notApplied: false };

describe("StreamChannel and a silent node", () => {
  it("asks it first, and gives the stream up when nothing comes", () => {
    const { clock, channel, streams, answers, send } = setUp();
    send(1);
    send(2);
    clock.advance(PROBE_MS);
    expect(streams[0]!.probes).toBe(1);
    clock.advance(SILENT_MS - PROBE_MS - 1);
    expect(answers.size).toBe(0);
    clock.advance(1);
    expect([...answers.values()]).toMatchObject([lost, lost]);
    expect(channel.readiness()).toEqual({
      ready: false,
      reason: "no stream to storage node x: it does not answer",
    });
    expect(streams[0]!.aborted?.code).toBe(GrpcStatus.Cancelled);
  });

  it("opens another stream, and is ready again when the node says hello there", () => {
    const { clock, channel, streams, answers, send } = setUp();
    send(1);
    clock.advance(SILENT_MS + STREAM_RECONNECT_BACKOFF_MS_MIN);
    expect(streams.length).toBe(2);
    // What comes late on the old stream is nobody's any more.
    streams[0]!.say(undefined, [1, absent]);
    expect(answers.get(1)).toMatchObject(lost);
    expect(channel.readiness().ready).toBe(false);
    streams[1]!.say(HELLO);
    expect(channel.readiness().ready).toBe(true);
    send(2);
    streams[1]!.say(undefined, [2, absent]);
    expect(answers.get(2)).toMatchObject({ kind: "get", found: false });
  });

  it("waits on for a node that answers the question but not yet the operation", () => {
    const { clock, streams, answers, send } = setUp();
    send(1);
    for (let i = 0; i < 20; i++) {
      clock.advance(PROBE_MS);
      streams[0]!.say(undefined);
    }
    expect(streams[0]!.probes).toBeGreaterThan(5);
    expect([answers.size, streams.length]).toEqual([0, 1]);
    streams[0]!.say(undefined, [1, absent]);
    expect(answers.size).toBe(1);
  });

  it("asks nothing while answers come, and nothing while none are owed", () => {
    const { clock, streams, send } = setUp();
    for (let callId = 1; callId <= 20; callId++) {
      send(callId);
      clock.advance(STREAM_SILENCE_CHECK_MS);
      streams[0]!.say(undefined, [callId, absent]);
    }
    clock.advance(10 * SILENT_MS);
    expect([streams[0]!.probes, streams.length]).toEqual([0, 1]);
  });

  it("counts from the moment at which an answer is owed", () => {
    const { clock, streams, send } = setUp();
    send(1);
    streams[0]!.say(undefined, [1, absent]);
    clock.advance(10 * SILENT_MS);
    send(2);
    clock.advance(SILENT_MS - 1);
    expect(streams.length).toBe(1);
    clock.advance(1 + STREAM_RECONNECT_BACKOFF_MS_MIN);
    expect(streams.length).toBe(2);
  });

  it("keeps a stream that there is no other for", () => {
    const { clock, streams, answers, send } = setUp({ givesUpSilent: false });
    send(1);
    clock.advance(60_000);
    expect([streams.length, streams[0]!.probes, answers.size]).toEqual([1, 0, 0]);
  });

  it("takes no more than the window, and all of it again when the stream is given up", () => {
    const { clock, streams, answers, send } = setUp();
    const { windowOperations } = HELLO;
    for (let callId = 1; callId <= 1_000; callId++) send(callId);
    const overloaded = { code: ERRORS.OVERLOADED.wire, notApplied: true };
    expect(answers.size).toBe(1_000 - windowOperations);
    expect(answers.get(1_000)).toMatchObject(overloaded);
    const written = streams[0]!.written.reduce((sum, { operations }) => sum + operations.length, 0);
    expect(written).toBe(windowOperations);
    clock.advance(SILENT_MS + STREAM_RECONNECT_BACKOFF_MS_MIN);
    streams[1]!.say(HELLO);
    for (let callId = 2_001; callId <= 2_000 + windowOperations; callId++) send(callId);
    expect(answers.size).toBe(1_000);
    send(3_000);
    expect(answers.get(3_000)).toMatchObject(overloaded);
  });

  it("gives up a node that does not even read, and says which operations never left", () => {
    const { clock, streams, answers, send } = setUp();
    streams[0]!.takesMore = false;
    send(1);
    send(2);
    clock.advance(SILENT_MS);
    expect(answers.get(1)).toMatchObject(lost);
    expect(answers.get(2)).toMatchObject({ ...lost, notApplied: true });
  });

  it("is no news when it is closed on purpose", async () => {
    const { channel, told, streams, send, answers, clock } = setUp();
    send(1);
    const closed = channel.close(100);
    expect(channel.readiness().ready).toBe(false);
    clock.advance(100);
    await closed;
    expect(answers.get(1)).toMatchObject(lost);
    expect(told.map(({ ready }) => ready)).toEqual([true]);
    clock.advance(10_000);
    expect(streams.length).toBe(1);
  });

  it("tells once that it cannot be reached", () => {
    const { clock, told, streams, send } = setUp();
    send(1);
    clock.advance(SILENT_MS);
    streams[0]!.listener.onClosed({ code: GrpcStatus.Cancelled, details: "cancelled" });
    expect(told.map(({ ready }) => ready)).toEqual([true, false]);
  });
});

describe("a storage node of another build", () => {
  it("is spoken with if it is newer, and named as what to update if it is too old", () => {
    for (const [protocolVersion, ready] of [
      [PROTOCOL_VERSION + 1, true],
      [PROTOCOL_VERSION_MIN, true],
      [PROTOCOL_VERSION_MIN - 1, false],
    ] as const) {
      const { clock, channel, streams } = setUp();
      streams[0]!.listener.onClosed({ code: GrpcStatus.Unavailable, details: "it is updated" });
      clock.advance(STREAM_RECONNECT_BACKOFF_MS_MIN);
      streams[1]!.say({ ...HELLO, protocolVersion });
      expect([protocolVersion, channel.readiness().ready]).toEqual([protocolVersion, ready]);
      if (!ready) expect(channel.readiness().reason).toMatch(/: update storage node x$/);
    }
  });
});
