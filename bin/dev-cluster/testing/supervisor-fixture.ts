/** A supervisor over processes that are none, with time that passes when a test says so. */
import { readFileSync } from "node:fs";
import type { Command } from "#bin/dev-cluster/control-protocol.ts";
import { layoutOf } from "#bin/dev-cluster/layout.ts";
import { newState } from "#bin/dev-cluster/state.ts";
import { Supervisor } from "#bin/dev-cluster/supervisor.ts";
import { devConfig } from "#bin/dev-config.ts";
import { ManualClock } from "#shared/clock.ts";
import { loadConfig } from "#shared/runtime/config.ts";
import { FakeProcesses } from "./fake-processes.ts";
import { temporaryDirectory } from "./temporary.ts";

const { config } = loadConfig(devConfig, { argv: [], env: {}, readFile: () => "" });
export const NODES = ["127.0.0.1:21001", "127.0.0.1:21002", "127.0.0.1:21003"];
export const GATEWAYS = ["127.0.0.1:21011", "127.0.0.1:21012"];

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

export function setUp() {
  const layout = layoutOf(temporaryDirectory());
  const processes = new FakeProcesses();
  const clock = new ManualClock();
  const lines: string[] = [];
  const unready = new Set<string>();
  const supervisor = new Supervisor({
    layout,
    config,
    dirFlag: " --dir d",
    zones: [],
    state: newState("c", [21_001, 21_002, 21_003], []),
    gateways: [21_011, 21_012].map((port) => ({ host: "127.0.0.1", port })),
    spawn: processes.spawn,
    gatewayWaitsFor: async (url) => (unready.has(url) ? "for a leader" : undefined),
    findPort: async (taken) => Math.max(...taken) + 1,
    clock,
    report: (line) => lines.push(line),
  });
  /** Lets time pass, in steps that leave room for what is to happen. */
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      clock.advance(100);
      await turn();
    }
  };
  const clusterFile = () => JSON.parse(readFileSync(layout.clusterFilePath, "utf8")) as unknown;
  const serveAll = () => {
    for (const [index, address] of NODES.entries()) processes.at(address).serve(index + 1);
    for (const address of GATEWAYS) processes.at(address).serve();
  };
  return { layout, processes, clock, lines, unready, supervisor, pass, clusterFile, serveAll };
}

/** A cluster that is ready. */
export async function started() {
  const set = setUp();
  const start = set.supervisor.start();
  set.serveAll();
  await set.pass(200);
  await start;
  return set;
}

export const node = (name: string) => ({ kind: "node", node: name }) as const;
export const kill = (name: string, signal: "KILL" | "TERM" = "KILL"): Command => ({
  kind: "kill",
  target: node(name),
  signal,
});
