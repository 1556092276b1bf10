import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { lockFile } from "#shared/runtime/file-lock.ts";
import { layoutOf } from "./layout.ts";
import { prepareCluster } from "./prepare.ts";
import { readState } from "./state.ts";
import { temporaryDirectory } from "./testing/temporary.ts";

const host = "127.0.0.1";
/** Another one in each process that runs these tests: they look for free ports of one machine. */
const random = new SeededRandom(process.pid);

/** Listens until the returned function is called, or the test ends. */
async function occupy(port: number): Promise<() => Promise<void>> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  const close = () => new Promise<void>((resolve) => void server.close(() => resolve()));
  onTestFinished(close);
  return close;
}

function cluster() {
  const layout = layoutOf(temporaryDirectory());
  const lines: string[] = [];
  const prepare = (
    config: { nodes?: number; gateways?: number; port?: number; zones?: string } = {},
    leftoversTimeoutMs = 60_000,
  ) =>
    prepareCluster({
      layout,
      config: {
        nodes: config.nodes ?? 3,
        gateways: config.gateways ?? 2,
        zones: config.zones ?? "",
        listen: { host, port: config.port ?? 0 },
      },
      random,
      clock: systemClock(),
      report: (line) => lines.push(line),
      leftoversTimeoutMs,
    });
  return { layout, lines, prepare };
}

describe("prepareCluster()", () => {
  it("chooses ports at the first start, and keeps them", async () => {
    const { layout, prepare } = cluster();
    const first = await prepare({ zones: "a,b" });
    const ports = [...first.state.nodes, ...first.gateways].map(({ port }) => port);
    expect(new Set(ports).size).toBe(5);
    expect(first.state.seeds).toHaveLength(3);
    expect(readState(layout.statePath)).toEqual(first.state);
    expect(await prepare()).toEqual(first);
  });

  it("gives each directory a cluster id of its own", async () => {
    const ids = [await cluster().prepare(), await cluster().prepare()].map(
      ({ state }) => state.clusterId,
    );
    expect(new Set(ids).size).toBe(2);
  });

  it("adds the nodes that are missing, and refuses to leave some out", async () => {
    const { prepare } = cluster();
    const { state: three } = await prepare();
    const { state: five } = await prepare({ nodes: 5 });
    expect(five.nodes.slice(0, 3)).toEqual(three.nodes);
    expect(five.nodes.slice(3).map(({ founder }) => founder)).toEqual([false, false]);
    expect(five.seeds).toEqual(three.seeds);
    await expect(prepare({ nodes: 4 })).rejects.toThrow(/has 5 nodes, and 4 were asked for/);
  });

  it("lets gateways come and go, the first one where it is asked to be", async () => {
    const { prepare } = cluster();
    const { gateways: two } = await prepare();
    const { gateways: three } = await prepare({ gateways: 3 });
    expect(three.slice(0, 2)).toEqual(two);
    const [moved] = (await prepare({ gateways: 1, port: two[1]!.port })).gateways;
    expect(moved).toEqual(two[1]);
  });

  it("gives the other gateways the ports that follow", async () => {
    const free = (await cluster().prepare({ gateways: 1 })).gateways[0]!.port;
    const { gateways } = await cluster().prepare({ gateways: 3, port: free });
    const ports = gateways.map(({ port }) => port);
    expect(ports[0]).toBe(free);
    expect(ports).toEqual(ports.toSorted((a, b) => a - b));
  });

  it("gives another port to a gateway whose own somebody took after an orderly stop", async () => {
    const { prepare, layout } = cluster();
    const { gateways: before } = await prepare();
    writeFileSync(layout.clusterFilePath, '{ "gateways": [{ "pid": null }] }');
    await occupy(before[1]!.port);
    const { gateways: after } = await prepare();
    expect(after[0]).toEqual(before[0]);
    expect(after[1]).not.toEqual(before[1]);
  });

  it("refuses an address that is in use, when it was asked for", async () => {
    const port = (await cluster().prepare()).gateways[0]!.port;
    await occupy(port);
    await expect(cluster().prepare({ port })).rejects.toThrow(
      `127.0.0.1:${port} is in use; choose another address with --listen`,
    );
  });
});

describe("what an earlier run has left", () => {
  it("is waited for: a node's port", async () => {
    const { prepare, lines } = cluster();
    const first = await prepare();
    const leave = await occupy(first.state.nodes[1]!.port);
    const second = prepare();
    await expect.poll(() => lines).toEqual([expect.stringMatching(/the port of node-2.*in use$/)]);
    await leave();
    expect(await second).toEqual(first);
    expect(lines).toHaveLength(1);
  });

  it("is waited for: a node's data directory", async () => {
    const { prepare, lines, layout } = cluster();
    const first = await prepare();
    mkdirSync(layout.dataDir("node-3"));
    const lock = lockFile(join(layout.dataDir("node-3"), "LOCK"))!;
    const second = prepare();
    await expect.poll(() => lines).toEqual([expect.stringContaining("node-3 is in use")]);
    lock.release();
    expect(await second).toEqual(first);
  });

  it("is waited for: the first gateway's address", async () => {
    const { prepare, lines } = cluster();
    const { gateways } = await prepare();
    const { port } = gateways[0]!;
    const leave = await occupy(port);
    const second = prepare({ port });
    await expect.poll(() => lines).toEqual([expect.stringContaining(`127.0.0.1:${port}`)]);
    await leave();
    expect((await second).gateways).toEqual(gateways);
  });

  it("is waited for: another gateway's address, after a supervisor was killed", async () => {
    const { prepare, lines, layout } = cluster();
    const first = await prepare();
    writeFileSync(layout.clusterFilePath, '{ "gateways": [{ "pid": 7 }] }');
    const leave = await occupy(first.gateways[1]!.port);
    const second = prepare();
    await expect.poll(() => lines).toEqual([expect.stringContaining("a gateway's address")]);
    await leave();
    expect(await second).toEqual(first);
    // And not for ever: there are other addresses.
    await occupy(first.gateways[1]!.port);
    const third = await prepare({}, 1);
    expect(third.gateways[0]).toEqual(first.gateways[0]);
    expect(third.gateways[1]).not.toEqual(first.gateways[1]);
  });

  it("is not waited for without end", async () => {
    const { prepare } = cluster();
    const { state } = await prepare();
    await occupy(state.nodes[0]!.port);
    await expect(prepare({}, 1)).rejects.toThrow(/the port of node-1, .* is in use.*cluster\.json/);
  });
});
