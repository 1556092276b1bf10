/**
 * A whole cluster under faults: real storage nodes and real gateway clients over a simulated network,
 * simulated disks and clocks that stand still until told. A run is a function of its seed: nothing in it
 * reads a real clock or waits for the outside, and the event loop keeps the order in which it is asked.
 */
import { NodeState } from "#shared/cluster-map.ts";
import { META_GROUP } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { Agenda } from "./agenda.ts";
import { Checker } from "./checker.ts";
import { Client } from "./clients.ts";
import { Directories } from "./directories.ts";
import { Faults } from "./faults.ts";
import { Gateway } from "./gateway.ts";
import { heal } from "./healing.ts";
import { History } from "./history.ts";
import { Machine } from "./machine.ts";
import { Network } from "./network.ts";
import { Operators } from "./operators.ts";
import { drawOptions, type Options } from "./options.ts";
import { Violation, violated } from "./violation.ts";
import { Watchers } from "./watchers.ts";

export type ClusterResult = {
  readonly events: number;
  readonly simulatedMs: number;
  readonly requests: number;
  readonly answered: number;
  readonly refused: number;
  readonly unknown: number;
  readonly faults: number;
  readonly changes: number;
  readonly joins: number;
  readonly removals: number;
  readonly wipes: number;
  readonly elections: number;
  readonly maps: number;
  readonly replicasMade: number;
  readonly replicasDestroyed: number;
  readonly snapshots: number;
  readonly hashes: number;
  /** Changes of the directory that were answered. */
  readonly directoryChanges: number;
  /** Changes that followers of change logs saw, and of them those that came with values. */
  readonly watched: number;
  readonly watchedFresh: number;
  readonly watchMoves: number;
  readonly watchCompactions: number;
  readonly healedMs: number;
  /** Equal for equal seeds. */
  readonly traceHash: number;
};

export type RunOptions = {
  /** Told what happens, for people. */
  readonly tell?: (line: string) => void;
};

/** Within which a cluster without faults must found itself. */
const FOUNDING_MS_MAX = 20_000;

/** @throws Violation whose message names the seed */
export async function runCluster(seed: number, options: RunOptions = {}): Promise<ClusterResult> {
  const world = new World(seed, options);
  try {
    return await world.run();
  } catch (error) {
    const { message, stack } = error as Error;
    const rule = error instanceof Violation ? error.rule : "node";
    const text = error instanceof Violation ? message : (stack ?? message);
    world.tell(world.checker.newestMap === undefined ? "no map" : world.describe());
    const where = `seed ${seed}, at ${Math.round(world.agenda.nowMs)} ms: ${text}`;
    throw Object.assign(new Violation(rule, where, { cause: error }), {
      events: world.agenda.done,
    });
  }
}

export class World {
  readonly agenda = new Agenda();
  readonly random: SeededRandom;
  readonly options: Options;
  readonly network: Network;
  readonly machines: readonly Machine[];
  readonly gateways: readonly Gateway[];
  readonly checker: Checker;
  readonly history = new History();
  readonly clients: readonly Client[];
  readonly faults: Faults;
  readonly operators: Operators;
  readonly keys: readonly string[];
  readonly tell: (line: string) => void;
  /** In the other runs nothing of it is there, so that seeds known from before go on to mean the same. */
  readonly #hasDirectory: boolean;
  readonly directories: Directories;
  readonly watchers: Watchers;
  #error: unknown;
  #traceHash = 0;

  constructor(seed: number, { tell }: RunOptions) {
    this.random = new SeededRandom(seed);
    this.#hasDirectory = seed % 3 !== 0;
    this.options = drawOptions(this.random, seed);
    this.tell = (line) => tell?.(`${Math.round(this.agenda.nowMs)} ms: ${line}`);
    this.network = new Network(this.agenda, this.random, this.options.network);
    this.machines = this.#makeMachines();
    this.checker = new Checker(this.machines);
    this.gateways = Array.from({ length: this.options.gateways }, (_, i) => this.#makeGateway(i));
    this.keys = Array.from({ length: this.options.load.keys }, (_, i) => `key ${i}`);
    const shared = {
      agenda: this.agenda,
      random: this.random,
      machines: this.machines,
      gateways: this.gateways,
      options: this.options,
      network: this.network,
      checker: this.checker,
      onError: this.onError,
    };
    this.clients = Array.from({ length: this.options.load.clients }, (_, i) => this.makeClient(i));
    this.faults = new Faults({
      ...shared,
      onFault: (name, machine) => {
        this.tell(`${name} ${machine}`);
        this.trace(name.length);
      },
    });
    this.operators = new Operators({ ...shared, onChange: (text) => this.tell(text) });
    this.directories = new Directories({ ...shared, seed });
    this.watchers = new Watchers({ ...shared, history: this.history, seed });
  }

  readonly onError = (error: unknown): void => {
    this.#error ??= error;
  };

  trace(value: number): void {
    this.#traceHash = (Math.imul(this.#traceHash ^ value, 0x01000193) + this.agenda.done) | 0;
  }

  #makeMachines(): readonly Machine[] {
    const { founders, spares, zones } = this.options;
    const names = Array.from({ length: founders + spares }, (_, i) => `n${i + 1}:1`);
    const seeds = names.slice(0, founders);
    return names.map(
      (name, i) =>
        new Machine({
          name,
          zone: zones === 1 ? "" : `z${i % zones}`,
          seeds,
          bootstrapExpect: founders,
          random: this.random,
          options: this.options,
          network: this.network,
          machineAt: (address) => this.machines.find((machine) => machine.name === address),
          onSend: (message) => {
            this.trace(message.kind.length + 31 * message.term + message.from + 7 * message.to);
            this.checker.onSend(message);
          },
          onPlan: (machine, reasons) => {
            for (const reason of reasons) this.tell(`plan of ${machine.name}: ${reason}`);
          },
        }),
    );
  }

