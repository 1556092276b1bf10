/** Metrics and logs of real processes: figures that move as they must, and nothing that must not be there. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { SERVES_HTTP, untilReadiness } from "#test/processes/minikv.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";
import { spawnMinikv, startAllInOne, startPair, temporaryDirectory } from "./harness.ts";
import { lint, type Scrape, scrape } from "./metrics-client.ts";

const NODE_HTTP = /HTTP on (http:[^,\s]+),/;

async function load(url: string): Promise<void> {
  for (let i = 0; i < 25; i++) {
    await fetch(`${url}/v1/kv/key-${i}`, { method: "PUT", body: "value" });
  }
  for (let i = 0; i < 10; i++) await (await fetch(`${url}/v1/kv/key-${i}`)).text();
  for (let i = 0; i < 5; i++) await fetch(`${url}/v1/kv/key-${i}`, { method: "DELETE" });
  await (await fetch(`${url}/v1/kv/none`)).text();
}

/** By name of the layer: what both count in the same words. */
function expectOperations(of: Scrape, prefix: "gateway" | "node"): void {
  const name = `minikv_${prefix}_operations_total`;
  expect(of.sum(name, { operation: "put", outcome: "ok" })).toBe(25);
  expect(of.sum(name, { operation: "get", outcome: "ok" })).toBe(11);
  expect(of.sum(name, { operation: "delete", outcome: "ok" })).toBe(5);
  const count = `minikv_${prefix}_operation_duration_seconds_count`;
  expect(of.sum(count, { operation: "put" })).toBe(25);
}

describe(`metrics of a gateway and a storage node${skippedWithout("promtool")}`, () => {
  it("count exactly what was done, in the form that Prometheus wants", async () => {
    const probe = ["--http-listen", "127.0.0.1:0", "--slow-operation", "100ms"];
    const scraped = ["--auth", "off", "--slow-operation", "100ms"];
    const pair = await startPair({ args: probe, gatewayArgs: scraped });
    const nodeUrl = await pair.storageProcess.printed(NODE_HTTP);
    await load(pair.url);
    const gateway = await scrape(pair.url);
    const node = await scrape(nodeUrl);
    expectOperations(gateway, "gateway");
    expectOperations(node, "node");
    const requests = "minikv_gateway_http_requests_total";
    const ofKey = { route: "/v1/kv/{key}" };
    expect(gateway.sum(requests, { ...ofKey, method: "PUT", status: "2xx" })).toBe(25);
    expect(gateway.sum(requests, { ...ofKey, method: "GET", status: "2xx" })).toBe(10);
    expect(gateway.sum(requests, { ...ofKey, method: "GET", status: "4xx" })).toBe(1);
    expect(gateway.sum("minikv_gateway_storage_stream_up", { node: "1" })).toBe(1);
    expect(gateway.sum("minikv_gateway_http_requests_in_flight")).toBe(1);
    expect(node.sum("minikv_node_streams")).toBe(1);
    expect(node.sum("minikv_node_raft_groups_led")).toBe(257);
    expect(node.sum("minikv_node_raft_commit_duration_seconds_count")).toBeGreaterThanOrEqual(30);
    expect(node.sum("minikv_node_wal_batches_total")).toBeGreaterThanOrEqual(30);
    expect(node.sum("minikv_node_writable")).toBe(1);
    if (findProgram("promtool") !== undefined) {
      expect([lint(gateway), lint(node)]).toEqual(["", ""]);
    }
    for (const path of ["live", "startup", "ready"]) {
      expect((await fetch(`${nodeUrl}/health/${path}`)).status).toBe(200);
    }

    // A stopped node is slow, and the line about it names neither the key nor the value.
    pair.storageProcess.signal("SIGSTOP");
    const put = fetch(`${pair.url}/v1/kv/secret-key`, { method: "PUT", body: "secret-value" });
    await sleep(300);
    pair.storageProcess.signal("SIGCONT");
    expect((await put).status).toBe(201);
    const slow = pair.logRecords().filter(({ msg }) => msg === "slow operation");
    expect(slow).toContainEqual(
      expect.objectContaining({
        level: "warn",
        operation: "put",
        tenant: "default",
        key_bytes: 10,
      }),
    );
    expect((await scrape(pair.url)).sum("minikv_slow_operations_total")).toBeGreaterThan(0);
    expect(pair.logs()).not.toMatch(/secret-(?:key|value)/);
  });

  it("are those of both threads in the all-in-one, and stay few whatever is asked for", async () => {
    const server = await startAllInOne({ args: ["--metrics-listen", "127.0.0.1:0"] });
    await load(server.url);
    const before = await scrape(server.url);
    expectOperations(before, "gateway");
    expectOperations(before, "node");
    for (const thread of ["gateway", "storage-node"]) {
      expect(before.sum("nodejs_heap_size_used_bytes", { thread })).toBeGreaterThan(0);
    }
    expect([...before.series.keys()].filter((name) => name.startsWith("process_cpu_sec"))).toEqual([
      "process_cpu_seconds_total",
    ]);
    if (findProgram("promtool") !== undefined) expect(lint(before)).toBe("");

    const methods = ["GET", "PUT", "DELETE", "PROPFIND", "LINK", "PATCH", "SEARCH"];
    const ask = async (i: number): Promise<void> => {
      const method = methods[i % methods.length]!;
      const headers = { "Minikv-Tenant": `wild-${i}`, "X-Request-ID": `wild-${i}` };
      const path = i % 2 === 0 ? `/wild-${i}/path` : `/v1/kv/wild-${i}`;
      await (await fetch(`${server.url}${path}`, { method, headers })).arrayBuffer();
    };
    for (let from = 0; from < 1_000; from += 250) {
      await Promise.all(Array.from({ length: 250 }, (_, i) => ask(from + i)));
    }
    const after = await scrape(server.url);
    expect(after.text).not.toContain("wild-");
    const added = [...after.series.keys()].filter(
      (name) => !before.series.has(name) && !name.includes("_duration_seconds_"),
    );
    expect(added.length).toBeLessThan(60);
    expect(after.sum("minikv_gateway_http_requests_total", { route: "_none" })).toBe(500);
  });
});

