/** Streamed answers over sockets: at the client's pace, to the end or with a word of why not. */
import { get, type IncomingMessage } from "node:http";
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { SCAN_CHUNK_ROWS_MAX } from "#shared/limits.ts";
import { type HttpServer, startHttpServer } from "./server.ts";
import { type TestGateway, testGateway } from "./testing/gateway.ts";
import { RawClient } from "./testing/raw-client.ts";

let gateway: TestGateway;
let server: HttpServer;
let clients: RawClient[] = [];

beforeEach(async () => {
  gateway = testGateway();
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startHttpServer({ app: gateway.app, listen, limits: { closeGraceMs: 20 } });
});
afterEach(async () => {
  for (const client of clients) client.socket.destroy();
  clients = [];
  await server.close(0);
});

function connect(): RawClient {
  const client = new RawClient(server.address.port);
  clients.push(client);
  return client;
}

const NDJSON = "Accept: application/x-ndjson";

async function store(count: number, sizeBytes = 1): Promise<readonly string[]> {
  const keys = Array.from({ length: count }, (_, i) => `key-${String(i).padStart(5, "0")}`);
  const input = { value: new Uint8Array(sizeBytes).fill(0x61), contentType: "", ttlMs: 0 };
  for (const key of keys) {
    await gateway.storage.put({ tenant: DEFAULT_TENANT, key: utf8(key) }, input, { deadlineMs: 0 });
  }
  gateway.storage.calls.length = 0;
  return keys;
}

function open(path = "/v1/kv"): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { Accept: "application/x-ndjson" };
    get({ host: "127.0.0.1", port: server.address.port, path, headers }, resolve).on(
      "error",
      reject,
    );
  });
}

type Line = { readonly key?: string; readonly error?: { code: string }; readonly cursor?: string };

