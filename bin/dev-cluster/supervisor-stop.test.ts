/** How the supervisor stops its members; what else it does: supervisor.test.ts. */
import { describe, expect, it } from "vitest";
import { GATEWAYS, kill, NODES, node, setUp, started } from "./testing/supervisor-fixture.ts";

describe("stopping", () => {
  it("stops gateways, then nodes, and starts nothing any more", async () => {
    const { supervisor, processes, clusterFile, lines } = await started();
    const before = lines.length;
    await supervisor.stopGateways(1_000);
    expect(processes.all.map(({ signals }) => signals.length > 0)).toEqual([
      ...[false, false, false],
      ...[true, true],
    ]);
    expect(await supervisor.execute({ kind: "add-node" })).toMatchObject({
      kind: "refused",
      message: "the cluster is stopping",
    });
    await supervisor.stopNodes(1_000);
    expect(clusterFile()).toMatchObject({
      gateways: [{ pid: null }, { pid: null }],
      storageNodes: [{ pid: null }, { pid: null }, { pid: null }],
    });
    expect(lines.slice(before)).toEqual([]);
  });

  it("does not wait for what has ended, and lets go on what is paused", async () => {
    const { supervisor, processes } = await started();
    await supervisor.execute(kill("1"));
    await supervisor.execute({ kind: "pause", target: node("2"), forMs: null });
    await supervisor.stopNodes(1_000);
    expect(processes.at(NODES[1]!).signals).toEqual(["SIGSTOP", "SIGTERM", "SIGCONT"]);
  });

  it("kills what does not stop in time, and calls that unclean", async () => {
    const { supervisor, processes, pass } = await started();
    processes.at(NODES[2]!).obedient = false;
    const failed = expect(supervisor.stopNodes(1_000)).rejects.toThrow(
      "node-3 did not stop within 1000 ms",
    );
    await pass(1_100);
    await failed;
    expect(processes.at(NODES[2]!).signals.at(-1)).toBe("SIGKILL");
  });

  it.each([
    ["starting", setUp, undefined],
    ["serving", started, "node-1 was ended by SIGTERM"],
  ] as const)("judges a death by SIGTERM of what is %s", async (_, prepare, failure) => {
    const { supervisor, processes } = await prepare();
    if (prepare === setUp) void supervisor.start().catch(() => {});
    const process = processes.at(NODES[0]!);
    process.obedient = false;
    const stopped = supervisor.stopNodes(1_000).catch((error: unknown) => (error as Error).message);
    process.end(null, "SIGTERM");
    expect(await stopped).toBe(failure);
  });

  it("calls an exit code of failure unclean", async () => {
    const { supervisor, processes } = await started();
    const gateway = processes.at(GATEWAYS[0]!);
    gateway.obedient = false;
    const failed = expect(supervisor.stopGateways(1_000)).rejects.toThrow(
      "gateway-1 ended with exit code 1",
    );
    gateway.end(1);
    await failed;
  });

  it("ends a restart that is under way", async () => {
    const { supervisor, processes } = await started();
    processes.at(NODES[0]!).obedient = false;
    const restarted = supervisor.execute({ kind: "restart", target: node("1") });
    const stopped = supervisor.stopGateways(1_000);
    processes.at(NODES[0]!).end(0);
    expect(await restarted).toEqual({ kind: "refused", message: "the cluster is stopping" });
    await stopped;
    expect(processes.all).toHaveLength(5);
  });

  it("killAll() kills whatever runs", async () => {
    const { supervisor, processes } = await started();
    await supervisor.execute(kill("1"));
    supervisor.killAll();
    for (const { signals } of processes.all) expect(signals).toEqual(["SIGKILL"]);
  });
});
