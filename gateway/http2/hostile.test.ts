/** Clients that break the protocol, or keep to it and waste: hand-made frames. */
import { describe, expect, it } from "vitest";
import type { ProblemBody } from "#gateway/testing/gateway.ts";
import {
  END_HEADERS,
  FRAME,
  type FrameClient,
  frame,
  type Headers,
  headerBlock,
  headersFrame,
  request,
  resetFrame,
  uint32,
} from "#gateway/testing/http2-frames.ts";
import { startHttp2 } from "#gateway/testing/http2-server.ts";
import { HTTP2_RESETS_BURST, HTTP2_RUNNING_MAX, HTTP2_STREAMS_MAX } from "#shared/limits.ts";

const PROTOCOL_ERROR = 1;
const REFUSED_STREAM = 7;
const ENHANCE_YOUR_CALM = 11;

const GET = request("GET", "/v1/kv/a");
const without = (name: string): Headers => GET.filter(([other]) => other !== name);
const instead = (name: string, value: string): Headers =>
  GET.map(([other, old]) => [other, other === name ? value : old]);
const many = (count: number, made: (number: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, number) => made(number)));

/** Still answers a request on the same connection. */
async function expectServed(client: FrameClient, stream: number): Promise<void> {
  client.send(headersFrame(stream, GET));
  await expect.poll(() => client.bodyOf(stream)).toContain("KEY_NOT_FOUND");
}