describe("logs", () => {
  it("hold no key, secret or value, at any level", async () => {
    const server = await startAllInOne({
      args: ["--log-level", "debug", "--auth", "required", "--slow-operation", "1ms"],
    });
    const root = await server.gatewayProcess.printed(/^ {2}(mkv_\S+)$/m);
    const headers = { Authorization: `Bearer ${root}` };
    const wrong = { Authorization: `Bearer ${root.slice(0, -4)}zzzz` };
    const make = await fetch(`${server.url}/admin/keys`, {
      method: "POST",
      headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify({ name: "app", role: "ReadWrite" }),
    });
    const made = (await make.json()) as { readonly key: string };
    expect(made.key).toMatch(/^mkv_/);
    for (let i = 0; i < 20; i++) {
      const target = `${server.url}/v1/kv/hidden-key-${i}`;
      await fetch(target, { method: "PUT", headers, body: "hidden-value" });
      // Fewer than an address is allowed in a burst, on a machine however fast.
      if (i < 5) await fetch(target, { headers: wrong });
      await fetch(target, { headers: { "X-API-Key": made.key } });
    }
    expect((await fetch(`${server.url}/metrics`, { headers: wrong })).status).toBe(401);
    expect((await fetch(`${server.url}/metrics`)).status).toBe(401);
    expect(
      (await fetch(`${server.url}/metrics`, { headers: { "X-API-Key": made.key } })).status,
    ).toBe(403);
    const seen = await scrape(server.url, { headers });
    expect(seen.sum("minikv_gateway_auth_failures_total", { reason: "missing" })).toBe(1);
    expect(seen.sum("minikv_gateway_auth_failures_total")).toBeGreaterThan(2);
    expect(seen.sum("minikv_gateway_auth_failures_total", { reason: "forbidden" })).toBe(1);
    expect(await server.stop()).toBe(0);
    const { stderr } = server.gatewayProcess;
    for (const secret of [root, made.key, "zzzz", "hidden-key", "hidden-value"]) {
      expect(stderr.includes(secret)).toBe(false);
    }
    for (const { level, time, program } of server.gatewayProcess.logRecords()) {
      expect(level).toMatch(/^(debug|info|warn|error|fatal)$/);
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(program).toBe("dev");
    }
  });

  it("change their level by request, and by the file on SIGHUP", async () => {
    const directory = temporaryDirectory();
    const file = join(directory, "minikv.toml");
    writeFileSync(file, 'log-level = "warn"\n');
    const dataDir = ["--data-dir", join(directory, "data"), "--listen", "127.0.0.1:0"];
    const server = spawnMinikv(["dev", "--config", file, ...dataDir]);
    const url = await server.printed(SERVES_HTTP);
    await untilReadiness(url, 200, 30_000);
    const level = async (): Promise<unknown> => (await fetch(`${url}/admin/log-level`)).json();
    const change = (body: object): Promise<Response> =>
      fetch(`${url}/admin/log-level`, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
    expect(await level()).toEqual({ level: "warn", configured: "warn" });
    expect((await change({ level: "info", for: "2m" })).status).toBe(200);
    expect(await level()).toMatchObject({ level: "info", configured: "warn" });
    expect((await change({ level: "loud" })).status).toBe(400);
    writeFileSync(file, 'log-level = "error"\n');
    server.signal("SIGHUP");
    while (((await level()) as { configured: string }).configured !== "error") await sleep(20);
    expect(await level()).toMatchObject({ level: "info" });
    expect((await change({ level: "configured" })).status).toBe(200);
    expect(await level()).toEqual({ level: "error", configured: "error" });
    // Both threads: the main one says that it stops, at info.
    expect((await server.stop()).code).toBe(0);
    expect(server.logRecords().filter(({ msg }) => msg === "stopping")).toEqual([]);
  });
});
