/** Watches by WebSocket, with a client that keeps to the protocol and one that does not. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { Cors, parseOrigins } from "#gateway/http/cors.ts";
import { type HttpServer, startHttpServer } from "#gateway/server.ts";
import { bearer, TestAuth } from "#gateway/testing/auth.ts";
import { textFrame } from "#gateway/testing/fake-watches.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { RawClient, type RawResponse } from "#gateway/testing/raw-client.ts";
import { KvError } from "#shared/errors.ts";
import {
  WATCH_CLIENT_BYTES_PER_PING_MAX,
  WATCH_CLIENT_PINGS_MAX,
  WATCH_PING_INTERVAL_MS,
  WATCH_PING_PARTS,
} from "#shared/limits-watch-http.ts";

let gateway: TestGateway;
let server: HttpServer;
let clients: { close: () => void }[] = [];

async function start(options: Parameters<typeof testGateway>[0] = {}): Promise<void> {
  gateway = testGateway(options);
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startHttpServer({ app: gateway.app, listen, limits: { closeGraceMs: 20 } });
}
beforeEach(() => start());
afterEach(async () => {
  for (const client of clients) client.close();
  clients = [];
  await server.close(0);
});

type Client = {
  readonly ws: WebSocket;
  readonly messages: string[];
  closed: { readonly code: number; readonly reason: string } | undefined;
};

function connect(path = "/v1/watch/ws", options: WebSocket.ClientOptions = {}): Promise<Client> {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://127.0.0.1:${server.address.port}${path}`, options);
    const client: Client = { ws, messages: [], closed: undefined };
    clients.push({ close: () => ws.terminate() });
    ws.on("message", (data) => client.messages.push(String(data)));
    ws.on("close", (code, reason) => {
      client.closed = { code, reason: String(reason) };
    });
    ws.on("error", reject);
    ws.on("open", () => resolve(client));
  });
}

const HANDSHAKE = [
  ...["Connection: Upgrade", "Upgrade: websocket"],
  ...["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
];

function raw(): RawClient {
  const client = new RawClient(server.address.port);
  clients.push({ close: () => client.socket.destroy() });
  return client;
}

async function handshake(
  target = "/v1/watch/ws",
  headers: readonly string[] = HANDSHAKE,
): Promise<{ readonly client: RawClient; readonly response: RawResponse }> {
  const client = raw();
  client.request("GET", target, headers);
  return { client, response: await client.response() };
}

const without = (name: string) => HANDSHAKE.filter((header) => !header.startsWith(name));

/** A frame of a client: masked, with a mask that changes nothing. */
const frame = (first: number, payload: string, length = payload.length): string =>
  String.fromCharCode(first, 0x80 | length, 0, 0, 0, 0) + payload;