  #makeGateway(i: number): Gateway {
    return new Gateway(`g${i + 1}`, {
      network: this.network,
      seeds: this.machines.slice(0, this.options.founders).map(({ name }) => name),
      at: (address) => {
        const machine = this.machines.find(({ name }) => name === address);
        const { party, handler, open } = machine ?? {};
        return party && handler && { party, handler, directory: open?.directory };
      },
      hasDirectory: this.#hasDirectory,
      random: this.random,
      skewMs: (this.random.float() - 0.5) * this.options.clockSkewMs,
    });
  }

  makeClient(i: number): Client {
    return new Client({
      name: `c${i}`,
      gateway: this.gateways[i % this.gateways.length]!,
      random: this.random,
      agenda: this.agenda,
      history: this.history,
      load: this.options.load,
      keys: this.keys,
      onError: this.onError,
    });
  }

  async run(): Promise<ClusterResult> {
    const { durationMs, founders } = this.options;
    this.tell(JSON.stringify(this.options));
    for (const machine of this.machines.slice(0, founders)) {
      this.agenda.after(this.random.below(500), () => machine.start());
    }
    if (this.options.earlyFaults) this.faults.begin();
    else await this.founded();
    for (const client of this.clients) client.start();
    this.directories.begin();
    this.watchers.begin();
    if (!this.options.earlyFaults) this.faults.begin();
    this.operators.begin();
    const endMs = this.agenda.nowMs + durationMs;
    while (this.agenda.nowMs < endMs) await this.step();
    const healedFromMs = this.agenda.nowMs;
    await heal(this);
    this.history.check();
    this.directories.check();
    this.watchers.check();
    return this.#result(this.agenda.nowMs - healedFromMs);
  }

  async founded(): Promise<void> {
    await this.until("the cluster is founded", FOUNDING_MS_MAX, () => this.#isFounded());
    this.tell("founded");
  }

  #isFounded(): boolean {
    const map = this.checker.newestMap;
    return (
      map !== undefined &&
      map.version > 0 &&
      this.gateways.every(({ storage }) => storage.readiness().ready) &&
      this.checker.isHealthy(map)
    );
  }

  #result(healedMs: number): ClusterResult {
    const { history, checker, faults, operators } = this;
    const { done } = operators;
    return {
      events: this.agenda.done,
      simulatedMs: Math.round(this.agenda.nowMs),
      requests: history.asked,
      answered: history.answered,
      refused: history.refused,
      unknown: history.unknown,
      faults: faults.count,
      changes: Object.values(done).reduce((sum, count) => sum + count, 0),
      joins: done.join ?? 0,
      removals: done.remove ?? 0,
      wipes: done.wipe ?? 0,
      elections: checker.elections,
      maps: checker.mapVersions,
      replicasMade: checker.replicasMade,
      replicasDestroyed: checker.replicasDestroyed,
      snapshots: this.network.opened.snapshot ?? 0,
      hashes: checker.hashesCompared,
      directoryChanges: this.directories.made,
      watched: this.watchers.seen,
      watchedFresh: this.watchers.fresh,
      watchMoves: this.watchers.moves,
      watchCompactions: this.watchers.compactions,
      healedMs: Math.round(healedMs),
      traceHash: this.#traceHash,
    };
  }

  /** Time passes, what is due happens, and everybody has a turn. */
  async step(): Promise<void> {
    const byMs = 1 + this.random.below(this.options.stepMsMax);
    this.agenda.advance(byMs);
    for (const { party } of this.machines) party?.advance(byMs);
    for (const { party } of this.gateways) party.advance(byMs);
    for (let turn = 0; turn < 2; turn++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    if (this.#error !== undefined) throw this.#error;
    for (const machine of this.machines) machine.check();
    this.checker.afterStep(this.agenda.nowMs);
    this.checker.check();
    if (this.checker.newestMap !== undefined) this.operators.retire(this.checker.newestMap);
    this.trace(this.checker.newestMap?.version ?? 0);
  }

  async until(
    what: string,
    withinMs: number,
    isDone: () => boolean,
    why = (): string => "",
  ): Promise<void> {
    const untilMs = this.agenda.nowMs + withinMs;
    while (!isDone()) {
      if (this.agenda.nowMs > untilMs) {
        violated("liveness", `not within ${withinMs} ms: ${what}. ${why()}`);
      }
      await this.step();
    }
  }

  /** What a map asks for and is not so; empty when the cluster has settled. */
  whyUnsettled(): string {
    const map = this.checker.newestMap!;
    if (this.operators.hasLost) return "a lost node is still in the map";
    const down = map.nodes.find(({ state }) => state === NodeState.Down);
    if (down !== undefined) return `node ${down.id} counts as down`;
    const removing = map.nodes.find(({ state }) => state === NodeState.Removing);
    if (removing !== undefined) return `node ${removing.id} is still being removed`;
    const eligible = map.nodes.filter(({ state }) => state === NodeState.Up).length;
    const target = Math.min(this.options.replicationFactor, eligible);
    for (const placement of map.placements) {
      if (placement.replicas.length !== target) {
        return `group ${placement.group} has ${placement.replicas.length} replicas, not ${target}`;
      }
    }
    for (const { group } of [...map.placements, map.meta]) {
      const why = this.checker.whyUnsettled(map, group);
      if (why !== "") return why;
    }
    return this.#whyNotHosted();
  }

  /** For whoever has to find out why. */
  describe(): string {
    const lines: string[] = [];
    for (const machine of this.machines) {
      const { name, nodeId, retired, running, open, map, party } = machine;
      const state = open !== undefined ? "open" : running ? "starting" : "down";
      lines.push(
        `${name}: node ${nodeId}, ${state}${retired ? ", retired" : ""}, map ${map?.version}, ` +
          `rate ${party?.clock.monotonicMs()}`,
      );
      for (const { group, raft, applied } of machine.hosted) {
        const { role, term, commit, lastIndex, configuration, peers, leader } = raft.status();
        lines.push(
          `  ${group}/${raft.id} ${role} term ${term} leader ${leader} commit ${commit} applied ` +
            `${applied.index} last ${lastIndex} ${JSON.stringify(configuration)} ` +
            peers.map((peer) => JSON.stringify(peer)).join(" "),
        );
      }
    }
    const { placements, meta, nodes, version } = this.checker.newestMap!;
    lines.push(`map ${version}: ${JSON.stringify(nodes)}`);
    for (const placement of [...placements, meta]) lines.push(JSON.stringify(placement));
    return lines.join("\n");
  }

  #whyNotHosted(): string {
    const map = this.checker.newestMap!;
    const wanted = new Set(
      [...map.placements, map.meta].flatMap(({ group, replicas }) =>
        replicas.map(({ replica }) => `${group}/${replica}`),
      ),
    );
    let found = 0;
    for (const machine of this.machines) {
      for (const { group, raft, applied } of machine.hosted) {
        const id = `${group}/${raft.id}`;
        if (!wanted.has(id)) return `${machine.name} still has ${id}`;
        if (applied.index !== raft.lastIndex) return `${machine.name} has not applied all of ${id}`;
        found++;
      }
      const { open, nodeId } = machine;
      if (open === undefined || !map.nodes.some(({ id }) => id === nodeId)) continue;
      if (machine.map?.version !== map.version) return `${machine.name} has an older map`;
    }
    return found === wanted.size ? "" : `${found} of ${wanted.size} replicas are there`;
  }

  /** Of all groups, on all machines, at the same applied index. */
  async compareHashes(): Promise<void> {
    const map = this.checker.newestMap!;
    for (const { group } of [...map.placements, map.meta]) {
      const hashes = new Set<string>();
      for (const machine of this.machines) {
        if (!machine.hosted.some((replica) => replica.group === group)) continue;
        const answer = await machine.stateHash(group);
        hashes.add(`${answer?.appliedIndex} ${answer?.hash.toHex()}`);
      }
      if (hashes.size > 1 || hashes.size === 0) {
        const name = group === META_GROUP ? "the meta group" : `group ${group}`;
        violated("replicas are equal", `${name} at the end: ${[...hashes].join(", ")}`);
      }
    }
  }
}
