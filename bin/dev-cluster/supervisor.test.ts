import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { describe, expect, it } from "vitest";
import { DEV_NODES_MAX, DEV_START_TIMEOUT_MS } from "#shared/limits.ts";
import type { Command } from "./control-protocol.ts";
import { readState } from "./state.ts";
import { GATEWAYS, kill, NODES, node, setUp, started, turn } from "./testing/supervisor-fixture.ts";

describe("start()", () => {
  it("starts everything at once, and writes cluster.json when all is ready", async () => {
    const { supervisor, processes, unready, serveAll, pass, layout, clusterFile } = setUp();
    unready.add("http://127.0.0.1:21012");
    let isReady = false;
    const start = supervisor.start().then(() => {
      isReady = true;
    });
    expect(processes.all.map(({ kind }) => kind)).toEqual([
      ...NODES.map(() => "storage-node"),
      ...GATEWAYS.map(() => "gateway"),
    ]);
    serveAll();
    await pass(1_000);
    expect(isReady).toBe(false);
    expect(existsSync(layout.clusterFilePath)).toBe(false);
    unready.clear();
    await pass(200);
    await start;
    expect(clusterFile()).toMatchObject({
      gateways: [
        { url: "http://127.0.0.1:21011", pid: 1003 },
        { url: "http://127.0.0.1:21012", pid: 1004 },
      ],
      storageNodes: NODES.map((address, index) => ({
        id: index + 1,
        address,
        pid: 1000 + index,
        dataDir: layout.dataDir(`node-${index + 1}`),
      })),
    });
  });

  it("takes as long as something moves, and tells what it waits for", async () => {
    const { supervisor, processes, unready, pass, lines } = setUp();
    const start = supervisor.start();
    for (const address of [...NODES, ...GATEWAYS]) {
      await pass(DEV_START_TIMEOUT_MS * 0.9);
      if (address === GATEWAYS[0]) unready.add(`http://${address}`);
      processes.at(address).serve();
    }
    await pass(DEV_START_TIMEOUT_MS * 0.5);
    expect(lines.at(-1)).toMatch(/^after \d+ s: gateway-1 waits for a leader$/);
    unready.clear();
    await pass(200);
    await start;
  });

  it("gives up when nothing moves, and names who is to blame", async () => {
    const { supervisor, processes, pass, layout } = setUp();
    const failed = expect(supervisor.start()).rejects.toThrow(
      /node-3 did not become ready: it waits to start\. The end of its log, .*:\nfirst\nlast$/s,
    );
    for (const address of [...NODES.slice(0, 2), ...GATEWAYS]) processes.at(address).serve();
    mkdirSync(dirname(layout.logPath("node-3")));
    writeFileSync(layout.logPath("node-3"), "first\nlast\n");
    await pass(DEV_START_TIMEOUT_MS + 1_000);
    await failed;
  });

  it("fails as soon as a process ends", async () => {
    const { supervisor, processes, pass } = setUp();
    const failed = expect(supervisor.start()).rejects.toThrow(
      "node-2 ended with exit code 1. Its log is empty.",
    );
    processes.at(NODES[1]!).end(1);
    await pass(200);
    await failed;
  });

  it("fails when a gateway ends that serves, and is not ready", async () => {
    const { supervisor, processes, unready, serveAll, pass } = setUp();
    unready.add("http://127.0.0.1:21011");
    const failed = expect(supervisor.start()).rejects.toThrow("gateway-1 was ended by SIGSEGV");
    serveAll();
    await pass(500);
    processes.at(GATEWAYS[0]!).end(null, "SIGSEGV");
    await pass(500);
    await failed;
  });

  it("fails when it is told to stop, once the gateway has ended that was not ready", async () => {
    const { supervisor, processes, unready, serveAll, pass } = setUp();
    unready.add("http://127.0.0.1:21012");
    const failed = expect(supervisor.start()).rejects.toThrow("gateway-2 ended with exit code 0");
    serveAll();
    await pass(500);
    const gateway = processes.at(GATEWAYS[1]!);
    gateway.obedient = false;
    const stopped = supervisor.stopGateways(60_000);
    await pass(500);
    gateway.end(0);
    await pass(500);
    await stopped;
    await failed;
  });
});

describe("a process that ends", () => {
  it("is told once, has no process id from then on, and is not started again", async () => {
    const { processes, lines, clusterFile, pass } = await started();
    const before = lines.length;
    processes.at(NODES[0]!).end(null, "SIGSEGV");
    await pass(60_000);
    expect(lines.slice(before)).toEqual([
      "node-1 (pid 1000) was ended by SIGSEGV. Start it again with: " +
        "bin/minikv dev restart node-1 --dir d",
    ]);
    expect(clusterFile()).toMatchObject({
      storageNodes: [{ id: 1, pid: null }, { pid: 1001 }, {}],
    });
    expect(processes.all).toHaveLength(5);
  });
});

