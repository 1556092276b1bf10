/**
 * Gateway and storage node as two processes that come and go: each waits for the other, says what
 * is missing meanwhile, and never claims more about a write than is known.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { checkKey, explain } from "#test/linearizability/check.ts";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import { Workload } from "#test/torture/load/workload.ts";
import {
  SERVES_GRPC,
  SERVES_HTTP,
  spawnMinikv,
  startPair,
  temporaryDirectory,
  waitForReadiness,
} from "./harness.ts";
import { type Answer, expectProblem, HttpClient, jsonOf, type ProblemBody } from "./http-client.ts";
import type { ServerProcess } from "./server-process.ts";

/** A storage node; on port 0 it takes any. */
async function storageNode(dataDir: string, listen = "127.0.0.1:0", ...more: readonly string[]) {
  const args = ["storage-node", "--listen", listen, "--data-dir", dataDir, ...more];
  const server = spawnMinikv(args);
  return { server, address: await server.printed(SERVES_GRPC) };
}

async function gateway(storage: string, ...more: readonly string[]) {
  const server = spawnMinikv(gatewayArguments("127.0.0.1:0", [storage], more));
  return { server, url: await server.printed(SERVES_HTTP) };
}

/** Answers to a write while storage may be away: it says what is known, and nothing else. */
function outcomeOf(answer: Answer): "applied" | "not_applied" | "unknown" {
  if (answer.status < 300) return "applied";
  const { code, outcome } = jsonOf(answer) as ProblemBody;
  expect(["UNAVAILABLE", "NOT_LEADER", "DEADLINE_EXCEEDED"]).toContain(code);
  expectProblem(answer, code, outcome);
  expect(["not_applied", "unknown"]).toContain(outcome);
  return outcome!;
}

describe("a storage node that is killed and started again", () => {
  it("is waited for by requests, within their deadline", async () => {
    const server = await startPair();
    const client = new HttpClient(server.url);
    await client.put("/v1/kv/before", "1");
    await server.storageProcess.kill9();
    await waitForReadiness(server.url, 503);
    const unready = await client.get("/health/ready");
    expect(expectProblem(unready, "UNAVAILABLE").detail).toContain("no stream to storage node");
    expect((await client.get("/health/live")).status).toBe(200);
    // Sent while nothing is there; the default deadline is 10 s.
    const waiting = [
      client.put("/v1/kv/during", "2"),
      client.get("/v1/kv/before"),
      client.delete("/v1/kv/absent"),
    ];
    const patience = { "Minikv-Timeout": "200ms" };
    const late = await client.put("/v1/kv/late", "3", patience);
    expectProblem(late, "UNAVAILABLE", "not_applied");
    expect(late.headers["retry-after"]).toBe("1");
    expectProblem(await client.get("/v1/kv/before", patience), "UNAVAILABLE");
    await server.restart();
    const [put, got, deleted] = await Promise.all(waiting);
    expect(put!.status).toBe(201);
    expect([got!.status, got!.body.toString()]).toEqual([200, "1"]);
    expect(deleted!.status).toBe(404);
    expect((await client.get("/v1/kv/during")).body.toString()).toBe("2");
    expect((await client.get("/v1/kv/late")).status).toBe(404);
    client.close();
    const messages = server.gatewayProcess.logRecords().map(({ msg }) => msg);
    expect(messages).toContain("storage node not reachable");
    expect(messages.filter((msg) => msg === "storage node connected")).toHaveLength(2);
  });

  it("makes no answer wrong: what was said of each write holds afterwards", async () => {
    const server = await startPair();
    const client = new HttpClient(server.url);
    const outcomes = new Map<string, "applied" | "not_applied" | "unknown">();
    let isOver = false;
    const writer = async (number: number): Promise<void> => {
      for (let count = 0; !isOver; count++) {
        const path = `/v1/kv/gap-${number}-${count}`;
        const put = await client.put(path, path, { "Minikv-Timeout": "100ms" });
        outcomes.set(path, outcomeOf(put));
      }
    };
    const writers = Array.from({ length: 16 }, (_, number) => writer(number));
    // Not all are, while nothing is killed: a busy machine takes longer than their deadline.
    const applied = () => [...outcomes.values()].filter((outcome) => outcome === "applied").length;
    for (let round = 0; round < 2; round++) {
      const before = applied();
      await expect.poll(applied, { timeout: 60_000 }).toBeGreaterThan(before + 50);
      await server.storageProcess.kill9();
      await sleep(150);
      await server.restart();
    }
    isOver = true;
    await Promise.all(writers);
    const told = [...outcomes.values()];
    expect(told.filter((outcome) => outcome !== "applied").length).toBeGreaterThan(0);
    for (const [path, outcome] of outcomes) {
      const { status, body } = await client.get(path);
      if (outcome === "applied") expect([path, body.toString()]).toEqual([path, path]);
      if (outcome === "not_applied") expect([path, status]).toEqual([path, 404]);
    }
    client.close();
  });

  it("leaves a linearizable history", async () => {
    const server = await startPair();
    const workload = new Workload({
      urls: [server.url],
      seed: 2,
      name: "history",
      clients: 8,
      hotKeys: 2,
      coldKeys: 4,
      thinkMsMax: 4,
      timeoutsMs: [200, 10_000],
    });
    let isOver = false;
    const running = workload.run(() => isOver);
    for (let round = 0; round < 2; round++) {
      const before = workload.operations;
      await expect
        .poll(() => workload.operations, { timeout: 60_000 })
        .toBeGreaterThan(before + 200);
      await server.storageProcess.kill9();
      await sleep(300);
      await server.restart();
    }
    isOver = true;
    await running;
    expect(await workload.readAll(performance.now() + 20_000)).toEqual([]);
    for (const [key, history] of workload.histories) {
      expect(history.length).toBeGreaterThan(10);
      expect([key, explain(history, checkKey(history))]).toEqual([key, "linearizable"]);
    }
    expect(workload.complaints).toEqual([]);
  });
});

