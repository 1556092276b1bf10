/** Watches as Server-Sent Events, over sockets and without. */
import { get, type IncomingMessage } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { type HttpServer, startHttpServer } from "#gateway/server.ts";
import { bearer, TestAuth } from "#gateway/testing/auth.ts";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { RawClient } from "#gateway/testing/raw-client.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";

let servers: HttpServer[] = [];
const sockets: RawClient[] = [];
afterEach(async () => {
  for (const { socket } of sockets.splice(0)) socket.destroy();
  for (const server of servers) await server.close(0);
  servers = [];
});

async function listen(gateway: TestGateway, limits = {}): Promise<HttpServer> {
  const server = await startHttpServer({
    app: gateway.app,
    listen: { host: "127.0.0.1", port: 0 },
    limits: { closeGraceMs: 20, ...limits },
  });
  servers.push(server);
  return server;
}

type Stream = { readonly incoming: IncomingMessage; text: string; isEnded: boolean };

function open(
  server: HttpServer,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Stream> {
  return new Promise((resolve, reject) => {
    get(
      { host: "127.0.0.1", port: server.address.port, path, headers, agent: false },
      (incoming) => {
        const stream: Stream = { incoming, text: "", isEnded: false };
        incoming.setEncoding("utf8");
        incoming.on("data", (text: string) => {
          stream.text += text;
        });
        incoming.on("end", () => {
          stream.isEnded = true;
        });
        incoming.on("error", () => undefined);
        resolve(stream);
      },
    ).on("error", reject);
  });
}

describe("GET /v1/watch", () => {
  it.each(["/v1/watch", "/watch/sse"])("streams what the hub writes: %s", async (path) => {
    const gateway = testGateway();
    const server = await listen(gateway);
    const stream = await open(server, `${path}?prefix=a%2F&ops=delete,put&values=true`);
    expect(stream.incoming.statusCode).toBe(200);
    expect(stream.incoming.headers).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      "referrer-policy": "no-referrer",
      connection: "close",
    });
    expect(stream.incoming.headers["transfer-encoding"]).toBeUndefined();
    await expect.poll(() => stream.text).toMatch(/^retry: [123]\d{3}\n: watching\n\n$/);
    const watch = gateway.watches.newest;
    expect(watch.query).toEqual({
      tenant: 1,
      filter: { kind: "prefix", prefix: utf8("a/") },
      ops: ["put", "delete"],
      values: true,
      format: "sse",
    });
    expect(watch.from).toEqual({ since: undefined, isReconnect: false });
    watch.event("put", { key: "a/b" });
    await expect.poll(() => stream.text).toMatch(/event: put\ndata: {"key":"a\/b"}\nid: .*\n\n$/);
    stream.incoming.destroy();
    await expect.poll(() => watch.closes).toBe(1);
  });

  it("begins where Last-Event-ID says, and else where since says", async () => {
    const { app, watches } = testGateway();
    await app.request("/v1/watch?since=one");
    expect(watches.newest.from).toEqual({ since: "one", isReconnect: false });
    await app.request("/v1/watch?since=one", { headers: { "Last-Event-ID": "two" } });
    expect(watches.newest.from).toEqual({ since: "two", isReconnect: true });
    await app.request("/v1/watch?since=one", { headers: { "Last-Event-ID": "" } });
    expect(watches.newest.from).toEqual({ since: "one", isReconnect: false });
  });

  it.each([
    ["?prefx=a", "did you mean prefix"],
    ["?key=a&prefix=b", "not both"],
    ["?key=a&key64=YQ", "not both"],
    ["?key=", "at least one byte"],
    ["?key64=%2B", "base64url"],
    ["?ops=", "ops must name"],
    ["?ops=put,put,put,put", "ops must name"],
    ["?ops=write", "ops must name"],
    ["?values=maybe", "values must be"],
    ["?since=a%20b", "since must be"],
    [`?since=${"a".repeat(5000)}`, "since must be"],
  ])("refuses %s", async (query, detail) => {
    const { app, watches } = testGateway();
    const response = await app.request(`/v1/watch${query}`);
    expect(response.status).toBe(400);
    expect((await problemOf(response)).detail).toContain(detail);
    expect(watches.all).toEqual([]);
  });

  it("takes GET only", async () => {
    const { app } = testGateway();
    for (const method of ["HEAD", "POST", "PUT", "DELETE"]) {
      const response = await app.request("/v1/watch", { method });
      expect([method, response.status, response.headers.get("allow")]).toEqual([
        method,
        405,
        "GET",
      ]);
    }
  });

  it("answers what the hub refuses with its problem, before the stream begins", async () => {
    const gateway = testGateway();
    const server = await listen(gateway);
    for (const [code, status] of [
      ["COMPACTED", 410],
      ["OVERLOADED", 503],
      ["UNAVAILABLE", 503],
      ["DEADLINE_EXCEEDED", 504],
    ] as const) {
      gateway.watches.failure = new KvError(code, "no");
      const stream = await open(server, "/v1/watch");
      expect(stream.incoming.statusCode).toBe(status);
      expect(stream.incoming.headers["content-type"]).toBe("application/problem+json");
    }
    // A hub that refused holds nothing of the tenant's bound.
    gateway.watches.failure = undefined;
    expect((await open(server, "/v1/watch")).incoming.statusCode).toBe(200);
  });

  it("passes on that the client takes no more, and that it does again", async () => {
    const gateway = testGateway();
    const server = await listen(gateway);
    const stream = await open(server, "/v1/watch");
    stream.incoming.pause();
    const watch = gateway.watches.newest;
    const bytes = utf8(`: ${"x".repeat(65_000)}\n\n`);
    let writes = 0;
    while (watch.client.write(bytes) && writes < 1_000) writes++;
    expect(writes).toBeLessThan(1_000);
    expect(watch.drains).toBe(0);
    stream.incoming.resume();
    await expect.poll(() => watch.drains).toBe(1);
  });

  it("ends all watches with drain, and refuses new ones, when the gateway stops", async () => {
    const gateway = testGateway();
    const server = await listen(gateway);
    const streams = await Promise.all([1, 2, 3].map(() => open(server, "/v1/watch")));
    gateway.watch.drain();
    for (const stream of streams) {
      await expect.poll(() => stream.isEnded).toBe(true);
      expect(stream.text).toContain("event: drain\n");
    }
    const late = await open(server, "/v1/watch");
    expect(late.incoming.statusCode).toBe(503);
    expect(await server.close(5_000)).toEqual({ connectionsCut: 0 });
  });

  it("drains a watch that was opened while the gateway began to stop", async () => {
    const gateway = testGateway();
    const server = await listen(gateway);
    const opening = Promise.withResolvers<void>();
    gateway.watches.gate = opening.promise;
    const stream = open(server, "/v1/watch");
    await expect.poll(() => gateway.watches.opening).toBe(1);
    gateway.watch.drain();
    opening.resolve();
    const { text } = await stream.then(async (opened) => {
      await expect.poll(() => opened.isEnded).toBe(true);
      return opened;
    });
    expect(text).toContain("event: drain\n");
    await expect.poll(() => gateway.watches.running).toHaveLength(0);
  });

  it("is closed when its client goes while it is being opened", async () => {
    const gateway = testGateway();
    const server = await listen(gateway);
    const opening = Promise.withResolvers<void>();
    gateway.watches.gate = opening.promise;
    const client = new RawClient(server.address.port);
    client.request("GET", "/v1/watch");
    await expect.poll(() => gateway.watches.opening).toBe(1);
    client.socket.destroy();
    await client.closed;
    await new Promise((resolve) => setTimeout(resolve, 20));
    opening.resolve();
    await expect.poll(() => gateway.watches.all.map(({ closes }) => closes)).toEqual([1]);
  });

  it("outlives the timeouts of requests and of idle connections as long as something is written", async () => {
    const gateway = testGateway();
    const limits = {
      requestTimeoutMs: 60,
      headersTimeoutMs: 60,
      stallTimeoutMs: 150,
      checkIntervalMs: 20,
    };
    const server = await listen(gateway, limits);
    const [healthy, idle] = [await open(server, "/v1/watch"), await open(server, "/v1/watch")];
    const [watch] = gateway.watches.all;
    for (let beat = 0; beat < 12; beat++) {
      watch!.client.write(utf8(":\n\n"));
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    expect(healthy.isEnded).toBe(false);
    // Nobody wrote to it, which the hub does every 15 s.
    await expect.poll(() => idle.incoming.destroyed).toBe(true);
    await expect.poll(() => gateway.watches.running).toEqual([watch]);
  });

  // It would be told nothing, and never know.
  it("is refused while a storage node does not know watches, and so is a ticket for one", async () => {
    let why: string | undefined = "watches need an update";
    const gateway = testGateway({ whyNoWatches: () => why });
    const server = await listen(gateway);
    const url = `http://127.0.0.1:${server.address.port}`;
    const ticket = { method: "POST", body: '{"prefix":"a"}' };
    const headers = { "Content-Type": "application/json" };
    for (const answer of [
      await fetch(`${url}/v1/watch`),
      await fetch(`${url}/v1/watch/tickets`, { ...ticket, headers }),
    ]) {
      expect(answer.status).toBe(503);
      expect(await problemOf(answer)).toMatchObject({ code: "UNAVAILABLE", detail: why });
    }
    expect(gateway.watches.all).toEqual([]);
    why = undefined;
    const stream = await open(server, "/v1/watch");
    expect(stream.incoming.statusCode).toBe(200);
  });

  it("is sent to a client of HTTP/1.0 too", async () => {
    const gateway = testGateway();
    const server = await listen(gateway);
    const client = new RawClient(server.address.port);
    sockets.push(client);
    client.send("GET /v1/watch HTTP/1.0\r\n\r\n");
    expect((await client.response()).status).toBe(200);
    await expect.poll(() => client.rest).toContain(": watching\n\n");
  });
});

