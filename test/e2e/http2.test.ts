/** HTTP/2 with real processes: a gateway beside its node, and the all-in-one. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { Http2Client } from "#gateway/testing/http2-client.ts";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import { ROOT } from "#test/processes/minikv.ts";
import { SERVES_GRPC, SERVES_HTTP, spawnMinikv, temporaryDirectory } from "./harness.ts";
import type { ServerProcess } from "./server-process.ts";

const HOST = "127.0.0.1";

function certificates() {
  const directory = join(temporaryDirectory(), "certs");
  const made = spawnSync(join(ROOT, "bin", "minikv"), ["certs", "dev", "--dir", directory]);
  expect(made.status).toBe(0);
  const path = (name: string): string => join(directory, name);
  const flags = ["--https-cert", path("gateway.pem"), "--https-key", path("gateway-key.pem")];
  return { ca: readFileSync(path("ca.pem")), caPath: path("ca.pem"), flags };
}

const startAllInOne = (...more: readonly string[]): ServerProcess =>
  spawnMinikv([
    ...["dev", "--listen", `${HOST}:0`, "--data-dir", join(temporaryDirectory(), "data")],
    ...more,
  ]);

async function startPair(...more: readonly string[]): Promise<ServerProcess> {
  const data = join(temporaryDirectory(), "data");
  const node = spawnMinikv(["storage-node", "--listen", `${HOST}:0`, "--data-dir", data]);
  return spawnMinikv(gatewayArguments(`${HOST}:0`, [await node.printed(SERVES_GRPC)], more));
}

function connect(url: string, ca: Buffer): Http2Client {
  const client = new Http2Client(url, ca);
  onTestFinished(() => client.close());
  return client;
}

/** Waits until storage answers. */
async function untilReady(client: Http2Client): Promise<void> {
  const status = async () => (await client.ask({ path: "/health/ready" })).status;
  await expect.poll(status, { timeout: 20_000, interval: 100 }).toBe(200);
}

describe.each([
  ["all-in-one", async (...flags: readonly string[]) => startAllInOne(...flags)],
  ["pair", startPair],
] as const)("HTTP/2 of minikv (%s)", (_, start) => {
  it("serves keys of any name, batches and scans, side by side, and ends in order", async () => {
    const { ca, flags } = certificates();
    const server = await start(...flags);
    const client = connect(await server.printed(SERVES_HTTP), ca);
    await untilReady(client);
    const keys = ["..", "../limits", "%2e%2e/x", "a\\b", "a%2Fb", ...letters(40)];
    const puts = keys.map((key) =>
      client.ask({ method: "PUT", path: `/v1/kv/${key}`, body: `v of ${key}` }),
    );
    for (const { status } of await Promise.all(puts)) expect(status).toBe(201);
    const gets = await Promise.all(keys.map((key) => client.ask({ path: `/v1/kv/${key}` })));
    expect(gets.map(({ body }) => body.toString())).toEqual(keys.map((key) => `v of ${key}`));
    const large = Buffer.alloc(1024 * 1024, "l");
    const stored = await client.ask({ method: "PUT", path: "/v1/kv/large", body: large });
    expect(stored.status).toBe(201);
    expect((await client.ask({ path: "/v1/kv/large" })).body.equals(large)).toBe(true);
    const headers = { accept: "application/x-ndjson" };
    const scan = await client.ask({ path: "/v1/kv?keys_only&prefix=key-", headers });
    expect(scan.body.toString().trimEnd().split("\n")).toHaveLength(40);
    const batch = await client.ask({
      ...{ method: "POST", path: "/v1/batch", headers: { "content-type": "application/json" } },
      body: JSON.stringify({ ops: [{ op: "get", key: ".." }] }),
    });
    expect(JSON.parse(batch.body.toString())).toMatchObject({ results: [{ value: "v of .." }] });
    expect((client.session.socket as TLSSocket).alpnProtocol).toBe("h2");
    expect((await server.stop()).code).toBe(0);
    await client.closed;
    expect(client.goawayCode).toBe(0);
  });
});

const letters = (count: number): string[] => Array.from({ length: count }, (_, at) => `key-${at}`);

it("speaks HTTP/2 with curl, and HTTP/1.1 where HTTP/2 is off", async (context) => {
  const { caPath, flags } = certificates();
  const features = spawnSync("curl", ["--version"], { encoding: "utf8" }).stdout ?? "";
  if (!features.includes("HTTP2")) context.skip("curl has no HTTP/2");
  for (const [more, version] of [
    [[], "2"],
    [["--http2", "off"], "1.1"],
  ] as const) {
    const server = startAllInOne(...flags, ...more);
    const url = await server.printed(SERVES_HTTP);
    const asked = spawnSync(
      "curl",
      [
        ...[
          "-sS",
          "--http2",
          "--path-as-is",
          "--cacert",
          caPath,
          "-w",
          " %{http_version} %{http_code}",
        ],
        ...["-T", "-", `${url}/v1/kv/../curl`],
      ],
      { encoding: "utf8", input: "sent", timeout: 20_000 },
    );
    expect(asked.stderr).toBe("");
    expect(asked.stdout).toBe(`{"key":"../curl","revision":1,"created":true} ${version} 201`);
    await server.stop();
  }
});

it("carries watches beside other requests of a connection, and ends them with the server", async () => {
  const { ca, flags } = certificates();
  const server = startAllInOne(...flags);
  const client = connect(await server.printed(SERVES_HTTP), ca);
  await untilReady(client);
  const stream = client.open({ path: "/v1/watch?prefix=seen-" });
  let text = "";
  stream.setEncoding("utf8").on("data", (piece: string) => {
    text += piece;
  });
  await expect.poll(() => text, { timeout: 20_000 }).toContain("event: progress");
  for (const key of ["seen-1", "other", "seen-2"]) {
    const put = await client.ask({ method: "PUT", path: `/v1/kv/${key}`, body: "v" });
    expect(put.status).toBe(201);
  }
  await expect.poll(() => text, { timeout: 20_000 }).toContain('"seen-2"');
  expect(text).toContain('"seen-1"');
  expect(text).not.toContain("other");
  const ended = new Promise((resolve) => stream.once("close", resolve));
  expect((await server.stop()).code).toBe(0);
  await ended;
  expect(text).toContain("event: drain");
});