describe("a malformed request", () => {
  it.each<[string, Headers]>([
    ["an upper-case name", [...GET, ["If-Match", '"1"']]],
    ["a pseudo-header twice", [...GET, [":path", "/v1/kv/b"]]],
    ["two methods", [...GET, [":method", "PUT"]]],
    ["a pseudo-header behind others", [...without(":path"), ["a", "b"], [":path", "/v1/kv/a"]]],
    ["an unknown pseudo-header", [[":protocol", "websocket"], ...GET]],
    ["the status of an answer", [[":status", "200"], ...GET]],
    ["no path", without(":path")],
    ["an empty path", instead(":path", "")],
    ["a path of no slash", instead(":path", "v1/kv/a")],
    ["an absolute path", instead(":path", "https://test/v1/kv/a")],
    ["a path with a space", instead(":path", "/v1/kv/a b")],
    ["a path with a line end", instead(":path", "/v1/kv/a\r\nx: y")],
    ["no method", without(":method")],
    ["no scheme", without(":scheme")],
    ["no host", without(":authority")],
    ["two hosts", [...without(":authority"), ["host", "a"], ["host", "b"]]],
    ["a user in the authority", instead(":authority", "user@test")],
    ["a header of the connection", [...GET, ["connection", "close"]]],
    ["an upgrade", [...GET, ["upgrade", "h2c"]]],
    ["a transfer coding", [...GET, ["transfer-encoding", "chunked"]]],
    ["a TE other than trailers", [...GET, ["te", "gzip"]]],
    ["a length for no body", [...GET, ["content-length", "1"]]],
    ["two lengths", [...GET, ["content-length", "0"], ["content-length", "0"]]],
    ["a signed length", [...GET, ["content-length", "+0"]]],
    ["a tunnel with a path", instead(":method", "CONNECT")],
  ])("has its stream reset, and others go on: %s", async (_, headers) => {
    const { frames, gateway } = await startHttp2();
    const client = await frames();
    client.send(headersFrame(1, headers));
    await expectServed(client, 3);
    expect(client.resetCode(1)).toBe(PROTOCOL_ERROR);
    expect(client.of(FRAME.headers, 1)).toEqual([]);
    expect(gateway.storage.calls).toHaveLength(1);
  });

  it.each<[string, Headers]>([
    [
      "a tunnel",
      [
        [":method", "CONNECT"],
        [":authority", "test:1"],
      ],
    ],
    ["a method in lower case", instead(":method", "get")],
    ["an unknown method", instead(":method", "BREW")],
    ["another scheme", instead(":scheme", "ftp")],
    [
      "no slash under another scheme",
      [
        ...instead(":scheme", "x").slice(0, 1),
        [":path", "a"],
        [":scheme", "x"],
        [":authority", "t"],
      ],
    ],
    ["a Host that is another", [...GET, ["host", "elsewhere"]]],
    ["bytes that must be escaped", instead(":path", "/v1/kv/\xff")],
    // HTTP/1.1 takes it off; dropped with its header, it would have turned the condition off.
    ["white space in front of a value", [...GET, ["if-match", ' "1"']]],
    ["white space behind a value", [...GET, ["if-match", '"1"\t']]],
    [
      "a star",
      [
        [":method", "OPTIONS"],
        [":path", "*"],
        [":scheme", "https"],
        [":authority", "t"],
      ],
    ],
  ])("is refused with words where the protocol allows it: %s", async (_, headers) => {
    const { frames, gateway } = await startHttp2();
    const client = await frames();
    client.send(headersFrame(1, headers));
    await expect.poll(() => client.bodyOf(1)).toContain("}");
    expect(JSON.parse(client.bodyOf(1)) as ProblemBody).toMatchObject({
      ...{ status: 400, code: "INVALID_ARGUMENT" },
    });
    expect(gateway.storage.calls).toEqual([]);
    await expectServed(client, 3);
  });

  it.each<[string, readonly Buffer[]]>([
    ["a stream of the server's", [headersFrame(2, GET)]],
    ["a body without a request", [frame(FRAME.data, 1, 1, Buffer.from("x"))]],
    ["a frame too long", [frame(FRAME.data, 0, 1, Buffer.alloc(20_000))]],
    ["settings of a wrong size", [frame(FRAME.settings, 0, 0, Buffer.alloc(5))]],
    ["too many settings", [frame(FRAME.settings, 0, 0, Buffer.alloc(6 * 100))]],
    ["a window of nothing", [frame(FRAME.window, 0, 0, uint32(0))]],
    ["a window too wide", [frame(FRAME.window, 0, 0, uint32(2 ** 31 - 1))]],
    ["a continuation of nothing", [frame(FRAME.continuation, END_HEADERS, 1, headerBlock(GET))]],
    [
      "a block that is interrupted",
      [headersFrame(1, GET, 1), frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
    ],
    ["a block that does not decode", [frame(FRAME.headers, 5, 1, Buffer.from([0xff, 0xff, 0xff]))]],
    ["a push", [frame(5, END_HEADERS, 1, uint32(2))]],
  ])("that is a connection's end closes it, and no other: %s", async (_, bytes) => {
    const { frames } = await startHttp2();
    const [client, other] = await Promise.all([frames(), frames()]);
    client.send(...bytes);
    await client.closed;
    await expectServed(other, 1);
  });
});

describe("headers", () => {
  it("that are too large get 431, and beyond that a reset", async () => {
    const { frames } = await startHttp2();
    const client = await frames();
    await expectServed(client, 7);
    const large: Headers = [
      ["a", "x".repeat(9_000)],
      ["b", "x".repeat(8_000)],
    ];
    const block = headerBlock([...GET, ...large]);
    // A frame takes no more than 16 KiB.
    client.send(frame(FRAME.headers, 1, 9, block.subarray(0, 16_000)));
    client.send(frame(FRAME.continuation, END_HEADERS, 9, block.subarray(16_000)));
    await expect.poll(() => client.bodyOf(9)).toContain("HEADERS_TOO_LARGE");
    const huge = headerBlock([
      ...GET,
      ...Array.from({ length: 5 }, () => ["c", "x".repeat(12_000)] as const),
    ]);
    client.send(frame(FRAME.headers, 1, 11, huge.subarray(0, 16_000)));
    for (let at = 16_000; at < huge.length; at += 16_000) {
      const flags = at + 16_000 >= huge.length ? END_HEADERS : 0;
      client.send(frame(FRAME.continuation, flags, 11, huge.subarray(at, at + 16_000)));
    }
    await expect.poll(() => client.resetCode(11)).toBe(ENHANCE_YOUR_CALM);
    await expectServed(client, 13);
  });

  it.each([true, false])(
    "that refer to one table entry over and over are counted as what they become (agreed: %s)",
    async (agrees) => {
      const { frames, gateway } = await startHttp2();
      const client = await frames();
      client.agrees = agrees;
      await expectServed(client, 1);
      // The first enters the table (0x40), the others are one byte each (0xbe: the latest entry).
      const value = headerBlock([["x", "y".repeat(4_000)]]).subarray(1);
      const repeat = (count: number): Buffer =>
        Buffer.concat([headerBlock(GET), Buffer.from([0x40]), value, Buffer.alloc(count, 0xbe)]);
      client.send(frame(FRAME.headers, 5, 3, repeat(500)));
      await expect.poll(() => client.resetCode(3)).toBe(ENHANCE_YOUR_CALM);
      client.send(frame(FRAME.headers, 5, 5, repeat(50)));
      const refusal = (): boolean =>
        client.resetCode(5) === ENHANCE_YOUR_CALM || client.bodyOf(5).includes("HEADERS_TOO_LARGE");
      await expect.poll(refusal).toBe(true);
      expect(gateway.storage.calls).toHaveLength(1);
      await expectServed(client, 7);
    },
  );

  it("that never end close the connection", async () => {
    const { frames } = await startHttp2();
    const client = await frames();
    client.send(headersFrame(1, GET, 1));
    client.send(many(1_000, () => frame(FRAME.continuation, 0, 1, headerBlock([["x", "y"]]))));
    await client.closed;
  });
});

describe("streams", () => {
  it("beyond those allowed are refused, the others answered", async () => {
    const { frames, hold, gateway } = await startHttp2();
    const release = hold();
    const client = await frames();
    const asked = HTTP2_STREAMS_MAX + 10;
    client.send(many(asked, (number) => headersFrame(2 * number + 1, GET)));
    await expect.poll(() => client.of(FRAME.rst).length).toBe(10);
    for (const { payload } of client.of(FRAME.rst)) {
      expect(payload.readUInt32BE(0)).toBe(REFUSED_STREAM);
    }
    expect(gateway.storage.calls).toHaveLength(HTTP2_STREAMS_MAX);
    release();
    await expect.poll(() => client.of(FRAME.headers).length).toBe(HTTP2_STREAMS_MAX);
  });

  it("opened and reset over and over close the connection before much work is begun", async () => {
    const { frames, gateway } = await startHttp2();
    const client = await frames();
    const flood = many(3_000, (number) =>
      Buffer.concat([headersFrame(2 * number + 1, GET), resetFrame(2 * number + 1)]),
    );
    client.send(flood);
    await client.closed;
    expect(client.goawayCode).toBe(ENHANCE_YOUR_CALM);
    expect(gateway.storage.calls.length).toBeLessThan(2 * HTTP2_RESETS_BURST);
    for (const { options } of gateway.storage.calls) {
      expect(options.cancellation?.isCancelled).toBe(true);
    }
  });

  it("that the client makes the server reset count as much", async () => {
    const { frames, hold } = await startHttp2();
    hold();
    const client = await frames();
    // A window of nothing is the server's to answer by a reset.
    const made = (number: number): Buffer => {
      const id = 2 * number + 1;
      return Buffer.concat([headersFrame(id, GET), frame(FRAME.window, 0, id, uint32(0))]);
    };
    for (let part = 0; part < 10 && !client.isClosed; part++) {
      client.send(many(100, (number) => made(part * 100 + number)));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await client.closed;
  });

  it("that were reset still count while their handlers run", async () => {
    const { frames, hold, gateway } = await startHttp2();
    const release = hold();
    const client = await frames();
    const half = HTTP2_STREAMS_MAX;
    client.send(many(half, (number) => headersFrame(2 * number + 1, GET)));
    await expect.poll(() => gateway.storage.calls.length).toBe(half);
    client.send(many(half, (number) => resetFrame(2 * number + 1)));
    const { calls } = gateway.storage;
    await expect
      .poll(() => calls.filter(({ options }) => options.cancellation?.isCancelled).length)
      .toBe(half);
    // The library needs a turn to forget them.
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.send(many(half, (number) => headersFrame(2 * (half + number) + 1, GET)));
    await expect.poll(() => gateway.storage.calls.length).toBe(HTTP2_RUNNING_MAX);
    const last = 2 * HTTP2_RUNNING_MAX - 1;
    client.send(resetFrame(last));
    // The library needs a turn to forget it.
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.send(headersFrame(last + 2, GET));
    await expect.poll(() => client.resetCode(last + 2)).toBe(REFUSED_STREAM);
    expect(gateway.storage.calls).toHaveLength(HTTP2_RUNNING_MAX);
    release();
    await expect.poll(() => client.of(FRAME.headers).length).toBe(half - 1);
    await expectServed(client, last + 4);
  });
});

describe("frames that carry nothing", () => {
  const open = headersFrame(1, request("PUT", "/v1/kv/a"), END_HEADERS);
  it.each<[string, Buffer, Buffer | undefined]>([
    ["pings", frame(FRAME.ping, 0, 0, Buffer.alloc(8)), undefined],
    ["settings", frame(FRAME.settings, 0, 0), undefined],
    ["windows of the connection", frame(FRAME.window, 0, 0, uint32(1)), undefined],
    ["windows of a stream", frame(FRAME.window, 0, 1, uint32(1)), open],
    ["empty bodies", frame(FRAME.data, 0, 1), open],
    [
      "bodies of padding",
      frame(FRAME.data, 8, 1, Buffer.from([9, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
      open,
    ],
    ["priorities", frame(FRAME.priority, 0, 1, Buffer.from([0, 0, 0, 0, 1])), undefined],
    ["unknown frames", frame(77, 0, 0), undefined],
  ])("close the connection when there are too many: %s", async (_, waste, first) => {
    const { frames, gateway } = await startHttp2();
    const client = await frames();
    if (first !== undefined) client.send(first);
    for (let part = 0; part < 100 && !client.isClosed; part++) {
      client.send(many(2_000, () => waste));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await client.closed;
    expect(gateway.storage.calls).toEqual([]);
  });

  it("are as many as they need to be for a client that receives much", async () => {
    const { client, gateway } = await startHttp2();
    const agent = client();
    const body = Buffer.alloc(1024 * 1024, "x");
    await agent.ask({ method: "PUT", path: "/v1/kv/a", body });
    for (let count = 0; count < 20; count++) {
      expect((await agent.ask({ path: "/v1/kv/a" })).body.length).toBe(body.length);
    }
    expect(gateway.storage.calls).toHaveLength(21);
  });

  it("are not bodies that are refused, which are dropped so that their clients see why", async () => {
    const { client, gateway } = await startHttp2();
    const agent = client();
    const body = Buffer.alloc(1024 * 1024 + 1, "x");
    for (const [method, path, status] of [
      ["PUT", "/v1/kv/a?no", 400],
      ["POST", "/admin/tenants", 413],
      ["POST", "/nowhere", 404],
    ] as const) {
      const asked = Array.from({ length: 20 }, () => agent.ask({ method, path, body }));
      for (const answer of await Promise.all(asked)) expect(answer.status).toBe(status);
    }
    expect(agent.goawayCode).toBeUndefined();
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
    expect((await agent.ask({ path: "/v1/limits" })).status).toBe(200);
  });
});
