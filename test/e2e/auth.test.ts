/**
 * Authentication over real processes: a gateway that wants credentials in front of a storage node. The root
 * key is shown once, keys are made, used and revoked, and all of it is on disk.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import { SERVES_GRPC, SERVES_HTTP } from "#test/processes/minikv.ts";
import { spawnMinikv, startPair, temporaryDirectory } from "./harness.ts";

const REQUIRED = ["--auth", "required"];
const ROOT_KEY = /^ {2}(mkv_[0-9A-Za-z]{16}_[0-9A-Za-z]{49})$/m;

type Server = { readonly url: string };

const ask = (
  { url }: Server,
  key: string | undefined,
  path: string,
  init: RequestInit = {},
): Promise<Response> =>
  fetch(`${url}${path}`, {
    ...init,
    headers: {
      ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }),
      ...(init.body === undefined ? {} : { "Content-Type": "application/json" }),
    },
  });

const statusOf = async (...args: Parameters<typeof ask>): Promise<number> => {
  const response = await ask(...args);
  await response.arrayBuffer();
  return response.status;
};

async function makeKey(server: Server, by: string, body: object) {
  const response = await ask(server, by, "/admin/keys", {
    method: "POST",
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(201);
  return (await response.json()) as { readonly id: string; readonly key: string };
}

describe("a gateway with authentication", () => {
  it("lets in who has a key, until it is revoked, also after a crash", async () => {
    const server = await startPair({ gatewayArgs: REQUIRED });
    const root = await server.gatewayProcess.printed(ROOT_KEY);
    expect(await statusOf(server, undefined, "/v1/kv/a")).toBe(401);
    expect(await statusOf(server, undefined, "/health/ready")).toBe(200);

    const writer = await makeKey(server, root, { role: "ReadWrite" });
    const reader = await makeKey(server, root, { role: "ReadOnly", name: "reader" });
    const put = { method: "PUT", body: "v" };
    expect(await statusOf(server, writer.key, "/v1/kv/a", put)).toBe(201);
    expect(await statusOf(server, reader.key, "/v1/kv/a", put)).toBe(403);
    expect(await statusOf(server, reader.key, "/v1/kv/a")).toBe(200);
    expect(await statusOf(server, reader.key, "/admin/keys")).toBe(403);

    await server.kill9();
    await server.restart();
    expect(server.gatewayProcess.stdout).not.toMatch(ROOT_KEY);
    await expect
      .poll(() => statusOf(server, reader.key, "/v1/kv/a"), { timeout: 20_000 })
      .toBe(200);
    const revoke = { method: "POST" };
    const path = `/admin/keys/${reader.id}/revoke`;
    expect(await statusOf(server, root, path, revoke)).toBe(200);
    await expect
      .poll(() => statusOf(server, reader.key, "/v1/kv/a"), { timeout: 20_000 })
      .toBe(401);
    expect(await statusOf(server, writer.key, "/v1/kv/a")).toBe(200);

    await server.kill9();
    const secrets = [root, writer.key, reader.key].map((key) => key.slice(21, 64));
    const logged = JSON.stringify(server.logRecords());
    for (const secret of secrets) expect(logged).not.toContain(secret);
  });

  it("is one with the other gateways: a key that is rotated or revoked at one is so at all", async () => {
    const node = spawnMinikv([
      "storage-node",
      "--listen",
      "127.0.0.1:0",
      "--data-dir",
      join(temporaryDirectory(), "d"),
    ]);
    const storage = await node.printed(SERVES_GRPC);
    const started = [1, 2, 3].map(() =>
      spawnMinikv(gatewayArguments("127.0.0.1:0", [storage], REQUIRED)),
    );
    const gateways = await Promise.all(
      started.map(async (gateway) => ({ url: await gateway.printed(SERVES_HTTP) })),
    );
    // They start at once: one of them makes the root key.
    const root = await Promise.any(started.map((gateway) => gateway.printed(ROOT_KEY)));
    const [one, two, three] = gateways as [Server, Server, Server];
    const statuses = (key: string) =>
      Promise.all(gateways.map((gateway) => statusOf(gateway, key, "/v1/kv?count_only=1")));
    const all = (status: number) => [status, status, status];
    await expect.poll(() => statuses(root), { timeout: 20_000 }).toEqual(all(200));
    expect(started.filter(({ stdout }) => ROOT_KEY.test(stdout))).toHaveLength(1);

    const made = await makeKey(one, root, { role: "ReadOnly" });
    await expect.poll(() => statuses(made.key), { timeout: 20_000 }).toEqual(all(200));
    const path = `/admin/keys/${made.id}`;
    const rotated = await ask(two, root, `${path}/rotate`, {
      method: "POST",
      body: '{"overlap":"0s"}',
    });
    const { key } = (await rotated.json()) as { readonly key: string };
    await expect.poll(() => statuses(key), { timeout: 20_000 }).toEqual(all(200));
    await expect.poll(() => statuses(made.key), { timeout: 20_000 }).toEqual(all(401));
    expect(await statusOf(three, root, `${path}/revoke`, { method: "POST" })).toBe(200);
    await expect.poll(() => statuses(key), { timeout: 20_000 }).toEqual(all(401));
  });

  it("takes its root key from a file, and minikv cluster sends it", async () => {
    const made = spawnMinikv(["root-key"]);
    const key = await made.printed(/^(mkv_\S+)$/m);
    const file = join(temporaryDirectory(), "root-key");
    writeFileSync(file, `${key}\n`, { mode: 0o600 });
    const server = spawnMinikv(
      ["dev", "--listen", "127.0.0.1:0", "--data-dir", join(temporaryDirectory(), "data")],
      { MINIKV_ROOT_KEY_FILE: file },
    );
    const url = await server.printed(SERVES_HTTP);
    const cluster = ["cluster", "status", "--json", "--url", url];
    const refused = spawnMinikv(cluster);
    expect((await refused.waitForExit()).code).toBe(1);
    expect(refused.stderr).toContain("UNAUTHENTICATED");
    const answered = spawnMinikv([...cluster, "--api-key-file", file]);
    expect((await answered.waitForExit()).code).toBe(0);
    expect(JSON.parse(answered.stdout)).toHaveProperty("nodes");
    expect(server.stdout + server.stderr).not.toContain(key.slice(4));
  });

  it("does not start with a root key on its command line, or one that is none", async () => {
    for (const [args, env, said] of [
      [["--root-key", "x"], {}, "would show in the list of processes"],
      [[], { MINIKV_ROOT_KEY: "not-a-key" }, "MINIKV_ROOT_KEY: expected an API key"],
      [["--root-key-file", "/no/such/file"], {}, "root-key-file (/no/such/file) cannot be read"],
    ] as const) {
      const refused = spawnMinikv(["gateway", "--listen", "127.0.0.1:0", ...args], env);
      expect((await refused.waitForExit()).code).toBe(2);
      expect(refused.stderr).toContain(said);
      expect(refused.stderr).not.toContain("not-a-key");
    }
  });
});
