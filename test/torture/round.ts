/**
 * One round: clients and probes at work, faults by a schedule drawn from a seed, everything healed, then
 * every check there is. Keys are the round's own, so each round is judged by itself and forgotten.
 *
 * 1. Under load and faults; meanwhile replicas' hashes are compared here and there.
 * 2. Healed: within a bounded time every vshard has to take a write.
 * 3. At rest: clients stop, the deadlines of all requests pass. Nothing may change any more.
 * 4. Every key is read, all replicas have to be the same, and the histories are judged. Keys of earlier
 *    rounds have to be what they were. Watchers, who began before the load, have to have seen all of it.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "#shared/random.ts";
import { judge } from "./checks/histories.ts";
import type { MachinePauses } from "./checks/machine-pauses.ts";
import type { RunDelays } from "./checks/run-delays.ts";
import type { SettledKeys } from "./checks/settled-keys.ts";
import { ALL_GROUPS, type StateHashes } from "./checks/state-hashes.ts";
import { clusterStatus } from "./cluster/admin.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { Injector } from "./faults/injector.ts";
import { COME_BACK_MS, type FaultKind, type PlannedFault, planFaults } from "./faults/schedule.ts";
import { type Gap, keyOfEachVshard, Prober, writeEverywhere } from "./load/prober.ts";
import { Workload } from "./load/workload.ts";
import { pausesText } from "./report.ts";
import type { Totals } from "./totals.ts";
import { Watching } from "./watch/watching.ts";

export type RoundOptions = {
  readonly cluster: Cluster;
  readonly injector: Injector;
  readonly hashes: StateHashes;
  readonly settled: SettledKeys;
  readonly pauses: MachinePauses;
  /** Of the storage nodes. */
  readonly delays: RunDelays;
  readonly totals: Totals;
  readonly directory: string;
  /** Unique among the rounds on one cluster. */
  readonly name: string;
  readonly seed: number;
  readonly faultsMs: number;
  readonly kinds: ReadonlySet<FaultKind>;
  readonly clients: number;
  readonly withBlackout: boolean;
  /** For every vshard to take a write again, and for replicas to become the same. */
  readonly recoveryMsMax: number;
  /** Ends the round early, healed and checked. */
  readonly isInterrupted: () => boolean;
  readonly log: (text: string) => void;
};

const HOT_KEYS = 6;
const COLD_KEYS = 120;
const THINK_MS_MAX = 8;
const TIMEOUTS_MS = [300, 1_000, 3_000, 5_000];
const PROBED_VSHARDS = 32;
const PROBE_PAUSE_MS = 250;
const SAMPLED_GROUPS = 6;
const SAMPLE_PAUSE_MS = 1_500;
/** Load goes on for so long after all has recovered. */
const CALM_MS = 1_000;
/** Beyond the longest deadline: nothing of the round can take effect later. */
const REST_MS = Math.max(...TIMEOUTS_MS) + 1_500;
const READ_ALL_TIMEOUT_MS = 60_000;
/** For watchers to come to the end of what was written. */
const WATCH_TIMEOUT_MS = 60_000;
const OLD_KEYS_SAMPLE = 100;
const UNEVEN_SHOWN_MAX = 8;

type Struck = {
  readonly fault: PlannedFault;
  readonly fromMs: number;
  /** Infinity while it lasts. */
  untilMs: number;
};

export async function runRound(options: RoundOptions): Promise<void> {
  await new Round(options).run();
}

class Round {
  readonly #options: RoundOptions;
  readonly #random: SeededRandom;
  readonly #workload: Workload;
  readonly #prober: Prober;
  readonly #watching: Watching;
  readonly #urls: readonly string[];
  readonly #violations: string[] = [];
  /** What has been done to the cluster, and when. */
  readonly #struck: Struck[] = [];
  #isLoadOver = false;
  #recoveryMs = 0;

