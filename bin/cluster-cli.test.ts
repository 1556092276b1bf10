/** `minikv cluster` against a gateway's real routes, in front of a cluster that the tests command. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type HttpServer, startHttpServer } from "#gateway/server.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type ClusterMap,
  fullyReplicatedMap,
  NodeState,
  type NodeState as State,
} from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import { runClusterCli } from "./cluster-cli.ts";

let gateway: TestGateway;
let server: HttpServer;
beforeEach(async () => {
  gateway = testGateway();
  server = await startHttpServer({ app: gateway.app, listen: { host: "127.0.0.1", port: 0 } });
});
afterEach(() => server.close(0));

/** Runs a command against the gateway of the test, or against `url`. */
async function run(
  argv: readonly string[],
  url: string | undefined = server.url,
  progressMs = 0,
  env: Readonly<Record<string, string>> = {},
) {
  const result = { out: "", error: "", code: 0 };
  result.code = await runClusterCli(argv, {
    env: { ...(url === undefined ? {} : { MINIKV_URL: url }), ...env },
    out: (text) => (result.out += text),
    error: (text) => (result.error += text),
    pollMs: 1,
    progressMs,
  });
  return result;
}

function mapOf(states: Readonly<Record<number, State>>): ClusterMap {
  const nodes = Object.entries(states).map(([id, state]) => ({
    id: toNodeId(Number(id)),
    address: `10.0.0.${id}:7400`,
    zone: "z1",
    host: "h",
    state,
    capacityBytes: 3 * 2 ** 30,
  }));
  return { ...fullyReplicatedMap("east", nodes), version: 42 };
}

/** `map` without the replicas of the groups from `from` on, as far as they are on node `id`. */
function without(map: ClusterMap, id: number, from: number): ClusterMap {
  const cut = (placement: ClusterMap["meta"]) =>
    placement.group < from
      ? placement
      : { ...placement, replicas: placement.replicas.filter(({ replica }) => replica !== id) };
  return { ...map, placements: map.placements.map(cut), meta: cut(map.meta) };
}

const UP = mapOf({ 1: NodeState.Up, 2: NodeState.Up, 3: NodeState.Up });

describe("minikv cluster status", () => {
  it("shows the nodes as a table, and what is wrong", async () => {
    const report = { nodeId: 2, usedBytes: 3n * 2n ** 29n, syncMicros: 1_500, writable: true };
    gateway.cluster.statusAnswer = {
      map: toMapMessage(UP),
      metaLeaderNodeId: 2,
      nodes: [{ report: { ...report, softwareVersion: "0.1.0" }, reportAgeMs: 10n }],
    };
    const { out, error, code } = await run(["status"]);
    expect([error, code]).toEqual(["", 0]);
    expect(out).toContain("cluster east, map 42, feature version 2, 1 of 3 nodes answer\n");
    expect(out).toContain("meta group on 1, 2, 3: led by 2\n");
    const [title, , second] = out.split("\n").slice(3);
    expect(title).toMatch(/^NODE +ADDRESS +STATE +ANSWERS +ZONE +HOST +LEADS +HOLDS/);
    const cells = second!.trim().split(/ {2,}/);
    expect(cells).toEqual([
      ...["2", "10.0.0.2:7400", "up", "yes", "z1", "h", "0", "257", "0", "1.5 GiB"],
      ...["3.0 GiB", "1.5 ms", "yes", "0.1.0"],
    ]);
    expect(out).toContain("without a quorum: 0, 1, 2");
    expect(out).toContain("and 240 more (256)\n");
    expect(out).toContain("nothing moves\n");
  });

  it("says when it is only what the gateway sees", async () => {
    gateway.cluster.failure = new KvError("NOT_LEADER", "no leader was found");
    gateway.cluster.knownMap = UP;
    const { out, code } = await run(["status"]);
    expect(code).toBe(0);
    expect(out).toContain("seen by this gateway alone: no leader was found\n");
    expect(out).toContain("without a leader: ?\n");
  });

  it("prints all of it as JSON, groups included", async () => {
    gateway.cluster.statusAnswer = { map: toMapMessage(UP) };
    const { out } = await run(["status", "--json"]);
    const status = JSON.parse(out) as { groups: unknown[]; nodes: unknown[] };
    expect([status.nodes.length, status.groups.length]).toEqual([3, 257]);
  });

  it("shows how far drains and removals are, and why one cannot go on", async () => {
    const map = mapOf({ 1: NodeState.Up, 2: NodeState.Draining, 3: NodeState.Removing });
    gateway.cluster.statusAnswer = {
      map: toMapMessage(map),
      blocked: [{ nodeId: 3, reason: "no room anywhere: add a node" }],
    };
    const { out } = await run(["status"]);
    expect(out).toContain("\ndraining: node 2: ? leaders and 257 replicas left\n");
    expect(out).toContain(
      "\nremoving: node 3: ? leaders and 257 replicas left; it cannot go on: no room anywhere: add a node\n",
    );
  });

  it("lists moves", async () => {
    const replicas = [
      { replica: UP.placements[5]!.replicas[0]!.replica, role: "leaving" as const },
      { replica: UP.placements[5]!.replicas[1]!.replica, role: "learner" as const },
    ];
    const placements = UP.placements.map((one) => (one.group === 5 ? { ...one, replicas } : one));
    gateway.cluster.statusAnswer = { map: toMapMessage({ ...UP, placements }) };
    expect((await run(["status"])).out).toContain("1 moves:\n  vshard 5: 2 joins, 1 leaves\n");
  });
});

