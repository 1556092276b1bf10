/**
 * Carries planned faults out on a running cluster, and takes each back when its time is over.
 *
 * `begin` resolves as soon as the fault holds and gives back what ends it. Ends are bounded, and leave
 * the process of the node running: `Cluster.heal` is only for what went wrong on the way.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { VSHARD_COUNT } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { adminRequest } from "#test/torture/cluster/admin.ts";
import type { Cluster } from "#test/torture/cluster/cluster.ts";
import type { ManagedProcess } from "#test/torture/cluster/managed-process.ts";
import type { Clocks } from "./clocks.ts";
import { DISK_RULES, type Disks } from "./disks.ts";
import { linkFault } from "./link-faults.ts";
import { FAULT_TYPES, type FaultKind, type PlannedFault } from "./schedule.ts";

/** A process whose disk has failed ends by itself; within this time. */
const END_TIMEOUT_MS = 10_000;
const POWER_OFF_TIMEOUT_MS = 1_500;
const POLL_MS = 20;
const TRANSFERS = 12;
const CLOCK_AHEAD_MS_MAX = 1_000;
const CLOCK_BACK_MS_MAX = 10_000;

export type InjectorOptions = {
  readonly cluster: Cluster;
  readonly disks: Disks;
  readonly clocks: Clocks;
  /** For people. */
  readonly log: (text: string) => void;
};

type End = () => Promise<void>;

const NOTHING: End = () => Promise.resolve();

export class Injector {
  readonly #options: InjectorOptions;

  constructor(options: InjectorOptions) {
    this.#options = options;
  }

  /** What can be done here. */
  get kinds(): ReadonlySet<FaultKind> {
    const { cluster, disks, clocks } = this.#options;
    const all = Object.keys(FAULT_TYPES) as FaultKind[];
    return new Set(
      all.filter((kind) => {
        const { resource } = FAULT_TYPES[kind];
        if (kind === "powerOff" || resource === "disk") return disks.hasShim;
        if (resource === "bus") return cluster.bus !== undefined;
        return resource !== "clock" || clocks.isAvailable;
      }),
    );
  }

  async begin(fault: PlannedFault): Promise<End> {
    const { cluster, log } = this.#options;
    const random = new SeededRandom(fault.seed);
    const [name = ""] = fault.nodes;
    const { kind, gateway } = fault;
    const members = {
      nodes: cluster.nodes.map((node) => node.name),
      gateways: cluster.gateways.map((one) => one.name),
    };
    const link = linkFault(kind, name, gateway, members, random);
    const detail = link === undefined ? "" : ` (${link.detail})`;
    const who = [...fault.nodes, ...(gateway === undefined ? [] : [gateway])].join(", ");
    log(`${kind} ${who}${detail} for ${fault.durationMs} ms`);
    if (link !== undefined) return cluster.network.add(link.layer);
    switch (FAULT_TYPES[kind].resource) {
      case "process":
        return fault.nodes.length > 1 || kind === "blackout" || kind === "powerOff"
          ? this.#beginBlackout(fault, random)
          : this.#beginOfProcess(kind, cluster.node(name).process, random);
      case "gateway":
        return this.#beginOfProcess(kind, cluster.gateway(gateway!).process, random);
      case "disk":
        return this.#beginOfDisk(kind, name, random);
      case "clock":
        return this.#beginOfClock(name, random);
      case "network":
        return kind === "flap" ? this.#beginFlap(name, random) : NOTHING;
      case "bus":
        return this.#beginOfBus(kind);
      case "cluster":
        await this.#transferLeaders(random);
        return NOTHING;
    }
  }