describe("who watches", () => {
  it("may watch what it may read, and nothing else", async () => {
    const auth = new TestAuth();
    const { app, watches } = testGateway({ auth });
    const key = await auth.addKey("ReadOnly", { prefixes: [utf8("a/")] });
    const status = async (query: string) =>
      (await app.request(`/v1/watch${query}`, { headers: bearer(key) })).status;
    expect(await status("?prefix=a%2F")).toBe(200);
    expect(await status("?prefix=a%2Fb&values=true")).toBe(200);
    expect(await status("?key=a%2Fb")).toBe(200);
    expect(await status("?prefix=a")).toBe(403);
    expect(await status("?key=b")).toBe(403);
    expect(await status("")).toBe(403);
    expect(watches.all).toHaveLength(3);
  });

  it("watches its own tenant", async () => {
    const auth = new TestAuth();
    const { app, watches } = testGateway({ auth });
    const tenant = await auth.addTenant(7, "seven");
    const key = await auth.addKey("ReadOnly", { tenant });
    await app.request("/v1/watch", { headers: bearer(key) });
    expect(watches.newest.query.tenant).toBe(7);
    const other = { ...bearer(key), "Minikv-Tenant": "default" };
    expect((await app.request("/v1/watch", { headers: other })).status).toBe(403);
  });
});