describe("minikv cluster", () => {
  it.each([
    [["join", "10.0.0.4:7400"], "invite", { address: "10.0.0.4:7400" }],
    [["drain", "3"], "drain", { nodeId: 3 }],
    [["drain", "3", "--cancel"], "cancelDrain", { nodeId: 3 }],
    [["remove", "3"], "remove", { nodeId: 3 }],
    [["transfer", "17", "2"], "transfer", { group: 17, nodeId: 2 }],
    [["transfer", "meta", "2"], "transfer", { group: 65_535, nodeId: 2 }],
    [["rebalance"], "rebalance", {}],
  ])("%j asks for %s and says what was decided", async (argv, kind, value) => {
    expect(await run(argv)).toEqual({ out: "done\n", error: "", code: 0 });
    expect(gateway.cluster.changes[0]!.request.change).toMatchObject({ case: kind, value });
    const { out } = await run([...argv, "--json"]);
    expect(JSON.parse(out)).toEqual({ detail: "done", map_version: 7 });
  });

  it("says why it was refused, and exits with 1", async () => {
    gateway.cluster.failure = new KvError("CLUSTER_CONFLICT", "vshard 7 would lose its quorum", {
      outcome: "not_applied",
    });
    const { out, error, code } = await run(["remove", "3"]);
    expect([out, code]).toEqual(["", 1]);
    expect(error).toBe("minikv cluster: vshard 7 would lose its quorum (CLUSTER_CONFLICT)\n");
  });

  it("says when it may have been done all the same", async () => {
    gateway.cluster.failure = new KvError("UNAVAILABLE", "lost", { outcome: "unknown" });
    const { error, code } = await run(["drain", "3"]);
    expect(code).toBe(1);
    expect(error).toContain("may have been done");
  });

  it("says who does not answer, and exits with 1", async () => {
    const { url } = server;
    await server.close(0);
    const { error, code } = await run(["status", "--url", `${url}/`], undefined);
    expect(code).toBe(1);
    expect(error).toContain(`${url} does not answer`);
    expect(error).toContain("ECONNREFUSED");
  });

  it("doubts the outcome of a change whose answer is lost, unless nothing was sent", async () => {
    const dropper = createServer((incoming) => incoming.socket.destroy());
    await new Promise<void>((resolve) => dropper.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(dropper.address() as AddressInfo).port}`;
    try {
      expect((await run(["drain", "3"], url)).error).toContain("may have been done all the same");
      expect((await run(["status"], url)).error).not.toContain("may have been done");
    } finally {
      dropper.close();
    }
    await server.close(0);
    expect((await run(["drain", "3"])).error).not.toContain("may have been done");
  });

  it("says what to do when nobody listens, and what a port says that speaks HTTPS", async () => {
    const plain = createServer((_, response) => {
      response.writeHead(400).end("this port speaks HTTPS: use https:// in the URL\n");
    });
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(plain.address() as AddressInfo).port}`;
    const { error, code } = await run(["status", "--url", url]);
    await new Promise((resolve) => plain.close(resolve));
    expect(code).toBe(1);
    expect(error).toContain("answers HTTP 400: this port speaks HTTPS: use https:// in the URL\n");
    expect((await run(["status", "--url", url])).error).toContain("--url names another");
  });

  it("does not take another server for a gateway", async () => {
    const other = createServer((_, response) => response.end("{}"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = other.address() as AddressInfo;
      const { error, code } = await run(["status", "--url", `http://127.0.0.1:${port}`]);
      expect(code).toBe(1);
      expect(error).toContain("does not answer like a minikv gateway");
    } finally {
      other.close();
    }
  });

  it("passes its patience on", async () => {
    await run(["rebalance", "--timeout", "700ms"]);
    const { deadlineMs } = gateway.cluster.changes[0]!;
    expect(deadlineMs - gateway.clock.nowMs()).toBe(700);
  });

  it.each([
    [[], "a command is missing"],
    [["stauts"], "did you mean status?"],
    [["status", "extra"], "status takes nothing"],
    [["drain"], "drain takes NODE"],
    [["drain", "x"], '"x" is no node id'],
    [["drain", "3", "--wait", "--cancel"], "exclude each other"],
    [["remove", "3", "--cancel"], "--cancel belongs to drain"],
    [["transfer", "3", "1", "--wait"], "belong to drain and remove"],
    [["transfer", "256", "1"], '"256" is no vshard'],
    [["join", "nowhere"], '"nowhere" is not host:port'],
    [["status", "--nope"], "--nope"],
    [["status", "--url", "ftp://x"], "is no URL of a gateway"],
    [["status", "--timeout", "2m"], "--timeout: expected a duration"],
  ])("%j is wrong: exit code 2, and says what", async (argv, message) => {
    const { out, error, code } = await run(argv);
    expect([out, code]).toEqual(["", 2]);
    expect(error).toContain(message);
    expect(gateway.cluster.changes).toEqual([]);
  });

  it.each([
    [["--help"], "Usage: minikv cluster <command>"],
    [["drain", "--help"], "Usage: minikv cluster drain NODE [options]"],
    [["transfer", "-h"], "Usage: minikv cluster transfer VSHARD NODE [options]"],
    [["status", "--help"], "MINIKV_URL"],
  ])("%j explains itself", async (argv, text) => {
    const { out, error, code } = await run(argv);
    expect([error, code]).toEqual(["", 0]);
    expect(out).toContain(text);
  });
});

describe("minikv cluster drain --wait", () => {
  const draining = mapOf({ 1: NodeState.Up, 2: NodeState.Up, 3: NodeState.Draining });

  /** One status after the other; the last one stays. */
  function answerWith(maps: readonly ClusterMap[]): void {
    const left = [...maps];
    const { status } = gateway.cluster;
    gateway.cluster.status = () => {
      const map = left.length > 1 ? left.shift()! : left[0]!;
      gateway.cluster.statusAnswer = { map: toMapMessage(map) };
      return status.call(gateway.cluster);
    };
  }

  it("shows progress until the node is empty", async () => {
    const [half, empty] = [without(draining, 3, 100), without(draining, 3, 0)];
    answerWith([draining, draining, half, empty]);
    const { out, code } = await run(["drain", "3", "--wait"]);
    expect(code).toBe(0);
    expect(out.split("\n")).toEqual([
      "done",
      "node 3: ? leaders and 257 replicas left",
      "node 3: ? leaders and 100 replicas left",
      "node 3: ? leaders and 0 replicas left",
      "",
    ]);
  });

  it("does not show each step of a long way", async () => {
    const steps = [200, 150, 100, 50].map((left) => without(draining, 3, left));
    answerWith([draining, ...steps, without(draining, 3, 0)]);
    const { out } = await run(["drain", "3", "--wait"], server.url, 60_000);
    const lines = out.trim().split("\n");
    expect([lines.length, lines[1], lines[2]]).toEqual([
      3,
      "node 3: ? leaders and 257 replicas left",
      "node 3: ? leaders and 0 replicas left",
    ]);
  });

  it("prints one JSON line for each step", async () => {
    answerWith([draining, without(draining, 3, 0)]);
    const { out } = await run(["drain", "3", "--wait", "--json"]);
    const lines = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(lines.slice(1)).toEqual([
      { node: 3, replicas_left: 257, leaders_left: null, blocked: null },
      { node: 3, replicas_left: 0, leaders_left: null, blocked: null },
    ]);
  });

  it("waits for a removal until the node is gone", async () => {
    const removing = mapOf({ 1: NodeState.Up, 2: NodeState.Up, 3: NodeState.Removing });
    answerWith([UP, removing, without(removing, 3, 0), mapOf({ 1: NodeState.Up })]);
    const { out, code } = await run(["remove", "3", "--wait"]);
    expect([out.split("\n").slice(-2), code]).toEqual([
      ["node 3 is no longer in the cluster", ""],
      0,
    ]);
    expect(out).toContain("node 3: ? leaders and 257 replicas left\n");
  });

  it("fails when somebody cancels the removal", async () => {
    const removing = mapOf({ 1: NodeState.Up, 2: NodeState.Up, 3: NodeState.Removing });
    answerWith([removing, UP]);
    expect((await run(["remove", "3", "--wait"])).error).toContain("is not being removed any more");
  });

  it("does not take an older map for a cancelled drain", async () => {
    answerWith([{ ...UP, version: 6 }, without(draining, 3, 0)]);
    expect(await run(["drain", "3", "--wait"])).toMatchObject({ error: "", code: 0 });
  });

  it("ends when the node has been removed", async () => {
    answerWith([mapOf({ 1: NodeState.Up })]);
    const { out, code } = await run(["drain", "3", "--wait"]);
    expect([out, code]).toEqual(["done\nnode 3 is no longer in the cluster\n", 0]);
  });

  it("fails when somebody cancels the drain", async () => {
    answerWith([draining, UP]);
    const { error, code } = await run(["drain", "3", "--wait"]);
    expect(code).toBe(1);
    expect(error).toContain("does not drain any more");
  });

  it("bears it when nobody answers for a while", async () => {
    answerWith([draining, without(draining, 3, 0)]);
    const { status } = gateway.cluster;
    let calls = 0;
    gateway.cluster.status = () => {
      if (calls++ === 1) return Promise.reject(new KvError("NOT_LEADER", "an election"));
      return status.call(gateway.cluster);
    };
    const { out, code } = await run(["drain", "3", "--wait"]);
    expect(code).toBe(0);
    expect(out).toContain("waiting: an election (NOT_LEADER)\n");
  });

  it("gives up waiting in the end", async () => {
    answerWith([draining]);
    const { error, code } = await run(["drain", "3", "--wait", "--wait-timeout", "50ms"]);
    expect(code).toBe(1);
    expect(error).toContain("goes on draining");
  });
});

describe("the key of minikv cluster", () => {
  const KEY = "mkv_0123456789ABCDEF_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG2fuGbC";

  /** What a gateway was sent as credentials. */
  async function sentWith(argv: readonly string[], env: Readonly<Record<string, string>>) {
    const sent: (string | undefined)[] = [];
    const other = createServer((request, response) => {
      sent.push(request.headers.authorization);
      response.writeHead(401, { "Content-Type": "application/problem+json" });
      response.end('{"detail":"no","code":"UNAUTHENTICATED"}');
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    const result = await run(["status", ...argv], url, 0, env);
    other.close();
    return { ...result, sent };
  }

  it("comes from the environment or a file, and is sent as a bearer", async () => {
    const directory = mkdtempSync(join(tmpdir(), "minikv-cli-"));
    const file = join(directory, "key");
    writeFileSync(file, `${KEY}\n`);
    const other = { MINIKV_API_KEY: "other" };
    for (const [argv, env] of [
      [[], { MINIKV_API_KEY: KEY }],
      [[], { MINIKV_API_KEY_FILE: file }],
      [["--api-key-file", file], other],
    ] as const) {
      const { sent, error, code } = await sentWith(argv, env);
      expect(sent).toEqual([`Bearer ${KEY}`]);
      expect([error, code]).toEqual(["minikv cluster: no (UNAUTHENTICATED)\n", 1]);
    }
    expect((await sentWith([], {})).sent).toEqual([undefined]);
    rmSync(directory, { recursive: true });
  });

  it("is not used, and not shown, when it cannot be one", async () => {
    for (const [argv, env] of [
      [[], { MINIKV_API_KEY: "two words" }],
      [[], { MINIKV_API_KEY: "" }],
      [["--api-key-file", "/no/such/file"], {}],
    ] as const) {
      const { sent, error, code } = await sentWith(argv, env);
      expect([sent, code]).toEqual([[], 2]);
      expect(error).not.toContain("two words");
    }
  });
});
