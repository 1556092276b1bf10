/** Swarm options: every seed draws its own cluster, load, network, disks, faults and changes of members. */
import type { SeededRandom } from "#shared/random.ts";

export type NetworkOptions = {
  readonly delayMsMin: number;
  readonly delayMsMax: number;
  /** Now and then something is under way for long. */
  readonly spikeChance: number;
  readonly spikeMsMax: number;
  /** Of Raft messages; connections lose nothing until they break. */
  readonly lossChance: number;
  readonly repeatChance: number;
  /** After which a connection over a link that is cut, or to a machine without power, breaks. */
  readonly keepaliveMs: number;
  /** A process that ends resets its connections, instead of falling silent. */
  readonly resetChance: number;
};

export type DiskOptions = {
  readonly delayMsMin: number;
  readonly delayMsMax: number;
};

export const FAULTS = [
  "crash",
  "kill",
  "restart",
  "outage",
  "pause",
  "isolate",
  "split",
  "oneWay",
  "gatewayCut",
  "breakConnection",
  "slowDisk",
  "jump",
  "flush",
] as const;
export type FaultName = (typeof FAULTS)[number];

export const CHANGES = [
  "join",
  "drain",
  "cancelDrain",
  "remove",
  "transfer",
  "rebalance",
  "wipe",
] as const;
export type ChangeName = (typeof CHANGES)[number];

export type LoadOptions = {
  readonly clients: number;
  readonly keys: number;
  readonly thinkMsMax: number;
  readonly deadlineMsMin: number;
  readonly deadlineMsMax: number;
  readonly valueSizeBytesMax: number;
  readonly operationsPerKeyMax: number;
};

export type Options = {
  /** Founders of the cluster. */
  readonly founders: number;
  /** Machines that may join. */
  readonly spares: number;
  readonly zones: number;
  readonly gateways: number;
  readonly replicationFactor: number;
  readonly metaReplicas: number;
  readonly movesAtOnceMax: number;
  readonly rebuildAfterMs: number;
  readonly durationMs: number;
  /** Faults do not wait until the cluster is founded. */
  readonly earlyFaults: boolean;
  readonly stepMsMax: number;
  /** Whoever lags behind the end of a log that was cut needs a snapshot. */
  readonly mayCompactLog: boolean;
  readonly clockRateSpread: number;
  readonly clockSkewMs: number;
  readonly network: NetworkOptions;
  readonly disk: DiskOptions;
  /** Batches reach the engine some time after they were decided. */
  readonly lateEngine: boolean;
  readonly load: LoadOptions;
  /** Mean time between two of a kind; absent: none. */
  readonly faultEveryMs: Readonly<Partial<Record<FaultName, number>>>;
  readonly changeEveryMs: Readonly<Partial<Record<ChangeName, number>>>;
  /** How long a fault lasts, at most. */
  readonly faultMsMax: number;
};

/** Typical time between two of them, where a seed has them. */
const FAULT_EVERY_MS: Readonly<Record<FaultName, number>> = {
  crash: 9_000,
  kill: 9_000,
  restart: 12_000,
  outage: 40_000,
  pause: 8_000,
  isolate: 9_000,
  split: 12_000,
  oneWay: 9_000,
  gatewayCut: 9_000,
  breakConnection: 1_500,
  slowDisk: 9_000,
  jump: 20_000,
  flush: 3_000,
};

const CHANGE_EVERY_MS: Readonly<Record<ChangeName, number>> = {
  join: 8_000,
  drain: 12_000,
  cancelDrain: 25_000,
  remove: 4_000,
  transfer: 3_000,
  rebalance: 15_000,
  wipe: 20_000,
};

function someOf<Name extends string>(
  random: SeededRandom,
  usual: Readonly<Record<Name, number>>,
  absentOneIn: number,
): Partial<Record<Name, number>> {
  const drawn: Partial<Record<Name, number>> = {};
  for (const [name, everyMs] of Object.entries(usual) as [Name, number][]) {
    const strength = 4 ** (random.float() - 0.5);
    if (random.below(absentOneIn) > 0) drawn[name] = everyMs * strength;
  }
  return drawn;
}

/** What `seed` decides is not drawn, so that seeds known from before go on to mean the same. */
export function drawOptions(random: SeededRandom, seed: number): Options {
  const isCalm = random.below(6) === 0;
  const delayMsMin = random.float() * 3;
  const founders = 3 + (random.below(4) === 0 ? 2 : 0);
  return {
    founders,
    spares: random.below(3),
    zones: 1 + random.below(3),
    gateways: 1 + random.below(2),
    replicationFactor: 3,
    metaReplicas: founders === 5 && random.below(2) === 0 ? 5 : 3,
    movesAtOnceMax: 1 + random.below(4),
    rebuildAfterMs: 4_000 + random.below(20_000),
    durationMs: 12_000 + random.below(24_000),
    earlyFaults: random.below(3) === 0,
    mayCompactLog: random.below(5) > 0,
    stepMsMax: 2 + random.below(12),
    clockRateSpread: random.float() * 0.04,
    clockSkewMs: random.below(2) === 0 ? 0 : random.below(3_000),
    network: {
      delayMsMin,
      delayMsMax: delayMsMin + random.float() * (random.below(4) === 0 ? 60 : 8),
      spikeChance: random.below(2) === 0 ? 0 : random.float() * 0.03,
      spikeMsMax: 50 + random.below(1_500),
      lossChance: random.below(2) === 0 ? 0 : random.float() * 0.1,
      repeatChance: random.below(2) === 0 ? 0 : random.float() * 0.1,
      keepaliveMs: 1_000 + random.below(9_000),
      resetChance: random.float(),
    },
    disk: { delayMsMin: random.float() * 2, delayMsMax: 2 + random.float() * 12 },
    lateEngine: seed % 4 === 0,
    load: {
      clients: 2 + random.below(7),
      keys: 2 + random.below(6),
      thinkMsMax: 5 + random.below(150),
      deadlineMsMin: 400 + random.below(2_000),
      deadlineMsMax: 3_000 + random.below(5_000),
      valueSizeBytesMax: random.below(4) === 0 ? 3_000 : 60,
      operationsPerKeyMax: 260,
    },
    faultEveryMs: isCalm ? {} : someOf(random, FAULT_EVERY_MS, 2),
    changeEveryMs: random.below(4) === 0 ? {} : someOf(random, CHANGE_EVERY_MS, 4),
    faultMsMax: 500 + random.below(9_000),
  };
}