describe("execute()", () => {
  it("refuses all but a status before the cluster is ready", async () => {
    const { supervisor } = setUp();
    expect(await supervisor.execute(kill("1"))).toMatchObject({ kind: "refused" });
    expect(await supervisor.execute({ kind: "status" })).toMatchObject({
      kind: "status",
      status: { storageNodes: [{ name: "node-1", phase: "ended", id: null }, {}, {}] },
    });
  });

  it("finds a node by its id before its name", async () => {
    const { supervisor, processes, pass } = setUp();
    const start = supervisor.start();
    for (const [address, id] of [[0, 3] as const, [1, 2] as const, [2, 1] as const]) {
      processes.at(NODES[address]!).serve(id);
    }
    for (const address of GATEWAYS) processes.at(address).serve();
    await pass(200);
    await start;
    await supervisor.execute(kill("1"));
    expect(processes.at(NODES[2]!).signals).toEqual(["SIGKILL"]);
    await supervisor.execute(kill("node-1"));
    expect(processes.at(NODES[0]!).signals).toEqual(["SIGKILL"]);
    expect(await supervisor.execute(kill("9"))).toMatchObject({
      kind: "refused",
      message: 'there is no node "9": there are node-1, node-2, node-3',
    });
  });

  it("kills, tells it, and refuses to do it twice", async () => {
    const { supervisor, clusterFile, lines } = await started();
    const answer = await supervisor.execute(kill("node-2"));
    expect(answer).toEqual({ kind: "done", message: "node-2 was sent SIGKILL" });
    expect(clusterFile()).toMatchObject({ storageNodes: [{}, { pid: null }, {}] });
    expect(lines.at(-1)).toContain("node-2 (pid 1001) was ended by SIGKILL");
    expect(await supervisor.execute(kill("node-2"))).toMatchObject({ kind: "refused" });
  });

  it("says that a paused process takes SIGTERM later", async () => {
    const { supervisor, processes } = await started();
    await supervisor.execute({ kind: "pause", target: node("2"), forMs: null });
    expect(await supervisor.execute(kill("2", "TERM"))).toEqual({
      kind: "done",
      message: "node-2 was sent SIGTERM, which it takes when it is resumed",
    });
    await supervisor.execute({ kind: "resume", target: node("2") });
    await processes.at(NODES[1]!).ended;
    await turn();
    expect(supervisor.status.storageNodes[1]).toMatchObject({
      phase: "ended",
      lastEnd: { code: 0 },
    });
  });

  it("goes on when cluster.json cannot be written, and writes it with the next change", async () => {
    const { supervisor, layout, lines, clusterFile } = await started();
    mkdirSync(`${layout.clusterFilePath}.tmp`);
    expect(await supervisor.execute(kill("1"))).toMatchObject({ kind: "done" });
    expect(lines.filter((line) => line.startsWith("cannot write cluster.json")).length).toBe(1);
    rmdirSync(`${layout.clusterFilePath}.tmp`);
    expect(await supervisor.execute(kill("2"))).toMatchObject({ kind: "done" });
    expect(clusterFile()).toMatchObject({ storageNodes: [{ pid: null }, { pid: null }, {}] });
  });

  it("pauses for a while", async () => {
    const { supervisor, processes, pass } = await started();
    const target = { kind: "gateway", number: 2 } as const;
    await supervisor.execute({ kind: "pause", target, forMs: 10_000 });
    const { signals } = processes.at(GATEWAYS[1]!);
    await pass(9_000);
    expect(signals).toEqual(["SIGSTOP"]);
    expect(supervisor.status.gateways[1]).toMatchObject({ phase: "serving", paused: true });
    await pass(2_000);
    expect(signals).toEqual(["SIGSTOP", "SIGCONT"]);
    expect(supervisor.status.gateways[1]).toMatchObject({ paused: false });
  });

  it("pauses until told otherwise, and a later word counts", async () => {
    const { supervisor, processes, pass } = await started();
    await supervisor.execute({ kind: "pause", target: node("1"), forMs: 1_000 });
    await supervisor.execute({ kind: "pause", target: node("1"), forMs: null });
    await pass(60_000);
    const { signals } = processes.at(NODES[0]!);
    expect(signals).toEqual(["SIGSTOP", "SIGSTOP"]);
    await supervisor.execute({ kind: "resume", target: node("1") });
    expect(signals.at(-1)).toBe("SIGCONT");
    const again = await supervisor.execute({ kind: "resume", target: node("1") });
    expect(again).toEqual({ kind: "refused", message: "node-1 is not paused" });
  });

  it("starts a killed node again, with a new process", async () => {
    const { supervisor, processes, clusterFile, pass } = await started();
    await supervisor.execute(kill("3"));
    const restarted = supervisor.execute({ kind: "restart", target: node("node-3") });
    await turn();
    expect(await supervisor.execute({ kind: "restart", target: node("node-3") })).toEqual({
      kind: "refused",
      message: "node-3 is starting",
    });
    processes.at(NODES[2]!).serve(3);
    await pass(200);
    expect(await restarted).toMatchObject({
      kind: "done",
      message: expect.stringMatching(/serves on .* as node 3$/),
    });
    expect(clusterFile()).toMatchObject({ storageNodes: [{}, {}, { id: 3, pid: 1005 }] });
  });

  it("restarts what runs by stopping it first, also when it is paused", async () => {
    const { supervisor, processes, pass, lines } = await started();
    const before = lines.length;
    await supervisor.execute({ kind: "pause", target: node("1"), forMs: null });
    const first = processes.at(NODES[0]!);
    const restarted = supervisor.execute({ kind: "restart", target: node("1") });
    await pass(200);
    expect(first.signals).toEqual(["SIGSTOP", "SIGTERM", "SIGCONT"]);
    processes.at(NODES[0]!).serve(1);
    await pass(200);
    expect(await restarted).toMatchObject({ kind: "done" });
    expect(lines.slice(before)).toEqual(["node-1 serves on 127.0.0.1:21001 as node 1"]);
  });

  it("says why a process could not be started again", async () => {
    const { supervisor, processes, pass } = await started();
    await supervisor.execute(kill("1"));
    const restarted = supervisor.execute({ kind: "restart", target: node("1") });
    await turn();
    processes.at(NODES[0]!).end(1);
    await pass(200);
    expect(await restarted).toMatchObject({
      kind: "refused",
      message: expect.stringContaining("node-1 ended with exit code 1"),
    });
    // And it can be tried again.
    const again = supervisor.execute({ kind: "restart", target: node("1") });
    await turn();
    processes.at(NODES[0]!).serve(1);
    await pass(200);
    expect(await again).toMatchObject({ kind: "done" });
  });

  it("adds a node that joins, and keeps it in the directory's state", async () => {
    const { supervisor, processes, layout, clusterFile, pass } = await started();
    const added = supervisor.execute({ kind: "add-node" });
    expect(await supervisor.execute({ kind: "add-node" })).toMatchObject({ kind: "refused" });
    await turn();
    const process = processes.at("127.0.0.1:21013");
    expect(process.flag("--seeds")).toBe(NODES.join(","));
    expect(process.flag("--bootstrap-expect")).toBeUndefined();
    process.serve(4);
    await pass(200);
    expect(await added).toMatchObject({ kind: "done" });
    expect(clusterFile()).toMatchObject({ storageNodes: [{}, {}, {}, { id: 4, pid: 1005 }] });
    expect(readState(layout.statePath)?.nodes.map(({ name }) => name)).toContain("node-4");
    // A gateway that starts from now on may find the cluster through the new node too.
    const restarted = supervisor.execute({
      kind: "restart",
      target: { kind: "gateway", number: 1 },
    });
    await pass(200);
    expect(processes.at(GATEWAYS[0]!).flag("--storage")).toContain("127.0.0.1:21013");
    processes.at(GATEWAYS[0]!).serve();
    await pass(200);
    expect(await restarted).toMatchObject({ kind: "done" });
  });

  it("adds no more nodes than there may be", async () => {
    const { supervisor, processes, pass } = await started();
    for (let count = 4; count <= DEV_NODES_MAX; count++) {
      const added = supervisor.execute({ kind: "add-node" });
      await turn();
      processes.all.at(-1)!.serve(count);
      await pass(200);
      expect(await added).toMatchObject({ kind: "done" });
    }
    expect(await supervisor.execute({ kind: "add-node" })).toMatchObject({ kind: "refused" });
    expect(supervisor.status.storageNodes).toHaveLength(DEV_NODES_MAX);
  });

  it("forgets a node that has ended, and no other", async () => {
    const { supervisor, layout, clusterFile } = await started();
    const forget: Command = { kind: "forget", target: node("2") };
    expect(await supervisor.execute(forget)).toMatchObject({
      kind: "refused",
      message: "node-2 still runs: kill it first",
    });
    await supervisor.execute(kill("2"));
    expect(await supervisor.execute(forget)).toMatchObject({ kind: "done" });
    expect(clusterFile()).toMatchObject({ storageNodes: [{ id: 1 }, { id: 3 }] });
    expect(readState(layout.statePath)?.nodes.map(({ name }) => name)).toEqual([
      "node-1",
      "node-3",
    ]);
    const gateway: Command = { kind: "forget", target: { kind: "gateway", number: 1 } };
    expect(await supervisor.execute(gateway)).toMatchObject({ kind: "refused" });
  });
});