  constructor(options: RoundOptions) {
    const { cluster, seed, name, clients } = options;
    this.#options = options;
    this.#random = new SeededRandom(seed);
    this.#urls = cluster.gateways.map(({ url }) => url);
    const keys = keyOfEachVshard(`${name}/probe`);
    const step = Math.floor(keys.length / PROBED_VSHARDS);
    const probed = keys.flatMap((key, i) => (i % step === 0 ? [[i, key] as const] : []));
    this.#prober = new Prober(this.#urls, new Map(probed), PROBE_PAUSE_MS);
    this.#workload = new Workload({
      urls: this.#urls,
      seed: this.#random.below(2 ** 32),
      name,
      clients,
      hotKeys: HOT_KEYS,
      coldKeys: COLD_KEYS,
      thinkMsMax: THINK_MS_MAX,
      timeoutsMs: TIMEOUTS_MS,
      onAcknowledged: () => this.#prober.touch(performance.now()),
    });
    this.#watching = new Watching({ urls: this.#urls, seed: this.#random.below(2 ** 32), name });
  }

  async run(): Promise<void> {
    const { cluster, faultsMs, kinds, withBlackout, log } = this.#options;
    const begunMs = performance.now();
    const planned = planFaults(this.#random, {
      nodes: cluster.nodes.map(({ name }) => name),
      gateways: cluster.gateways.map(({ name }) => name),
      durationMs: faultsMs,
      kinds,
      withBlackout,
    });
    await this.#watching.start();
    const load = this.#workload.run(() => this.#isLoadOver);
    this.#prober.start();
    const sampling = this.#sampleHashes();
    await this.#carryOut(planned);
    await cluster.heal();
    await this.#recover();
    await sleep(CALM_MS);
    this.#isLoadOver = true;
    await Promise.all([load, this.#prober.stop(), sampling]);
    await sleep(REST_MS);
    await this.#check();
    this.#book();
    log(this.#summary(performance.now() - begunMs, planned.length));
    for (const stretch of this.#prober.longOfAll) {
      log(`  no write for ${seconds(stretch.lengthMs)}: ${this.#during(stretch)}`);
    }
  }

  async #carryOut(planned: readonly PlannedFault[]): Promise<void> {
    const { injector, totals, isInterrupted } = this.#options;
    const begunMs = performance.now();
    const until = async (timeMs: number): Promise<void> => {
      while (performance.now() - begunMs < timeMs && !isInterrupted()) {
        await sleep(Math.min(200, Math.max(1, timeMs - (performance.now() - begunMs))));
      }
    };
    const carryOut = async (fault: PlannedFault): Promise<void> => {
      await until(fault.startMs);
      if (isInterrupted()) return;
      const struck: Struck = { fault, fromMs: performance.now(), untilMs: Infinity };
      this.#struck.push(struck);
      const end = await injector.begin(fault);
      totals.struck(fault.kind, fault.durationMs);
      await until(fault.startMs + fault.durationMs);
      await end();
      struck.untilMs = performance.now();
    };
    await Promise.all(planned.map(carryOut));
  }

  async #sampleHashes(): Promise<void> {
    const { hashes } = this.#options;
    while (!this.#isLoadOver) {
      const groups = Array.from(
        { length: SAMPLED_GROUPS },
        () => ALL_GROUPS[this.#random.below(ALL_GROUPS.length)]!,
      );
      await hashes.sample(this.#addresses(), groups);
      await sleep(SAMPLE_PAUSE_MS);
    }
  }

  #addresses() {
    const { cluster } = this.#options;
    return cluster.nodes.map(({ name, directAddress }) => ({ name, address: directAddress }));
  }

  async #recover(): Promise<void> {
    const { name, recoveryMsMax } = this.#options;
    const keys = keyOfEachVshard(`${name}/alive`);
    const untilMs = performance.now() + recoveryMsMax;
    const { tookMs, missing } = await writeEverywhere(this.#urls, keys, untilMs);
    this.#recoveryMs = tookMs;
    if (missing.length === 0) return;
    this.#violations.push(
      `liveness: ${Math.round(tookMs)} ms after the last fault vshards ${missing} take no writes`,
    );
  }

  async #check(): Promise<void> {
    const { settled, hashes, directory, recoveryMsMax } = this.#options;
    const workload = this.#workload;
    const failed = await workload.readAll(performance.now() + READ_ALL_TIMEOUT_MS);
    if (failed.length > 0) this.#violations.push(`liveness: cannot be read: ${failed.join(", ")}`);
    this.#violations.push(...workload.complaints);
    await this.#checkWatchers();
    const uneven = await hashes.settle(() => this.#addresses(), recoveryMsMax);
    if (uneven.size > 0) {
      const some = [...uneven].slice(0, UNEVEN_SHOWN_MAX);
      const told = some.map(([group, what]) => `group ${group}: ${what}`).join("; ");
      const status = await this.#keepStatus();
      this.#violations.push(`liveness: ${uneven.size} groups are not even: ${told}; ${status}`);
    }
    this.#violations.push(...hashes.violations.splice(0));
    hashes.forget();
    const verdict = judge(workload.histories, join(directory, "violations"));
    this.#violations.push(...verdict.violations);
    this.#options.totals.checkMs += verdict.tookMs;
    const untilMs = performance.now() + READ_ALL_TIMEOUT_MS;
    const changed = await settled.verify(this.#urls, this.#random, OLD_KEYS_SAMPLE, untilMs);
    this.#violations.push(...changed.map((what) => `after its round: ${what}`));
    settled.add(workload.histories);
  }

  async #checkWatchers(): Promise<void> {
    const last = keyOfEachVshard(`${this.#options.name}/last`);
    const untilMs = performance.now() + WATCH_TIMEOUT_MS;
    await writeEverywhere(this.#urls, last, untilMs);
    const { histories } = this.#workload;
    this.#violations.push(...(await this.#watching.finish(last, histories, untilMs)));
  }

  /** What the cluster says of itself, with every group: who leads, and what it knows of the members. */
  async #keepStatus(): Promise<string> {
    const { directory, name } = this.#options;
    const status = await clusterStatus(this.#urls[0]!, true);
    if (status === undefined) return "the cluster does not tell its state";
    const path = join(directory, `${name}-status.json`);
    writeFileSync(path, JSON.stringify(status, null, 1));
    return `the cluster's state then: ${path}`;
  }

  #book(): void {
    const { totals, name, seed } = this.#options;
    totals.rounds++;
    totals.add(totals.operations, this.#workload.counts);
    totals.add(totals.errors, this.#workload.errors);
    totals.keysJudged += this.#workload.histories.size;
    totals.watchEvents += this.#watching.events;
    totals.watchConnections += this.#watching.connections;
    totals.watchResyncs += this.#watching.resyncs;
    totals.recoveriesMs.push(this.#recoveryMs);
    for (const gap of this.#prober.worst) {
      totals.stretches.push(gap.lengthMs);
      if (gap.lengthMs <= totals.worstStretch.lengthMs) continue;
      const what = `vshard ${gap.vshard} in ${name}, ${this.#during(gap)}`;
      totals.worstStretch = { what, lengthMs: gap.lengthMs };
    }
    const { worstOfAll } = this.#prober;
    if (worstOfAll.lengthMs > totals.worstOfAll.lengthMs) {
      const what = `${name}, ${this.#during(worstOfAll)}`;
      totals.worstOfAll = { what, lengthMs: worstOfAll.lengthMs };
    }
    for (const what of this.#violations) totals.violated(`${name}, seed ${seed}: ${what}`);
  }

  /** When a stretch began, as logs tell the time, and the faults that it met with. */
  #during({ fromMs, lengthMs }: Omit<Gap, "vshard">): string {
    const begun = new Date(performance.timeOrigin + fromMs).toISOString();
    const met = this.#struck.filter(
      (struck) => struck.fromMs < fromMs + lengthMs && struck.untilMs > fromMs - COME_BACK_MS,
    );
    const faults = met.map(({ fault }) =>
      [fault.kind, ...fault.nodes, fault.gateway ?? ""].join(" ").trimEnd(),
    );
    const { pauses, delays } = this.#options;
    const untilMs = fromMs + lengthMs;
    return (
      `from ${begun}, ${faults.length === 0 ? "no fault" : faults.join(", ")}; ` +
      `machine: a node waited ${seconds(delays.within(fromMs, untilMs))} for a processor, ` +
      pausesText(pauses.within(fromMs, untilMs))
    );
  }

  #summary(tookMs: number, faults: number): string {
    const { name, seed } = this.#options;
    const unknown = [...this.#workload.counts].filter(([kind]) => kind.endsWith("unknown"));
    const unknownCount = unknown.reduce((sum, [, count]) => sum + count, 0);
    const worst = Math.max(0, ...this.#prober.worst.map(({ lengthMs }) => lengthMs));
    const worstOfAll = this.#prober.worstOfAll.lengthMs;
    const verdict = this.#violations.length === 0 ? "ok" : `${this.#violations.length} VIOLATIONS`;
    return (
      `${name} seed ${seed}: ${seconds(tookMs)}, ${faults} faults, ` +
      `${this.#workload.operations} operations (${unknownCount} unknown), ` +
      `worst stretch ${seconds(worst)}, of all ${seconds(worstOfAll)}, recovered in ${seconds(this.#recoveryMs)}: ${verdict}`
    );
  }
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