describe("GET /v1/watch/ws", () => {
  it.each(["/v1/watch/ws", "/watch/ws"])("carries the frames of the hub: %s", async (path) => {
    const client = await connect(`${path}?prefix=a&values=true`);
    const watch = gateway.watches.newest;
    expect(watch.query).toMatchObject({ format: "ws", values: true, filter: { kind: "prefix" } });
    watch.event("put", { key: "a" });
    watch.client.write(Buffer.concat([textFrame("x".repeat(200)), textFrame("y".repeat(70_000))]));
    await expect.poll(() => client.messages.map(({ length }) => length)).toEqual([52, 200, 70_000]);
    client.ws.close();
    await expect.poll(() => watch.closes).toBe(1);
    expect(gateway.app.gateway.sockets!.count).toBe(0);
  });

  it("does not mix frames of the hub with pings and pongs", async () => {
    const client = await connect();
    const watch = gateway.watches.newest;
    let pongs = 0;
    client.ws.on("pong", () => pongs++);
    for (let i = 0; i < 300; i++) {
      watch.event("put", { number: i, filler: "z".repeat(i * 7) });
      if (i % 10 === 0) client.ws.ping("p");
      if (i % 15 === 0) gateway.clock.advance(WATCH_PING_INTERVAL_MS);
      if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await expect.poll(() => client.messages.length).toBe(300);
    const numbers = client.messages.map(
      (text) => (JSON.parse(text) as { data: { number: number } }).data.number,
    );
    expect(numbers).toEqual(Array.from({ length: 300 }, (_, i) => i));
    await expect.poll(() => pongs).toBeGreaterThan(20);
    expect(client.closed).toBeUndefined();
  });

  it("passes on that the client takes no more, and that it does again", async () => {
    const client = await connect();
    const watch = gateway.watches.newest;
    client.ws.pause();
    const bytes = textFrame("x".repeat(65_000));
    let writes = 0;
    while (watch.client.write(bytes) && writes < 1_000) writes++;
    expect(writes).toBeLessThan(1_000);
    client.ws.resume();
    await expect.poll(() => watch.drains).toBe(1);
  });

  it("answers what does not ask for WebSocket with 426", async () => {
    for (const headers of [
      [],
      ["Connection: Upgrade", "Upgrade: h2c"],
      without("Sec-WebSocket-Version"),
      without("Sec-WebSocket-Key"),
      [...without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 8"],
      [...without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: short"],
      [...HANDSHAKE, "Content-Length: 2"],
      [...HANDSHAKE, "Transfer-Encoding: chunked"],
    ]) {
      const client = raw();
      client.request("GET", "/v1/watch/ws", headers);
      if (headers.includes("Content-Length: 2")) client.send("{}");
      if (headers.includes("Transfer-Encoding: chunked")) client.send("0\r\n\r\n");
      const response = await client.response();
      expect([headers, response.status]).toEqual([headers, 426]);
      expect(response.headers.get("sec-websocket-version")).toBe("13");
      expect(JSON.parse(response.body)).toMatchObject({ code: "UPGRADE_REQUIRED" });
    }
    expect(gateway.watches.all).toEqual([]);
  });

  it("leaves upgrades on other paths to the routes, as if nothing had been said of them", async () => {
    for (const [target, status] of [
      ["/v1/kv/a", 404],
      ["/health/live", 200],
      ["/v1/watch/ws2", 404],
    ] as const) {
      const { response } = await handshake(target);
      expect([target, response.status]).toEqual([target, status]);
    }
    const { response } = await handshake("/v1/watch");
    expect(response.headers.get("content-type")).toContain("text/event-stream");
  });

  it("refuses as every route does, before anything is upgraded", async () => {
    for (const [target, headers, status] of [
      ["/v1/watch/ws?nope=1", HANDSHAKE, 400],
      [`/v1/watch/ws?prefix=${"a".repeat(9_000)}`, HANDSHAKE, 414],
      ["/v1/watch/ws", [...HANDSHAKE, "Host: other"], 400],
    ] as const) {
      const { response, client } = await handshake(target, headers);
      expect([target, response.status]).toEqual([target, status]);
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(response.headers.get("referrer-policy")).toBe("no-referrer");
      expect(response.headers.get("connection")).toBe("close");
      await client.closed;
    }
    gateway.watches.failure = new KvError("COMPACTED", "gone");
    expect((await handshake()).response.status).toBe(410);
    gateway.watch.drain();
    expect((await handshake()).response.status).toBe(503);
  });

  it("is not upgraded behind a request that is still being answered", async () => {
    const hold = Promise.withResolvers<void>();
    gateway.storage.gate = hold.promise;
    const client = raw();
    client.request("GET", "/v1/kv/a");
    client.request("GET", "/v1/watch/ws", HANDSHAKE);
    await new Promise((resolve) => setTimeout(resolve, 20));
    hold.resolve();
    expect((await client.response()).status).toBe(404);
    expect((await client.response()).status).toBe(426);
  });

  it("names its protocol to a client that knows it, and no other", async () => {
    const ws = new WebSocket(`ws://127.0.0.1:${server.address.port}/v1/watch/ws`, [
      ...["something", "minikv.watch.v1"],
    ]);
    clients.push({ close: () => ws.terminate() });
    await new Promise((resolve) => ws.on("open", resolve));
    expect(ws.protocol).toBe("minikv.watch.v1");
    const { response } = await handshake("/v1/watch/ws", [
      ...[...HANDSHAKE, "Sec-WebSocket-Protocol: other"],
      "Sec-WebSocket-Extensions: permessage-deflate",
    ]);
    expect(response.status).toBe(101);
    expect(response.headers.get("sec-websocket-protocol")).toBeUndefined();
    expect(response.headers.get("sec-websocket-extensions")).toBeUndefined();
  });
});

describe("the end of a WebSocket", () => {
  it("is 1001 behind the event drain when the gateway stops", async () => {
    const client = await connect();
    gateway.watch.drain();
    await expect.poll(() => client.closed?.code).toBe(1001);
    expect(client.messages.map((text) => JSON.parse(text))).toMatchObject([{ event: "drain" }]);
    expect(await server.close(5_000)).toEqual({ connectionsCut: 0 });
  });

  it("is 1001 too when only the listener closes", async () => {
    const client = await connect();
    expect(await server.close(5_000)).toEqual({ connectionsCut: 0 });
    await expect.poll(() => client.closed?.code).toBe(1001);
  });

  it("is 1013 when the hub has had enough", async () => {
    const client = await connect();
    gateway.watches.newest.client.end();
    await expect.poll(() => client.closed?.code).toBe(1013);
  });

  it("is 1008 behind the event revoke when its key is revoked", async () => {
    await server.close(0);
    const auth = new TestAuth();
    await start({ auth });
    const key = await auth.addKey("ReadOnly");
    const headers = { Authorization: bearer(key).authorization };
    const client = await connect("/v1/watch/ws", { headers });
    await auth.changeKey(key.id, (record) => {
      record.revokedAtMs = 1n;
    });
    gateway.clock.advance(20);
    await expect.poll(() => client.closed?.code).toBe(1008);
    expect(client.messages.map((text) => JSON.parse(text))).toEqual([
      { event: "revoke", data: { reason: "the credentials were revoked" }, token: "dG9rZW4" },
    ]);
    await expect(connect("/v1/watch/ws", { headers })).rejects.toThrow("401");
    await expect(connect("/v1/watch/ws")).rejects.toThrow("401");
  });

  it("comes to one that does not answer a ping, and only to that", async () => {
    const [alive, dead] = [await connect(), await connect("/v1/watch/ws", { autoPong: false })];
    for (let beat = 0; beat < 3 * WATCH_PING_PARTS; beat++) {
      gateway.clock.advance(WATCH_PING_INTERVAL_MS / WATCH_PING_PARTS);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    await expect.poll(() => dead.closed?.code).toBe(1006);
    expect(alive.closed).toBeUndefined();
    await expect.poll(() => gateway.watches.running).toHaveLength(1);
    alive.ws.terminate();
    await expect.poll(() => gateway.app.gateway.sockets!.count).toBe(0);
  });
});

describe("a client that says what it should not", () => {
  it.each([
    ["text", frame(0x81, "hello"), 1008],
    ["bytes", frame(0x82, "hello"), 1003],
    ["an empty message", frame(0x81, ""), 1008],
    [
      "a part of a message, and another",
      frame(0x01, "a".repeat(120)) + frame(0x80, "b".repeat(120)),
      1009,
    ],
    ["a large frame", `\x81\xfe\x10\x00\0\0\0\0${"a".repeat(4096)}`, 1009],
    ["a frame of 2^62 bytes", "\x81\xff\x40\0\0\0\0\0\0\0\0\0\0\0", 1009],
    ["a frame without a mask", "\x81\x05hello", 1002],
    ["a reserved opcode", frame(0x83, ""), 1002],
    ["a reserved bit", frame(0xc1, ""), 1002],
    ["a long ping", "\x89\xfe\x00\x7e\0\0\0\0" + "a".repeat(126), 1002],
    ["text that is no UTF-8", frame(0x81, "\xff\xfe"), 1007],
    ["HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 1002],
  ])("gets a close frame and the end: %s", async (_, bytes, code) => {
    const { client, response } = await handshake();
    expect(response.status).toBe(101);
    client.send(bytes);
    await expect.poll(() => client.rest.length).toBeGreaterThanOrEqual(4);
    expect(client.rest.charCodeAt(0)).toBe(0x88);
    expect(client.rest.charCodeAt(2) * 256 + client.rest.charCodeAt(3)).toBe(code);
    client.socket.destroy();
    await expect.poll(() => gateway.watches.running).toEqual([]);
  });

  it("may send bytes with its handshake, which are looked at as frames", async () => {
    const client = raw();
    client.send(
      `GET /v1/watch/ws HTTP/1.1\r\nHost: localhost\r\n${HANDSHAKE.join("\r\n")}\r\n\r\n${frame(0x81, "hello")}`,
    );
    expect((await client.response()).status).toBe(101);
    await expect.poll(() => client.rest.length).toBeGreaterThanOrEqual(4);
    expect(client.rest.charCodeAt(0)).toBe(0x88);
  });

  it("is closed when it pings all the time", async () => {
    const { client } = await handshake();
    for (let ping = 0; ping <= WATCH_CLIENT_PINGS_MAX; ping++) {
      client.send(frame(0x89, ""));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await expect.poll(() => client.rest).toContain("\x88");
    client.socket.destroy();
    await expect.poll(() => gateway.watches.running).toEqual([]);
  });

  it.each([
    ["pongs that nobody asked for", frame(0x8a, "x".repeat(125))],
    ["fragments of nothing", frame(0x00, "")],
  ])("is cut when it goes on sending %s", async (_name, flood) => {
    const { client } = await handshake();
    client.send(frame(0x01, ""));
    client.send(flood.repeat(WATCH_CLIENT_BYTES_PER_PING_MAX / flood.length + 1));
    await expect
      .poll(() => client.socket.bytesWritten)
      .toBeGreaterThan(WATCH_CLIENT_BYTES_PER_PING_MAX);
    await new Promise((resolve) => setTimeout(resolve, 50));
    gateway.clock.advance(WATCH_PING_INTERVAL_MS);
    await client.closed;
    await expect.poll(() => gateway.watches.running).toEqual([]);
  });

  it("gets nothing behind its own close frame", async () => {
    const { client } = await handshake();
    client.send(frame(0x88, "\x03\xe8"));
    await expect.poll(() => client.rest).toBe("\x88\x02\x03\xe8");
    gateway.watches.newest.event("put", {});
    await client.closed;
    expect(client.rest).toBe("\x88\x02\x03\xe8");
  });

  it("leaves nothing behind when it goes at any moment of the handshake", async () => {
    const opening = Promise.withResolvers<void>();
    gateway.watches.gate = opening.promise;
    const some = Array.from({ length: 40 }, () => {
      const client = raw();
      client.request("GET", "/v1/watch/ws", HANDSHAKE);
      return client;
    });
    await expect.poll(() => gateway.watches.opening).toBe(40);
    for (const [i, { socket }] of some.entries()) {
      if (i % 3 === 0) socket.resetAndDestroy();
      else if (i % 3 === 1) socket.end();
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
    opening.resolve();
    await expect.poll(() => gateway.watches.all.length).toBe(40);
    for (const { socket } of some) socket.destroy();
    await expect.poll(() => gateway.watches.running).toEqual([]);
    expect(gateway.app.gateway.sockets!.count).toBe(0);
    expect(gateway.failures).toEqual([]);
  });

  it("finds the gateway as it was after hundreds of others came and went", async () => {
    for (let round = 0; round < 10; round++) {
      const some = await Promise.all(Array.from({ length: 30 }, () => handshake()));
      for (const { client } of some) client.socket.destroy();
    }
    await expect.poll(() => gateway.watches.running).toEqual([]);
    expect(gateway.watches.all).toHaveLength(300);
    expect(gateway.app.gateway.sockets!.count).toBe(0);
    expect((await handshake()).response.status).toBe(101);
  });
});

describe("a web page", () => {
  const from = async (origin: string, host = `127.0.0.1:${server.address.port}`) => {
    const client = raw();
    const headers = [...HANDSHAKE, `Host: ${host}`, `Origin: ${origin}`].join("\r\n");
    client.send(`GET /v1/watch/ws HTTP/1.1\r\n${headers}\r\n\r\n`);
    return (await client.response()).status;
  };

  it("may open a WebSocket to the server that it is of, and to no other", async () => {
    const own = `127.0.0.1:${server.address.port}`;
    expect(await from(`http://${own}`)).toBe(101);
    expect(await from(`https://${own}`)).toBe(101);
    expect(await from("http://localhost:9000", "localhost:9000")).toBe(101);
    expect(await from("http://[::1]:9000", "[::1]:9000")).toBe(101);
    expect(await from("http://evil.example")).toBe(403);
    expect(await from("http://127.0.0.1:1")).toBe(403);
    expect(await from("null")).toBe(403);
    expect(await from("file://")).toBe(403);
    expect(await from(`http://${own}/`)).toBe(403);
    expect(await from(`http://user@${own}`)).toBe(403);
  });

  it("may not point its own name here where nobody is authenticated", async () => {
    expect(await from("http://evil.example:9000", "evil.example:9000")).toBe(403);
    expect(await from("http://localhost.evil.example", "localhost.evil.example")).toBe(403);
    expect(await from("http://127.0.0.1.evil.example", "127.0.0.1.evil.example")).toBe(403);
  });

  it("may when an operator has named its origin, or any", async () => {
    for (const named of ["https://app.example", "*"]) {
      await server.close(0);
      await start({ cors: new Cors(parseOrigins(named)!) });
      expect(await from("https://app.example")).toBe(101);
      expect(await from("https://other.example")).toBe(named === "*" ? 101 : 403);
    }
  });
});