describe("a gateway", () => {
  it("starts without a storage node, says so, and serves when one comes up", async () => {
    const dataDir = temporaryDirectory();
    const first = await storageNode(dataDir);
    await first.server.stop();
    const { server, url } = await gateway(first.address);
    const client = new HttpClient(url);
    expect((await client.get("/health/live")).status).toBe(200);
    expectProblem(await client.get("/health/startup"), "UNAVAILABLE");
    expectProblem(await client.get("/health/ready"), "UNAVAILABLE");
    const put = await client.put("/v1/kv/a", "v", { "Minikv-Timeout": "100ms" });
    expect(outcomeOf(put)).toBe("not_applied");
    await storageNode(dataDir, first.address);
    await waitForReadiness(url, 200);
    expect((await client.get("/health/startup")).status).toBe(200);
    expect((await client.put("/v1/kv/a", "v")).status).toBe(201);
    client.close();
    expect((await server.stop()).code).toBe(0);
  });

  it("can be one of several, and be killed: nothing is lost with it", async () => {
    const { address } = await storageNode(temporaryDirectory());
    const [one, other] = await Promise.all([gateway(address), gateway(address)]);
    await Promise.all([waitForReadiness(one.url, 200), waitForReadiness(other.url, 200)]);
    const [toOne, toOther] = [new HttpClient(one.url), new HttpClient(other.url)];
    const put = await toOne.put("/v1/kv/shared", "1");
    expect((await toOther.get("/v1/kv/shared")).headers.etag).toBe(put.headers.etag);
    const swap = await toOther.put("/v1/kv/shared", "2", { "If-Match": put.headers.etag! });
    expect(swap.status).toBe(200);
    expect((await toOne.get("/v1/kv/shared")).body.toString()).toBe("2");
    await toOne.put("/v1/kv/last", "words");
    await one.server.kill9();
    expect((await toOther.get("/v1/kv/last")).body.toString()).toBe("words");
    toOne.close();
    toOther.close();
  });

  const BOTH = /cluster "west".*"east-[0-9a-f]{8}"/;

  it("of another cluster is refused, and both names are told", async () => {
    const { server: node, address } = await storageNode(
      temporaryDirectory(),
      "127.0.0.1:0",
      ...["--cluster-id", "east"],
    );
    const { server, url } = await gateway(address, "--cluster-id", "west");
    const reasons = () => server.logRecords().map(({ reason }) => reason);
    await expect.poll(reasons, { timeout: 20_000 }).toContainEqual(expect.stringMatching(BOTH));
    const client = new HttpClient(url);
    const problem = expectProblem(await client.get("/health/ready"), "UNAVAILABLE");
    expect(problem.detail).toMatch(BOTH);
    const put = await client.put("/v1/kv/a", "v", { "Minikv-Timeout": "100ms" });
    expect(outcomeOf(put)).toBe("not_applied");
    client.close();
    expect(node.exit).toBeUndefined();
  });
});

describe("a wrong start", () => {
  const exitOf = async (server: ServerProcess) => {
    const { code } = await server.waitForExit();
    return { code, stdout: server.stdout, stderr: server.stderr };
  };

  it.each([
    [["gateway", "--storage", "127.0.0.1"], "storage"],
    [["gateway", "--storage", "127.0.0.1:1,127.0.0.1:1"], "each address once"],
    [["gateway", "--data-dir", "x"], "data-dir"],
    [["gateway", "--listen", "nowhere"], "listen"],
    [["gateway", "--cluster-id", "no spaces"], "cluster-id"],
    [["storage-node", "--node-id", "one"], "node-id"],
    [["storage-node", "--engine", "papyrus"], "engine"],
    [["storage-node", "--listen", "0.0.0.0:7400"], "insecure-listen"],
    [["dev", "--shutdown-timeout", "soon"], "shutdown-timeout"],
    [["dev", "--listen", "127.0.0.1:99999"], "listen"],
    [["dev", "extra"], "extra"],
  ])("%j exits with 2 and names what is wrong", async (args, named) => {
    const { code, stdout, stderr } = await exitOf(spawnMinikv(args));
    expect(stderr).toContain(named);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });

  it("a variable that no setting has exits with 2 too", async () => {
    const server = spawnMinikv(["gateway"], { MINIKV_STORAG: "127.0.0.1:7400" });
    const { code, stderr } = await exitOf(server);
    expect(stderr).toContain("MINIKV_STORAGE");
    expect(code).toBe(2);
  });

  it.each([
    ["gateway", (address: string) => ["gateway", "--listen", address]],
    [
      "storage-node",
      (address: string) => [
        ...["storage-node", "--listen", address],
        ...["--data-dir", temporaryDirectory()],
      ],
    ],
    ["dev", (address: string) => ["dev", "--listen", address, "--data-dir", temporaryDirectory()]],
  ])("%s on a port that is taken exits with 1 and says so", async (_, args) => {
    const { address } = await storageNode(temporaryDirectory());
    const { code, stderr } = await exitOf(spawnMinikv(args(address)));
    expect(stderr).toContain(address);
    expect(stderr).toMatch(/in use|EADDRINUSE/);
    expect(code).toBe(1);
  });
});
