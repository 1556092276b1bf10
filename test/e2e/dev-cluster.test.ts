/**
 * `minikv dev --nodes 3 --gateways 2`, whole: one command starts a cluster that serves through every
 * gateway, goes on when a leader is killed, grows, and keeps its data over stops.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "#test/processes/minikv.ts";
import { clusterFile, isAlive, pidsOf } from "./dev-files.ts";
import { spawnMinikv, temporaryDirectory } from "./harness.ts";
import type { ServerProcess } from "./server-process.ts";

/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 60_000, interval: 50 };

async function start(dir: string, nodes: number): Promise<ServerProcess> {
  const size = ["--nodes", String(nodes), "--gateways", "2"];
  const server = spawnMinikv(["dev", ...size, "--listen", "127.0.0.1:0", "--dir", dir]);
  const ended = server.exited.then(() => server.stderr);
  const ready = expect.poll(() => server.stdout, { ...BUSY, timeout: 110_000 });
  const failure = await Promise.race([ended, ready.toContain("Stop with Ctrl-C").then(() => "")]);
  if (failure !== "") throw new Error(`${server.stdout}${failure}`);
  return server;
}

function command(dir: string, ...argv: readonly string[]) {
  const env = { ...process.env, MINIKV_DIR: dir };
  return spawnSync(join(ROOT, "bin", "minikv"), ["dev", ...argv], { encoding: "utf8", env });
}

const put = async (url: string, key: string, body: string): Promise<number> =>
  (await fetch(`${url}/v1/kv/${key}`, { method: "PUT", body })).status;

const get = async (url: string, key: string): Promise<string> =>
  (await fetch(`${url}/v1/kv/${key}`)).text();

type NodeStatus = { readonly id: number; readonly replicas: number };
async function nodesOf(url: string): Promise<readonly NodeStatus[]> {
  const answer = await fetch(`${url}/admin/status`);
  return ((await answer.json()) as { readonly nodes: readonly NodeStatus[] }).nodes;
}

describe("minikv dev --nodes", () => {
  it("serves through every gateway, loses a leader and goes on, and keeps its data", async () => {
    const dir = join(temporaryDirectory(), "c");
    const server = await start(dir, 3);
    const first = clusterFile(dir);
    const [one, two] = first.gateways.map(({ url }) => url) as [string, string];
    expect(new Set(first.storageNodes.map(({ id }) => id)).size).toBe(3);
    expect(await put(one, "hello", "world")).toBe(201);
    expect(await get(two, "hello")).toBe("world");

    // One write in each of many vshards, so that the killed node leads some of them.
    const keys = Array.from({ length: 100 }, (_, number) => `key-${number}`);
    for (const key of keys) expect(await put(one, key, `${key} before`)).toBe(201);
    const killed = command(dir, "kill", "--leader-of", "hello");
    expect(killed.status, killed.stderr).toBe(0);
    const gone = clusterFile(dir).storageNodes.filter(({ pid }) => pid === null);
    expect(gone).toHaveLength(1);
    for (const key of ["hello", ...keys]) expect(await put(two, key, `${key} after`)).toBe(200);
    for (const key of ["hello", ...keys]) expect(await get(one, key)).toBe(`${key} after`);

    const restarted = command(dir, "restart", String(gone[0]!.id));
    expect(restarted.status, restarted.stderr).toBe(0);
    const pids = pidsOf(clusterFile(dir));
    expect(pids).toHaveLength(5);
    server.signal("SIGINT");
    expect(await server.exited).toEqual({ code: 0, signal: null });
    expect(pids.filter(isAlive)).toEqual([]);

    const again = await start(dir, 3);
    const second = clusterFile(dir);
    expect(second.storageNodes.map(({ id, address }) => [id, address])).toEqual(
      first.storageNodes.map(({ id, address }) => [id, address]),
    );
    for (const key of ["hello", ...keys]) expect(await get(two, key)).toBe(`${key} after`);
    expect((await again.stop()).code).toBe(0);
  });

  it("takes one more node, while it runs and when it starts after its supervisor was killed", async () => {
    const dir = join(temporaryDirectory(), "c");
    const server = await start(dir, 1);
    const { url } = clusterFile(dir).gateways[0]!;
    expect(await put(url, "hello", "world")).toBe(201);
    const adding = command(dir, "add-node");
    expect(adding.status, adding.stderr).toBe(0);
    const added = clusterFile(dir).storageNodes[1]!;
    await expect
      .poll(async () => (await nodesOf(url)).find(({ id }) => id === added.id)?.replicas, BUSY)
      .toBeGreaterThan(0);
    expect(await get(url, "hello")).toBe("world");
    // The processes notice that their supervisor is gone; the next start waits for that.
    const pids = pidsOf(clusterFile(dir));
    expect(pids).toHaveLength(4);
    await server.kill9();
    const again = await start(dir, 3);
    await expect.poll(() => pids.filter(isAlive), BUSY).toEqual([]);
    await expect.poll(async () => (await nodesOf(url)).length, BUSY).toBe(3);
    expect(await get(url, "hello")).toBe("world");
    expect((await again.stop()).code).toBe(0);
  });
});
