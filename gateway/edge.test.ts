/** Rates and quotas as clients meet them: the edge as a gateway has it, on a socket, over memory. */
import { afterEach, describe, expect, it } from "vitest";
import { TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { loadConfig } from "#shared/runtime/config.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { createApp } from "./app.ts";
import { gatewayConfig } from "./config.ts";
import { openEdge } from "./edge.ts";
import { edgeConfigOf } from "./edge-settings.ts";
import { type HttpServer, startHttpServer } from "./server.ts";
import { FakeClusterView } from "./testing/fake-cluster-view.ts";
import { problemOf } from "./testing/gateway.ts";
import { putTenant } from "./testing/limits.ts";
import { MemoryDirectory } from "./testing/memory-directory.ts";
import { MemoryStorage } from "./testing/memory-storage.ts";
import { RawClient } from "./testing/raw-client.ts";
import { noChanges } from "./watch/testing.ts";

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const configOf = (argv: readonly string[]) =>
  edgeConfigOf(
    loadConfig(gatewayConfig, { argv: ["--auth", "off", ...argv], env: {}, readFile: () => "" })
      .config,
  );

async function start(...argv: string[]) {
  const clock = new ManualClock();
  const random = new SeededRandom(1);
  const directory = new MemoryDirectory();
  const storage = new MemoryStorage(clock);
  const failures: unknown[] = [];
  const logger = createLogger({ level: "fatal", program: "test" });
  const config = configOf(argv);
  const listen = { host: "127.0.0.1", port: 0 };
  const edge = await openEdge({
    ...{ config, listen, storage, directory, clock, random, logger, ...noChanges(clock) },
  });
  const app = createApp({
    ...{ gate: edge.gate, routes: edge.routes, limitsOf: edge.limitsOf, storage: edge.storage },
    ...{ cluster: new FakeClusterView(), clock, random, version: "1.2.3" },
    reportFailure: ({ tenant }) => failures.push(tenant),
  });
  const server: HttpServer = await startHttpServer({
    app,
    listen,
  });
  ends.push(() => server.close(0));
  for (const { run } of edge.stopSteps) ends.push(async () => run(0));
  const put = (key: string, body: string | ReadableStream = "v", headers = {}) =>
    fetch(`${server.url}/v1/kv/${key}`, {
      method: "PUT",
      body,
      headers,
      ...(typeof body === "string" ? {} : { duplex: "half" }),
    } as RequestInit);
  const get = (path: string, headers = {}) => fetch(server.url + path, { headers });
  const batch = (ops: readonly object[]) =>
    fetch(`${server.url}/v1/batch`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ops }),
    });
  const quotas = (record: Parameters<typeof putTenant>[2]) =>
    putTenant(directory, DEFAULT_TENANT, record);
  return { clock, directory, storage, server, failures, put, get, batch, quotas };
}

describe("without limits", () => {
  it("no answer says anything of them", async () => {
    const { put, get } = await start();
    for (const response of [await put("a"), await get("/v1/kv/a"), await get("/v1/limits")]) {
      expect([...response.headers.keys()].filter((name) => name.includes("ratelimit"))).toEqual([]);
    }
    const limits = (await (await get("/v1/limits")).json()) as Record<string, number>;
    expect(limits).toMatchObject({ value_size_bytes_max: VALUE_SIZE_BYTES_MAX });
    expect(Object.keys(limits).filter((name) => /^(tenant|address)_/.test(name))).toEqual([]);
  });
});

describe("a tenant's rate", () => {
  it("is told with each answer, also of refusals, and held on every route", async () => {
    const { clock, put, get, quotas } = await start();
    await quotas({ quotas: { requestsPerSecond: 4 } });
    expect((await put("a")).headers.get("ratelimit")).toBe('"tenant";r=3;t=1');
    expect((await get("/v1/kv?limit=5")).headers.get("x-ratelimit-remaining")).toBe("2");
    const missing = await get("/v1/kv/none");
    expect([missing.status, missing.headers.get("x-ratelimit-remaining")]).toEqual([404, "1"]);
    expect((await get("/v1/tenant")).headers.get("ratelimit-policy")).toBe('"tenant";q=4;w=1');
    for (const refused of [await put("b"), await get("/v1/kv/a"), await get("/v1/limits")]) {
      expect(refused.status).toBe(429);
      expect(refused.headers.get("retry-after")).toBe("1");
      expect(refused.headers.get("ratelimit")).toBe('"tenant";r=0;t=1');
      expect(await problemOf(refused)).toMatchObject({
        ...{ code: "RATE_LIMITED", retryable: true, limit: 4 },
      });
    }
    // What tells of the server itself is for whoever watches it.
    expect((await get("/health/live")).status).toBe(200);
    clock.advance(250);
    expect((await put("b")).status).toBe(201);
  });

  it("counts the operations of a batch, of which nothing is done when they are too many", async () => {
    const { clock, storage, batch, quotas } = await start();
    await quotas({ quotas: { requestsPerSecond: 10 } });
    const ops = (count: number) =>
      Array.from({ length: count }, (_, at) => ({ op: "put", key: `k${at}`, value: "v" }));
    expect((await batch(ops(6))).status).toBe(200);
    const refused = await batch(ops(6));
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(await problemOf(refused)).toMatchObject({ outcome: "not_applied" });
    expect(storage.size).toBe(6);
    clock.advance(1000);
    expect((await batch(ops(50))).status).toBe(200);
  });

  it("counts bodies before they are read, and those without a length after it", async () => {
    const { clock, server, put, quotas } = await start();
    await quotas({ quotas: { requestBytesPerSecond: 1000n } });
    expect((await put("a", "x".repeat(800))).status).toBe(201);
    // Refused while its body is still to come: the client never sends it.
    const client = new RawClient(server.address.port);
    const head = ["Content-Length: 800", "Expect: 100-continue"];
    client.request("PUT", "/v1/kv/b", head);
    expect((await client.response(true)).status).toBe(429);
    client.socket.destroy();
    clock.advance(1000);
    const chunks = new Blob(["x".repeat(3000)]).stream();
    expect((await put("c", chunks)).status).toBe(201);
    const refused = await put("d", "x");
    expect(refused.headers.get("ratelimit-policy")).toBe(
      '"tenant-bytes";q=1000;w=1;qu="content-bytes"',
    );
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "3"]);
  });
});