async function linesOf(incoming: IncomingMessage): Promise<readonly Line[]> {
  let text = "";
  for await (const chunk of incoming.setEncoding("utf8")) text += chunk;
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

const turn = (ms = 1) => new Promise((resolve) => setTimeout(resolve, ms));

describe("a streamed scan", () => {
  it("comes in chunks, and the connection goes on to the next request", async () => {
    const keys = await store(2 * SCAN_CHUNK_ROWS_MAX);
    const client = connect();
    client.request("GET", "/v1/kv", [NDJSON]);
    client.request("GET", "/v1/kv/absent");
    const head = await client.response();
    expect(head.status).toBe(200);
    expect(head.headers.get("transfer-encoding")).toBe("chunked");
    expect(head.headers.get("x-request-id")).toMatch(/./);
    await expect.poll(() => client.rest).toContain("HTTP/1.1 404");
    const [stream, ...after] = client.rest.split("HTTP/1.1 404");
    expect(after).toHaveLength(1);
    expect(stream!.endsWith("\r\n0\r\n\r\n")).toBe(true);
    for (const key of [keys[0], keys.at(-1)]) expect(stream).toContain(`"key":"${key}"`);
  });

  it("waits for a client that does not read, and gives it all when it does", async () => {
    const keys = await store(200, 256 * 1024);
    const incoming = await open();
    let before = -1;
    // Until the buffers on the way are full and nothing moves any more.
    await expect
      .poll(
        () => {
          const { length } = gateway.storage.calls;
          const stands = length === before && length > 0;
          before = length;
          return stands;
        },
        { interval: 200, timeout: 10_000 },
      )
      .toBe(true);
    expect(gateway.storage.calls.length).toBeLessThan(keys.length / 4);
    expect((await linesOf(incoming)).map(({ key }) => key)).toEqual(keys);
  });

  it("ends with its client, and asks storage for nothing more", async () => {
    const keys = await store(200, 256 * 1024);
    const incoming = await open();
    await turn(50);
    incoming.destroy();
    const asked = gateway.storage.calls.length;
    expect(asked).toBeLessThan(keys.length / 2);
    await turn(50);
    // What was under way may have come to its end.
    expect(gateway.storage.calls.length).toBeLessThanOrEqual(asked + 2);
    for (let i = 0; i < 100; i++) {
      const next = await open("/v1/kv?prefix=absent");
      next.resume();
      expect(next.statusCode).toBe(200);
      await new Promise((resolve) => next.on("end", resolve));
    }
  });

  it("says that the server stops, and from where to go on", async () => {
    const keys = await store(200, 256 * 1024);
    const incoming = await open();
    await turn(50);
    const closed = server.close(10_000);
    const lines = await linesOf(incoming);
    expect(await closed).toEqual({ connectionsCut: 0 });
    const last = lines.at(-1)!;
    expect(last).toMatchObject({ error: { code: "UNAVAILABLE", retryable: true } });
    const given = lines.slice(0, -1).map(({ key }) => key);
    expect(given).toEqual(keys.slice(0, given.length));
    expect(given.length).toBeLessThan(keys.length);
    const rest = await gateway.app.request(`/v1/kv?limit=1&keys_only&cursor=${last.cursor}`);
    expect(await rest.json()).toMatchObject({ items: [{ key: keys[given.length] }] });
  });

  it("that begins while the server stops ends soon as well", async () => {
    const keys = await store(200, 256 * 1024);
    const { gate } = gateway.app.gateway;
    const enter = gate.enter.bind(gate);
    onTestFinished(() => void (gate.enter = enter));
    const { promise: slow, resolve: goOn } = Promise.withResolvers<void>();
    let entered = 0;
    gate.enter = async (exchange) => {
      entered++;
      await slow;
      return enter(exchange);
    };
    const opened = open();
    await expect.poll(() => entered).toBe(1);
    const closed = server.close(10_000);
    // Past the moment in which streams are told.
    await turn(100);
    goOn();
    const lines = await linesOf(await opened);
    expect(lines.at(-1)).toMatchObject({ error: { code: "UNAVAILABLE" } });
    expect(lines.length).toBeLessThan(keys.length / 2);
    expect(await closed).toEqual({ connectionsCut: 0 });
  });

  it("of a route of Hono ends with the server too", async () => {
    const incoming = await open("/admin/audit?follow=1");
    incoming.resume();
    expect(await server.close(10_000)).toEqual({ connectionsCut: 0 });
    expect(incoming.complete).toBe(true);
  });

  it("says when storage fails on the way", async () => {
    const keys = await store(200, 256 * 1024);
    const incoming = await open();
    await turn(50);
    gateway.storage.failure = new KvError("NOT_LEADER", "no leader");
    const lines = await linesOf(incoming);
    expect(lines.at(-1)).toMatchObject({ error: { code: "NOT_LEADER" } });
    expect(lines.length - 1).toBeLessThan(keys.length);
  });

  it("comes to clients of HTTP/1.0 too, whose connection then ends", async () => {
    const keys = await store(10);
    const client = connect();
    client.send(`GET /v1/kv HTTP/1.0\r\n${NDJSON}\r\n\r\n`);
    await client.closed;
    expect(client.rest).toMatch(/^HTTP\/1\.1 200/);
    expect(client.rest).not.toContain("chunked");
    expect(client.rest.match(/"key":/g)).toHaveLength(keys.length);
  });

  it("comes whole to a client that sends a body nobody asked for", async () => {
    const keys = await store(10);
    const client = connect();
    client.request("GET", "/v1/kv", [NDJSON], "x".repeat(100_000));
    expect((await client.response()).status).toBe(200);
    await expect.poll(() => client.rest).toMatch(/\r\n0\r\n\r\n/);
    expect(client.rest.match(/"key":/g)).toHaveLength(keys.length);
  });
});

describe("a batch over a socket", () => {
  it("runs beside Hono, pipelined in order with single requests", async () => {
    const client = connect();
    const body = JSON.stringify({ ops: [{ op: "put", key: "a", value: "1" }] });
    for (let i = 0; i < 3; i++) {
      client.request("POST", "/v1/batch?", ["Content-Type: application/json"], body);
      client.request("DELETE", "/v1/kv/a");
    }
    for (let i = 0; i < 3; i++) {
      const answer = await client.response();
      expect(JSON.parse(answer.body)).toMatchObject({ results: [{ status: 201 }] });
      expect((await client.response()).status).toBe(204);
    }
  });

  it("that is too large is refused before it is sent", async () => {
    const client = connect();
    const headers = ["Content-Type: application/json", "Expect: 100-continue"];
    client.send(
      `POST /v1/batch HTTP/1.1\r\nHost: localhost\r\n${headers.join("\r\n")}\r\nContent-Length: 9000000\r\n\r\n`,
    );
    expect((await client.response()).status).toBe(413);
  });

  it("is cancelled when its client goes away", async () => {
    let release = (): void => {};
    gateway.storage.gate = new Promise((resolve) => {
      release = resolve;
    });
    const client = connect();
    const body = JSON.stringify({ ops: [{ op: "put", key: "a", value: "1" }] });
    client.request("POST", "/v1/batch", ["Content-Type: application/json"], body);
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    client.socket.destroy();
    const { cancellation } = gateway.storage.calls[0]!.options;
    await expect.poll(() => cancellation?.isCancelled).toBe(true);
    release();
  });
});
