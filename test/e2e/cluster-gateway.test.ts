/**
 * Gateways in front of a cluster of real processes: a paused leader costs time and no error, operators'
 * commands reach the leader of the meta group, and one storage node that answers is enough to begin.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import { SERVES_HTTP } from "#test/processes/minikv.ts";
import { type Cluster, startCluster } from "./cluster-harness.ts";
import { spawnMinikv, waitForReadiness } from "./harness.ts";
import { HttpClient } from "./http-client.ts";

/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 100_000, interval: 50 };
const TEST_TIMEOUT_MS = 300_000;
/** Long enough for any election, also on a busy machine. */
const PATIENT = { "Minikv-Timeout": "25s" };

type Status = {
  readonly nodes: readonly {
    readonly id: number;
    readonly state: string;
    readonly answering: boolean;
    readonly leaders: number;
  }[];
  readonly vshards: { readonly without_leader: readonly number[] | null };
  readonly groups?: readonly { readonly group: number | "meta"; readonly leader: number | null }[];
};

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, gateways: 2 });
});
afterAll(() => cluster.close());

async function statusOf(query = ""): Promise<Status> {
  const answer = await fetch(`${cluster.url}/admin/status${query}`);
  return (await answer.json()) as Status;
}

const nodeOf = async (id: number) => (await statusOf()).nodes.find((node) => node.id === id)!;

/**
 * Every vshard is led, by nodes that all lead some. A failure shows what was the case instead.
 *
 * It writes meanwhile: a node whose log was slow, as it seems to be after a pause, gets no leaders until
 * it has synced a few times more.
 */
async function waitUntilBalanced(): Promise<void> {
  let written = 0;
  const unbalanced = async (): Promise<string> => {
    const key = `${cluster.url}/v1/kv/balance-${written++ % 100}`;
    await fetch(key, { method: "PUT", body: "v", headers: PATIENT });
    const { nodes, vshards } = await statusOf();
    const isBalanced =
      vshards.without_leader?.length === 0 && nodes.every(({ leaders }) => leaders > 0);
    return isBalanced ? "" : JSON.stringify({ nodes, vshards });
  };
  await expect.poll(unbalanced, BUSY).toBe("");
}

/** `minikv cluster …` against the first gateway. */
async function operate(...argv: readonly string[]) {
  const process = spawnMinikv(["cluster", ...argv, "--url", cluster.url]);
  const { code } = await process.waitForExit();
  return { code, stdout: process.stdout, stderr: process.stderr };
}

describe("gateways of a cluster", { timeout: TEST_TIMEOUT_MS }, () => {
  it("answer every call while a node that leads is paused, and when it goes on", async () => {
    await waitUntilBalanced();
    const [paused] = cluster.storageNodes;
    const clients = cluster.gateways.map(({ url }) => new HttpClient(url));
    const acknowledged = new Map<string, string>();
    const failures: string[] = [];
    let isOver = false;
    const write = async (writer: number): Promise<void> => {
      const client = clients[writer % clients.length]!;
      for (let count = 0; !isOver; count++) {
        const path = `/v1/kv/paused-${writer}-${count % 20}`;
        const { status } = await client.put(path, `${count}`, PATIENT);
        if (status === 200 || status === 201) acknowledged.set(path, `${count}`);
        else failures.push(`${path}: ${status}`);
      }
    };
    const writers = Array.from({ length: 16 }, (_, writer) => write(writer));
    // Also when it fails: the test may be run once more.
    onTestFinished(async () => {
      paused!.resume();
      isOver = true;
      await Promise.all(writers);
      for (const client of clients) client.close();
    });
    await expect.poll(() => acknowledged.size, BUSY).toBeGreaterThan(100);
    paused!.pause();
    // Every writer meets a vshard that the paused node led, and gets past it.
    const before = new Map(acknowledged);
    const movedOn = () => [...acknowledged].every(([path, count]) => before.get(path) !== count);
    await expect.poll(movedOn, BUSY).toBe(true);
    paused!.resume();
    await sleep(500);
    isOver = true;
    await Promise.all(writers);
    expect(failures).toEqual([]);
    for (const [path, count] of acknowledged) {
      const got = await clients[0]!.send("GET", path, { headers: PATIENT });
      expect([path, got.body.toString()]).toEqual([path, count]);
    }
  });

  it("carry operators' commands to whoever leads the meta group", async () => {
    await waitUntilBalanced();
    const [first, second] = cluster.storageNodes.map(({ id }) => id) as [number, number];
    const status = await operate("status");
    expect(status).toMatchObject({ code: 0, stderr: "" });
    expect(status.stdout).toContain("3 of 3 nodes answer");
    const leaderOf7 = async () => (await statusOf("?groups=1")).groups?.[7]?.leader;
    for (const node of [first, second]) {
      expect(await operate("transfer", "7", String(node))).toMatchObject({ code: 0, stderr: "" });
      await expect.poll(leaderOf7, BUSY).toBe(node);
    }
    const refused = await operate("transfer", "7", "99");
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toContain("99");
    expect(refused.stderr).not.toContain("may have been done");
    const kept = await operate("remove", String(first));
    expect(kept).toMatchObject({ code: 1, stdout: "" });
    expect(kept.stderr).toContain("drain it first (CLUSTER_CONFLICT)");
    expect(await operate("drain", String(first))).toMatchObject({ code: 0, stderr: "" });
    await expect.poll(async () => (await nodeOf(first)).leaders, BUSY).toBe(0);
    expect((await nodeOf(first)).state).toBe("draining");
    expect(await operate("drain", String(first), "--cancel")).toMatchObject({ code: 0 });
    await expect.poll(async () => (await nodeOf(first)).state, BUSY).toBe("up");
    expect(await operate("rebalance")).toMatchObject({ code: 0, stderr: "" });
    await waitUntilBalanced();
  });

  it("need one storage node that answers among those they are told", async () => {
    const [, alive] = cluster.storageNodes;
    const seeds = `127.0.0.1:1,${alive!.address}`;
    const gateway = spawnMinikv(gatewayArguments("127.0.0.1:0", [seeds]));
    const url = await gateway.printed(SERVES_HTTP);
    await waitForReadiness(url, 200);
    const client = new HttpClient(url);
    // Of whichever node leads the key's vshard.
    for (let key = 0; key < 20; key++) {
      const { status } = await client.put(`/v1/kv/seed-${key}`, "v", PATIENT);
      expect([200, 201]).toContain(status);
    }
    client.close();
    expect((await gateway.stop()).code).toBe(0);
  });
});