  async #beginOfProcess(
    kind: FaultKind,
    process: ManagedProcess,
    random: SeededRandom,
  ): Promise<End> {
    switch (kind) {
      case "kill":
      case "killGateway":
        await process.kill();
        return async () => process.start();
      case "terminate": {
        const stopped = process.stop();
        return async () => {
          await stopped;
          process.start();
        };
      }
      case "pause":
      case "pauseGateway":
        process.pause();
        return async () => process.resume();
      case "storm":
        return repeat(async () => {
          await process.kill();
          await sleep(random.below(600));
          process.start();
          await sleep(50 + random.below(2_500));
        });
      default:
        return NOTHING;
    }
  }

  async #beginOfBus(kind: FaultKind): Promise<End> {
    const { bus } = this.#options.cluster;
    if (bus === undefined) return NOTHING;
    if (kind === "killBus") {
      await bus.kill9();
      return () => bus.restart();
    }
    bus.pause();
    return async () => bus.resume();
  }

  async #beginOfDisk(kind: FaultKind, name: string, random: SeededRandom): Promise<End> {
    const { cluster, disks } = this.#options;
    const { process } = cluster.node(name);
    if (kind === "slowDisk") {
      disks.set(name, DISK_RULES.slowDisk(10 + random.below(300)));
      return async () => disks.heal(name);
    }
    if (kind === "hungDisk") {
      disks.set(name, DISK_RULES.hungDisk(random.below(2) === 0 ? "write" : "sync"));
      return async () => disks.heal(name);
    }
    process.mayEnd = true;
    const isFilled = kind === "fullDisk" && disks.isSmall(name);
    const skip = random.below(20);
    if (isFilled) disks.fill();
    else if (kind === "fullDisk") disks.set(name, DISK_RULES.fullDisk(skip));
    else if (kind === "brokenDisk") disks.set(name, DISK_RULES.brokenDisk(skip));
    else if (kind === "tornWrite") disks.set(name, DISK_RULES.tornWrite(skip));
    else disks.set(name, DISK_RULES.powerLoss(skip, random.below(4)));
    return async () => {
      if (isFilled) disks.free();
      // What has struck ends the process, perhaps in this moment: it must not be started too early.
      else if (disks.hasStruck(name)) await untilEnded(process, END_TIMEOUT_MS);
      disks.heal(name);
      process.start();
      process.mayEnd = false;
    };
  }

  async #beginOfClock(name: string, random: SeededRandom): Promise<End> {
    const { clocks } = this.#options;
    const isAhead = random.below(2) === 0;
    const most = isAhead ? CLOCK_AHEAD_MS_MAX : CLOCK_BACK_MS_MAX;
    const offsetMs = (isAhead ? 1 : -1) * 10 * (most / 10) ** random.float();
    clocks.set(name, offsetMs);
    return async () => clocks.set(name, 0);
  }

  async #beginFlap(name: string, random: SeededRandom): Promise<End> {
    const { cluster } = this.#options;
    const { network } = cluster;
    return repeat(async () => {
      // What others have open to it, and what it has open to one of them.
      await network.reset(undefined, name);
      const other = cluster.nodes[random.below(cluster.nodes.length)]!;
      await network.reset(name, other.name);
      await sleep(50 + random.below(900));
    });
  }

  /** All of them at once, by SIGKILL or with what their disks had not synced. */
  async #beginBlackout(fault: PlannedFault, random: SeededRandom): Promise<End> {
    const { cluster, disks } = this.#options;
    const processes = fault.nodes.map((name) => cluster.node(name).process);
    if (fault.kind === "powerOff") {
      for (const name of fault.nodes) {
        cluster.node(name).process.mayEnd = true;
        disks.set(name, DISK_RULES.powerLoss(0, random.below(4)));
      }
      await Promise.all(processes.map((process) => untilEnded(process, POWER_OFF_TIMEOUT_MS)));
    }
    await Promise.all(processes.map((process) => process.kill()));
    return async () => {
      for (const name of fault.nodes) disks.heal(name);
      for (const process of processes) {
        process.start();
        process.mayEnd = false;
        await sleep(random.below(500));
      }
    };
  }

  /** As an operator would; that it is refused or nobody answers is no matter. */
  async #transferLeaders(random: SeededRandom): Promise<void> {
    const { cluster } = this.#options;
    const { url } = cluster.gateways[random.below(cluster.gateways.length)]!;
    const transfers = Array.from({ length: TRANSFERS }, async () => {
      const node = 1 + random.below(cluster.nodes.length);
      const path = `/admin/vshards/${random.below(VSHARD_COUNT)}/transfer`;
      await adminRequest(url, "POST", path, { node });
    });
    await Promise.all(transfers);
  }
}

/** Does something again and again; the end waits for the last time. */
function repeat(turn: () => Promise<void>): End {
  let isOver = false;
  const running = (async () => {
    while (!isOver) await turn();
  })();
  return async () => {
    isOver = true;
    await running;
  };
}

async function untilEnded(process: ManagedProcess, timeoutMs: number): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  while (process.isRunning && performance.now() < untilMs) await sleep(POLL_MS);
}