describe("an address's rate", () => {
  it("is that of the connection", async () => {
    const { clock, put, get } = await start("--rate-limit-per-ip", "2");
    for (let at = 0; at < 4; at++) expect((await put(`k${at}`)).ok).toBe(true);
    const spoofed = { "X-Forwarded-For": "198.51.100.1", Forwarded: "for=198.51.100.1" };
    const refused = await put("k", "v", spoofed);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("ratelimit-policy")).toBe('"address";q=2;w=1');
    expect((await get("/v1/limits")).status).toBe(429);
    clock.advance(500);
    expect(await (await get("/v1/limits")).json()).toMatchObject({
      address_requests_per_second_max: 2,
    });
  });

  it("is that of the client behind a proxy that is trusted", async () => {
    const { put } = await start(
      ...["--rate-limit-per-ip", "1", "--rate-limit-per-ip-burst", "1"],
      ...["--trusted-proxies", "127.0.0.0/8, 10.0.0.0/8"],
    );
    const from = (address: string) => put("k", "v", { "X-Forwarded-For": address });
    expect((await from("198.51.100.1")).ok).toBe(true);
    expect((await from("198.51.100.1, 10.0.0.7")).status).toBe(429);
    // Whatever the client makes up stands to the left of what the proxy has seen.
    expect((await from("198.51.100.9, 198.51.100.1")).status).toBe(429);
    expect((await from("198.51.100.2")).ok).toBe(true);
  });

  it("refuses settings that name no network", () => {
    expect(() => configOf(["--trusted-proxies", "10.0.0.0/33"])).toThrow(/trusted-proxies/);
    expect(() => configOf(["--trusted-proxies", "proxy.example"])).toThrow(/trusted-proxies/);
    expect(() => configOf(["--trusted-proxy-header", "via"])).toThrow(/x-forwarded-for, forwarded/);
  });
});

describe("a quota", () => {
  it("is told, refuses what exceeds it, and takes deletions", async () => {
    const { server, put, get, batch, quotas } = await start();
    await quotas({ quotas: { bytes: 100n, objects: 2n } });
    expect(await (await get("/v1/limits")).json()).toMatchObject({
      ...{ tenant_stored_bytes_max: 100, tenant_objects_max: 2 },
    });
    expect((await put("a", "x".repeat(60))).status).toBe(201);
    const refused = await put("b", "x".repeat(60));
    expect(refused.status).toBe(403);
    expect(await problemOf(refused)).toMatchObject({
      ...{ code: "STORAGE_QUOTA_EXCEEDED", outcome: "not_applied", limit: 100, actual: 122 },
    });
    const results = await batch([
      { op: "put", key: "b", value: "x".repeat(60) },
      { op: "get", key: "a" },
    ]);
    expect(await results.json()).toMatchObject({
      results: [{ status: 403, error: { code: "STORAGE_QUOTA_EXCEEDED" } }, { status: 200 }],
    });
    expect((await fetch(`${server.url}/v1/kv/a`, { method: "DELETE" })).status).toBe(204);
  });
});

describe("a tenant that is deleted", () => {
  it("gets nothing stored any more, also by an upload that was let in before", async () => {
    const { directory, server, storage, put } = await start();
    await putTenant(directory, 7);
    const named = { "Minikv-Tenant": "tenant-7" };
    expect((await put("a", "v", named)).status).toBe(201);
    const client = new RawClient(server.address.port);
    const head = ["Minikv-Tenant: tenant-7", "Content-Length: 2", "Expect: 100-continue"];
    client.request("PUT", "/v1/kv/b", head);
    // The handler reads the body: the gate has let the request in.
    expect((await client.response(false)).status).toBe(100);
    await putTenant(directory, 7, { state: TenantState.DELETING });
    expect((await put("c", "v", named)).status).toBe(403);
    client.send("xx");
    const { status, body } = await client.response(true);
    client.socket.destroy();
    expect([status, JSON.parse(body)]).toMatchObject([
      403,
      { code: "FORBIDDEN", outcome: "not_applied" },
    ]);
    expect(storage.size).toBe(1);
  });
});

describe("failures", () => {
  it("are reported with the tenant", async () => {
    const { storage, failures, put, get, batch } = await start();
    storage.failure = new Error("a bug");
    await put("a");
    await get("/v1/kv?limit=1");
    await batch([{ op: "get", key: "a" }]);
    expect(failures).toEqual([DEFAULT_TENANT, DEFAULT_TENANT, DEFAULT_TENANT]);
  });
});
