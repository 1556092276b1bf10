/**
 * Rounds on clusters: every cluster lives for some rounds, then its data is looked at as a whole, and a
 * fresh one is founded. So no disk fills up in an hour, and founding is tried again and again.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { SeededRandom } from "#shared/random.ts";
import { NatsServer } from "#test/processes/nats-server.ts";
import { findProgram } from "#test/processes/programs.ts";
import { MachinePauses } from "./checks/machine-pauses.ts";
import { RunDelays } from "./checks/run-delays.ts";
import { SettledKeys } from "./checks/settled-keys.ts";
import { StateHashes } from "./checks/state-hashes.ts";
import { Cluster } from "./cluster/cluster.ts";
import { Clocks } from "./faults/clocks.ts";
import { Disks } from "./faults/disks.ts";
import { Injector } from "./faults/injector.ts";
import { Membership } from "./membership.ts";
import type { TortureOptions } from "./options.ts";
import { runRound } from "./round.ts";
import type { Totals } from "./totals.ts";

/** Small segments and no large reserve: logs rotate, and a small disk is full soon. */
const NODE_ARGS = ["--wal-segment-size", "4MiB", "--disk-reserve", "64MiB"];
/** Every third round ends with the loss of a majority. */
const BLACKOUT_EVERY = 3;
const VERIFY_TIMEOUT_MS = 120_000;
const MINUTE_MS = 60_000;
/** Of the last round on a cluster, which takes what time is left. */
const FAULTS_MS_MIN = 5_000;

const msUntil = (timeMs: number): number => Math.round(timeMs - performance.now());

export type Campaign = {
  readonly options: TortureOptions;
  readonly totals: Totals;
  readonly log: (text: string) => void;
  readonly isInterrupted: () => boolean;
};

export async function runCampaign(campaign: Campaign): Promise<void> {
  const { options, totals, isInterrupted } = campaign;
  const random = new SeededRandom(options.seed);
  const endMs = performance.now() + options.minutes * MINUTE_MS;
  while (performance.now() < endMs && !isInterrupted() && totals.violations.length === 0) {
    const untilMs = Math.min(endMs, performance.now() + options.clusterMinutes * MINUTE_MS);
    await runCluster(campaign, random, untilMs);
  }
}

async function runCluster(
  campaign: Campaign,
  random: SeededRandom,
  untilMs: number,
): Promise<void> {
  const { options, totals, log, isInterrupted } = campaign;
  const number = ++totals.clusters;
  const directory = join(options.directory, `cluster-${number}`);
  mkdirSync(directory, { recursive: true });
  const smallNode = `n${1 + random.below(options.nodes)}`;
  const disks = new Disks(number % 2 === 0 ? smallNode : undefined);
  const clocks = new Clocks();
  const bus = await startBus(number);
  const cluster = new Cluster({
    directory,
    bus,
    nodes: options.nodes,
    gateways: options.gateways,
    random,
    nodeArgs: NODE_ARGS,
    environmentOf: (node) => clocks.environmentOf(node, disks.environmentOf(node)),
    dataDirectoryOf: (node) => disks.dataDirectoryOf(node),
    onUnexpectedEnd: (description) => totals.violated(description),
  });
  cluster.network.onPause = (fromMs, untilMs) => {
    const { timeOrigin } = performance;
    pauses.note("proxy", fromMs - timeOrigin, untilMs - timeOrigin);
  };
  const delays = new RunDelays(() => cluster.nodes.flatMap((node) => node.process.pid ?? []));
  const hashes = new StateHashes();
  const settled = new SettledKeys();
  const pauses = new MachinePauses(directory);
  const logged = (text: string): void => log(`  ${text}`);
  const injector = new Injector({
    cluster,
    disks,
    clocks,
    log: options.verbose ? logged : () => {},
  });
  let isOver = false;
  let churn: Promise<void> = Promise.resolve();
  const kinds = injector.kinds.intersection(options.faults);
  for (const kind of kinds) totals.mayStrike(kind);
  try {
    await cluster.start();
    const membership = new Membership({
      cluster,
      random: new SeededRandom(random.below(2 ** 32)),
      totals,
      log: logged,
      isOver: () => isOver || isInterrupted(),
    });
    if (options.membership) churn = membership.run();
    for (let round = 1; performance.now() < untilMs && !isInterrupted(); round++) {
      await runRound({
        cluster,
        injector,
        hashes,
        settled,
        pauses,
        delays,
        totals,
        directory,
        name: `c${number}r${round}`,
        seed: random.below(2 ** 32),
        faultsMs: Math.min(options.roundMs, Math.max(FAULTS_MS_MIN, msUntil(untilMs))),
        kinds,
        clients: options.clients,
        withBlackout: round % BLACKOUT_EVERY === 0 && kinds.has("blackout"),
        recoveryMsMax: options.recoveryMsMax,
        isInterrupted,
        log,
      });
      if (totals.violations.length > 0) return;
    }
    isOver = true;
    await churn;
    const urls = cluster.gateways.map(({ url }) => url);
    const verifyMs = performance.now() + VERIFY_TIMEOUT_MS;
    const changed = await settled.verify(urls, random, settled.size, verifyMs);
    for (const what of changed) totals.violated(`at the end of the cluster: ${what}`);
    log(`cluster ${number}: all ${settled.size} keys of its rounds are as they were left`);
  } finally {
    isOver = true;
    await churn;
    totals.hashesCompared += hashes.compared;
    totals.addPauses(pauses.within(0, Number.POSITIVE_INFINITY));
    pauses.close();
    delays.close();
    hashes.close();
    await addNetworkFigures(cluster, totals);
    await cluster.close();
    disks.close();
    clocks.close();
    if (totals.violations.length === 0 && !options.keep) cluster.removeData();
  }
}

/** For every second cluster, from the first one on; undefined also where NATS is not installed. */
async function startBus(cluster: number): Promise<NatsServer | undefined> {
  if (cluster % 2 === 0 || findProgram("nats-server") === undefined) return undefined;
  return await NatsServer.start();
}

async function addNetworkFigures(cluster: Cluster, totals: Totals): Promise<void> {
  const { unknownSources } = await cluster.network.figures();
  totals.unknownSources += unknownSources;
}
