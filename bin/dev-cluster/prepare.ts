/**
 * Before a process is started: which members the cluster has, on which ports, and whether the processes
 * of an earlier run are gone. A supervisor that was killed leaves children that stop in order, which
 * takes a moment; a start right after it waits for them.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DevConfig } from "#bin/dev-config.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEV_LEFTOVERS_TIMEOUT_MS } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { formatHostPort, type HostPort } from "#shared/runtime/config-value.ts";
import { lockFile } from "#shared/runtime/file-lock.ts";
import { LOCK_NAME } from "#storage-node/data-directory.ts";
import type { Layout } from "./layout.ts";
import { findFreePorts, isFree } from "./ports.ts";
import {
  addressOf,
  type ClusterState,
  NODE_HOST,
  newState,
  readState,
  refuseFewerNodes,
  withNodes,
  withZones,
  writeState,
} from "./state.ts";

const POLL_MS = 200;

export type PrepareOptions = {
  readonly layout: Layout;
  readonly config: Pick<DevConfig, "listen" | "nodes" | "gateways" | "zones">;
  readonly random: Random;
  readonly clock: Clock;
  readonly report: (line: string) => void;
  /** For tests. */
  readonly leftoversTimeoutMs?: number;
};

export type Prepared = {
  readonly state: ClusterState;
  /** Where the gateways listen. */
  readonly gateways: readonly HostPort[];
};

/** `a,b` → `["a", "b"]`, and nothing for nothing. */
export const zonesOf = (zones: string): readonly string[] => (zones === "" ? [] : zones.split(","));

/**
 * Settles members and ports, and writes them down.
 *
 * @throws ConfigError when the directory's cluster has more nodes, KvError UNAVAILABLE when a port or a
 * data directory is in use, DATA_CORRUPT when the directory's state cannot be read
 */
export async function prepareCluster(options: PrepareOptions): Promise<Prepared> {
  const { layout, config, random } = options;
  const zones = zonesOf(config.zones);
  const found = readState(layout.statePath);
  const refusal = found === undefined ? undefined : refuseFewerNodes(found, config.nodes);
  if (refusal !== undefined) throw new ConfigError(refusal);
  if (found !== undefined) await waitForLeftovers(found, options);
  const missing = config.nodes - (found?.nodes.length ?? 0);
  const taken = new Set([config.listen.port, ...(found?.nodes ?? []).map(({ port }) => port)]);
  const ports = await findFreePorts({ host: NODE_HOST, count: missing, random, taken });
  const withMembers =
    found === undefined
      ? newState(`dev-${random.fill(new Uint8Array(4)).toHex()}`, ports, zones)
      : withZones(withNodes(found, ports, zones), zones);
  const gateways = await gatewayListeners(withMembers, options);
  const state = { ...withMembers, gatewayPorts: gateways.map(({ port }) => port) };
  writeState(layout.statePath, state);
  return { state, gateways };
}

/** The first listens where it was asked to, the others where they were or on the ports that follow. */
async function gatewayListeners(
  state: ClusterState,
  { config, random }: PrepareOptions,
): Promise<readonly HostPort[]> {
  const { host } = config.listen;
  const taken = new Set(state.nodes.map(({ port }) => port));
  const listeners: HostPort[] = [];
  for (let index = 0; index < config.gateways; index++) {
    const earlier = state.gatewayPorts[index];
    let port = index === 0 ? config.listen.port : 0;
    if (port !== 0 && !(await isFree({ host, port }))) {
      throw new KvError(
        "UNAVAILABLE",
        `${formatHostPort(config.listen)} is in use; choose another address with --listen`,
      );
    }
    if (port === 0 && earlier !== undefined && !taken.has(earlier)) {
      if (await isFree({ host, port: earlier })) port = earlier;
    }
    if (port === 0) {
      const last = listeners.at(-1)?.port;
      const from = last === undefined ? {} : { from: last + 1 };
      [port = 0] = await findFreePorts({ host, count: 1, random, taken, ...from });
    }
    taken.add(port);
    listeners.push({ host, port });
  }
  return listeners;
}

type Leftover = {
  readonly what: string;
  readonly isGone: () => Promise<boolean>;
  /** Without it the cluster cannot start; otherwise there is another way after a while. */
  readonly isNeeded: boolean;
};

async function waitForLeftovers(state: ClusterState, options: PrepareOptions): Promise<void> {
  const { clock, report, leftoversTimeoutMs = DEV_LEFTOVERS_TIMEOUT_MS } = options;
  const untilMs = clock.monotonicMs() + leftoversTimeoutMs;
  let reported = false;
  for (const { what, isGone, isNeeded } of leftovers(state, options)) {
    while (!(await isGone())) {
      if (clock.monotonicMs() >= untilMs) {
        if (!isNeeded) break;
        throw new KvError(
          "UNAVAILABLE",
          `${what} is in use. If that is a process of an earlier run, such as one that is paused, ` +
            `end it; its id may stand in ${options.layout.clusterFilePath}.`,
        );
      }
      if (!reported) report(`waiting for a process of an earlier run to end: ${what} is in use`);
      reported = true;
      await new Promise<void>((resolve) => void clock.after(POLL_MS, resolve));
    }
  }
}

function leftovers(state: ClusterState, options: PrepareOptions): readonly Leftover[] {
  const { host, port: wanted } = options.config.listen;
  const ofNodes = state.nodes.flatMap((place): readonly Leftover[] => {
    const dataDir = options.layout.dataDir(place.name);
    return [
      {
        what: `the port of ${place.name}, ${addressOf(place)},`,
        isGone: () => isFree({ host: NODE_HOST, port: place.port }),
        isNeeded: true,
      },
      {
        what: `the data directory ${dataDir}`,
        isGone: async () => isUnlocked(dataDir),
        isNeeded: true,
      },
    ];
  });
  // What another program took since an orderly stop does not go away by waiting.
  const ports = wasStopped(options.layout)
    ? state.gatewayPorts.filter((port) => port === wanted)
    : state.gatewayPorts;
  const ofGateways = ports.map((port) => ({
    what: `a gateway's address, ${formatHostPort({ host, port })},`,
    isGone: () => isFree({ host, port }),
    isNeeded: port === wanted,
  }));
  return [...ofNodes, ...ofGateways];
}

/** Whether the supervisor of the earlier run has seen all its processes end. */
function wasStopped({ clusterFilePath }: Layout): boolean {
  try {
    return !/"pid": \d/.test(readFileSync(clusterFilePath, "utf8"));
  } catch {
    // It never came so far as to write one.
    return false;
  }
}

/** The lock of a node outlives its listener: log and engine are closed last. */
function isUnlocked(dataDir: string): boolean {
  if (!existsSync(dataDir)) return true;
  const lock = lockFile(join(dataDir, LOCK_NAME));
  lock?.release();
  return lock !== undefined;
}
