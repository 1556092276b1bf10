/** Requests of one HTTP/2 connection: side by side, with bodies and streamed answers, and to their end. */
import { Agent, request as httpsRequest } from "node:https";
import { connect, type TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import type { Exchange } from "#gateway/http/exchange.ts";
import { Networks } from "#gateway/limits/address.ts";
import { ClientAddresses } from "#gateway/limits/client-address.ts";
import { RateLimiter } from "#gateway/limits/limiter.ts";
import { startHttpServer } from "#gateway/server.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { responseOf } from "#gateway/testing/http2-client.ts";
import {
  END_HEADERS,
  FRAME,
  frame,
  headersFrame,
  request,
  resetFrame,
} from "#gateway/testing/http2-frames.ts";
import { startHttp2, testAuthority, testMaterial } from "#gateway/testing/http2-server.ts";
import { callerOf, putTenant } from "#gateway/testing/limits.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { SCAN_CHUNK_ROWS_MAX, VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";

const turn = (ms = 1) => new Promise((resolve) => setTimeout(resolve, ms));

describe("ALPN", () => {
  const alpnOf = async (port: number, protocols?: string[]) => {
    const socket = await new Promise<TLSSocket>((resolve, reject) => {
      const options = { host: "127.0.0.1", port, ca: testAuthority.ca };
      const made = connect({ ...options, ...(protocols && { ALPNProtocols: protocols }) });
      made.once("secureConnect", () => resolve(made));
      made.once("error", reject);
    });
    onTestFinished(() => void socket.destroy());
    return socket.alpnProtocol;
  };

  it("gives HTTP/2 to those who offer it, and HTTP/1.1 to others", async () => {
    const { server } = await startHttp2();
    const { port } = server.address;
    expect(await alpnOf(port, ["h2", "http/1.1"])).toBe("h2");
    expect(await alpnOf(port, ["http/1.1"])).toBe("http/1.1");
    expect(await alpnOf(port)).toBe(false);
  });

  it("does not offer HTTP/2 where it is switched off", async () => {
    const { app } = testGateway();
    const listen = { host: "127.0.0.1", port: 0 };
    const server = await startHttpServer({ app, listen, tls: testMaterial(), http2: false });
    onTestFinished(() => void server.close(0));
    expect(await alpnOf(server.address.port, ["h2", "http/1.1"])).toBe("http/1.1");
  });

  it("leaves the timeouts of HTTP/1.1 as they are", async () => {
    const { server } = await startHttp2({ headersTimeoutMs: 60, requestTimeoutMs: 1_000 });
    const options = { host: "127.0.0.1", port: server.address.port, ca: testAuthority.ca };
    const socket = connect({ ...options, ALPNProtocols: ["http/1.1"] });
    const text = new Promise<string>((resolve) => {
      socket.setEncoding("utf8").once("data", resolve);
    });
    socket.write("GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    expect(await text).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe("requests of one connection", () => {
  it("run side by side, each with its own end", async () => {
    const { client, hold, gateway } = await startHttp2();
    const agent = client();
    const release = hold();
    const [first, second] = [agent.open({ path: "/v1/kv/a" }), agent.open({ path: "/v1/kv/b" })];
    await expect.poll(() => gateway.storage.calls.length).toBe(2);
    // A route that asks no storage overtakes both.
    expect((await agent.ask({ path: "/v1/limits" })).status).toBe(200);
    first.close(8);
    const [one, two] = gateway.storage.calls.map(({ options }) => options.cancellation);
    await expect.poll(() => one!.isCancelled).toBe(true);
    expect(two!.isCancelled).toBe(false);
    release();
    expect((await responseOf(second)).status).toBe(404);
  });

  it("are cancelled when their connection goes away", async () => {
    const { client, hold, gateway } = await startHttp2();
    const agent = client();
    const release = hold();
    for (const path of ["/v1/kv/a", "/v1/kv/b"]) agent.open({ path });
    await expect.poll(() => gateway.storage.calls.length).toBe(2);
    agent.close();
    for (const { options } of gateway.storage.calls) {
      await expect.poll(() => options.cancellation?.isCancelled).toBe(true);
    }
    release();
    expect(gateway.failures).toEqual([]);
  });

  it("know the address of their client, on every route", async () => {
    const { client, gateway } = await startHttp2();
    const seen: string[] = [];
    const { gate } = gateway.app.gateway;
    const enter = gate.enter.bind(gate);
    // Shared by all tests.
    onTestFinished(() => void (gate.enter = enter));
    gate.enter = (exchange: Exchange) => {
      seen.push(exchange.peerAddress);
      return enter(exchange);
    };
    const agent = client();
    for (const path of ["/v1/kv/a", "/v1/limits"]) await agent.ask({ path });
    expect(seen).toEqual(["127.0.0.1", "127.0.0.1"]);
  });

  it("tell whoever charges for bodies of one that does not say how large it is", async () => {
    const { client, gateway } = await startHttp2();
    const seen: string[] = [];
    const { gate } = gateway.app.gateway;
    const enter = gate.enter.bind(gate);
    // Shared by all tests.
    onTestFinished(() => void (gate.enter = enter));
    gate.enter = (exchange: Exchange) => {
      const size = exchange.isBodyUnannounced ? "unannounced" : exchange.header("content-length");
      seen.push(`${exchange.method} ${size ?? "none"}`);
      return enter(exchange);
    };
    const agent = client();
    const method = "PUT";
    await agent.ask({ method, path: "/v1/kv/a", body: "x" });
    await agent.ask({ method, path: "/v1/kv/a", body: "x", headers: { "content-length": 1 } });
    await agent.ask({ method: "DELETE", path: "/v1/kv/a" });
    // Of Hono.
    await agent.ask({ method: "POST", path: "/admin/keys", body: "{}" });
    await agent.ask({ method: "POST", path: "/admin/keys" });
    expect(seen).toEqual([
      ...["PUT unannounced", "PUT 1", "DELETE none"],
      ...["POST unannounced", "POST none"],
    ]);
  });

  it("pay for a body that does not say how large it is as over HTTP/1.1", async () => {
    const { client, gateway } = await startHttp2();
    const { clock, directory } = gateway;
    const tenants = new TenantRegistry(directory);
    await putTenant(directory, 7, { quotas: { requestBytesPerSecond: 1_000n } });
    const addresses = new ClientAddresses(new Networks([]), "forwarded");
    const perAddress = { rate: 0, burst: 0 };
    const limiter = new RateLimiter({ clock, directory, tenants, addresses, perAddress });
    const { gate } = gateway.app.gateway;
    const enter = gate.enter.bind(gate);
    // Shared by all tests.
    onTestFinished(() => void (gate.enter = enter));
    gate.enter = (exchange: Exchange) => {
      limiter.admit(exchange, callerOf(7));
      return enter(exchange);
    };
    const agent = client();
    const put = { method: "PUT", path: "/v1/kv/a", body: "x".repeat(1_500) };
    expect((await agent.ask(put)).status).toBe(201);
    expect((await agent.ask(put)).status).toBe(429);
  });

  it("count as one connection of those that the listener has", async () => {
    const { server, client } = await startHttp2({ connectionsMax: 2 });
    const agents = [client(), client()];
    for (const agent of agents) expect((await agent.ask({ path: "/v1/limits" })).status).toBe(200);
    const dropped = await new Promise<Error>((resolve) => {
      const options = { host: "127.0.0.1", port: server.address.port, ca: testAuthority.ca };
      httpsRequest({ ...options, agent: new Agent() })
        .once("error", resolve)
        .end();
    });
    expect(dropped).toBeInstanceOf(Error);
    agents[0]!.close();
    await expect
      .poll(() =>
        client()
          .ask({ path: "/v1/limits" })
          .then(
            ({ status }) => status,
            () => 0,
          ),
      )
      .toBe(200);
  });
});

describe("bodies", () => {
  const put = (length?: number) =>
    request("PUT", "/v1/kv/a", length === undefined ? [] : [["content-length", String(length)]]);

  it("are asked for when somebody reads them, and only then", async () => {
    const { client } = await startHttp2();
    const agent = client();
    const headers = { expect: "100-continue" };
    const stream = agent.open({ method: "PUT", path: "/v1/kv/a", headers }, false);
    stream.once("continue", () => stream.end("late"));
    const stored = await responseOf(stream);
    expect([stored.status, stored.wasContinued]).toEqual([201, true]);
    const large = { ...headers, "content-length": String(VALUE_SIZE_BYTES_MAX + 1) };
    const refused = await responseOf(
      agent.open({ method: "PUT", path: "/v1/kv/a", headers: large }, false),
    );
    expect([refused.status, refused.wasContinued]).toEqual([413, false]);
    const posted = agent.open(
      {
        method: "POST",
        path: "/admin/tenants",
        headers: { ...headers, "content-type": "application/json" },
      },
      false,
    );
    posted.once("continue", () => posted.end('{"name":"late"}'));
    expect((await responseOf(posted)).status).toBe(201);
  });

  it("that announce too much are refused before they come", async () => {
    const { frames, gateway } = await startHttp2();
    const client = await frames();
    client.send(headersFrame(1, put(VALUE_SIZE_BYTES_MAX + 1), END_HEADERS));
    await expect.poll(() => client.bodyOf(1)).toContain("PAYLOAD_TOO_LARGE");
    // The client is told that nobody waits for it.
    await expect.poll(() => client.resetCode(1)).toBe(0);
    expect(gateway.storage.calls).toEqual([]);
  });

  it("that turn out to be too long are refused as soon as they are, and counted till then", async () => {
    const { client, gateway } = await startHttp2();
    const body = Buffer.alloc(2 * VALUE_SIZE_BYTES_MAX, "x");
    const agent = client();
    const refused = await agent.ask({ method: "PUT", path: "/v1/kv/a", body });
    expect(refused.status).toBe(413);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
    expect((await agent.ask({ path: "/v1/kv/a" })).status).toBe(404);
  });

  it.each([
    ["shorter than announced", put(5), [frame(FRAME.data, 1, 1, Buffer.from("abc"))]],
    ["longer than announced", put(2), [frame(FRAME.data, 1, 1, Buffer.from("abc"))]],
    ["cut off by a reset", put(), [frame(FRAME.data, 0, 1, Buffer.from("abc")), resetFrame(1)]],
    [
      "cut off by a reset without an error",
      put(),
      [frame(FRAME.data, 0, 1, Buffer.from("abc")), frame(FRAME.rst, 0, 1, Buffer.alloc(4))],
    ],
  ])("that are %s store nothing", async (_, head, rest) => {
    const { frames, gateway } = await startHttp2();
    const client = await frames();
    client.send(headersFrame(1, head, END_HEADERS));
    await turn(20);
    client.send(...rest);
    await turn(50);
    expect(gateway.storage.calls).toEqual([]);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
    expect(gateway.failures).toEqual([]);
  });

  it("that are cut off with their connection store nothing, nor do those of other routes", async () => {
    const { frames, gateway } = await startHttp2();
    for (const path of ["/v1/kv/a", "/admin/tenants"]) {
      const client = await frames();
      const json = [["content-type", "application/json"]] as const;
      const method = path === "/v1/kv/a" ? "PUT" : "POST";
      client.send(headersFrame(1, request(method, path, json), END_HEADERS));
      client.send(frame(FRAME.data, 0, 1, Buffer.from('{"name":"t"}')));
      await turn(20);
      client.socket.destroy();
    }
    await turn(50);
    expect(gateway.storage.calls).toEqual([]);
    expect(gateway.failures).toEqual([]);
    const tenant = await gateway.app.request("/admin/tenants/t");
    expect(tenant.status).toBe(404);
  });

  it("of announced length are complete with their last byte, whenever their end is said", async () => {
    const { frames } = await startHttp2();
    const client = await frames();
    client.send(headersFrame(1, put(3), END_HEADERS), frame(FRAME.data, 0, 1, Buffer.from("abc")));
    await expect.poll(() => client.bodyOf(1)).toContain('"created":true');
    // Some time to say so, then the stream is let go.
    await expect.poll(() => client.resetCode(1)).toBe(0);
  });

  it("are sent on while another of the connection is not read", async () => {
    const { client, hold } = await startHttp2();
    const agent = client();
    const release = hold();
    const stuck = agent.open({ method: "GET", path: "/v1/kv/a" }, false);
    stuck.write(Buffer.alloc(400_000));
    await turn(20);
    release();
    const body = Buffer.alloc(VALUE_SIZE_BYTES_MAX, "y");
    expect((await agent.ask({ method: "PUT", path: "/v1/kv/b", body })).status).toBe(201);
  });
});

describe("a streamed scan", () => {
  const NDJSON = { accept: "application/x-ndjson" };
  async function start(count: number, sizeBytes: number) {
    const started = await startHttp2({ closeGraceMs: 20 });
    const { storage } = started.gateway;
    const keys = Array.from({ length: count }, (_, at) => `key-${String(at).padStart(5, "0")}`);
    const input = { value: new Uint8Array(sizeBytes).fill(0x61), contentType: "", ttlMs: 0 };
    for (const key of keys) {
      await storage.put({ tenant: DEFAULT_TENANT, key: utf8(key) }, input, { deadlineMs: 0 });
    }
    storage.calls.length = 0;
    return { ...started, keys };
  }
  const begun = ({ storage }: TestGateway) =>
    expect.poll(() => storage.calls.length, { timeout: 10_000 }).toBeGreaterThan(0);
  type Line = {
    readonly key?: string;
    readonly error?: { code: string };
    readonly cursor?: string;
  };
  const linesOf = ({ body }: { readonly body: Buffer }): readonly Line[] =>
    body
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Line);

  it("comes whole", async () => {
    const { client, keys } = await start(2 * SCAN_CHUNK_ROWS_MAX, 1);
    const answer = await client().ask({ path: "/v1/kv", headers: NDJSON });
    expect(linesOf(answer).map(({ key }) => key)).toEqual(keys);
  });

  it("waits for a client that does not read, and gives it all when it does", async () => {
    const { client, gateway, keys } = await start(100, 256 * 1024);
    const stream = client().open({ path: "/v1/kv", headers: NDJSON });
    let before = -1;
    // Until the window is full and nothing moves any more.
    await expect
      .poll(
        () => {
          const { length } = gateway.storage.calls;
          const stands = length === before && length > 0;
          before = length;
          return stands;
        },
        { interval: 100, timeout: 10_000 },
      )
      .toBe(true);
    expect(gateway.storage.calls.length).toBeLessThan(keys.length / 4);
    expect(linesOf(await responseOf(stream)).map(({ key }) => key)).toEqual(keys);
  });

  it("ends with its stream, and asks storage for nothing more", async () => {
    const { client, gateway, keys } = await start(100, 256 * 1024);
    const agent = client();
    const stream = agent.open({ path: "/v1/kv", headers: NDJSON });
    await begun(gateway);
    stream.close(8);
    await turn(50);
    const asked = gateway.storage.calls.length;
    expect(asked).toBeLessThan(keys.length / 2);
    await turn(50);
    expect(gateway.storage.calls.length).toBe(asked);
    expect((await agent.ask({ path: "/v1/kv/absent" })).status).toBe(404);
  });

  it("says that the server stops, and from where to go on", async () => {
    const { client, gateway, keys, server } = await start(100, 256 * 1024);
    const stream = client().open({ path: "/v1/kv", headers: NDJSON });
    await begun(gateway);
    const closed = server.close(10_000);
    const lines = linesOf(await responseOf(stream));
    expect(await closed).toEqual({ connectionsCut: 0 });
    expect(lines.at(-1)).toMatchObject({ error: { code: "UNAVAILABLE" } });
    const given = lines.slice(0, -1).map(({ key }) => key);
    expect(given).toEqual(keys.slice(0, given.length));
    const rest = await gateway.app.request(
      `/v1/kv?limit=1&keys_only&cursor=${lines.at(-1)!.cursor}`,
    );
    expect(await rest.json()).toMatchObject({ items: [{ key: keys[given.length] }] });
  });

  it("says when storage fails on the way", async () => {
    const { client, gateway } = await start(100, 256 * 1024);
    const stream = client().open({ path: "/v1/kv", headers: NDJSON });
    await begun(gateway);
    gateway.storage.failure = new KvError("NOT_LEADER", "no leader");
    expect(linesOf(await responseOf(stream)).at(-1)).toMatchObject({
      error: { code: "NOT_LEADER" },
    });
  });
});
