/**
 * Swarm options: every seed draws its own cluster, network, disks and mixture of events, so that some
 * runs are calm and others wild. A profile says from which ranges.
 */
import type { SeededRandom } from "#shared/random.ts";
import type { RaftOptions } from "#storage-node/raft/types.ts";
import { EVENT_NAMES, type EventName } from "./kinds.ts";

export const PROFILES = [
  "swarm",
  "calm",
  "network",
  "crashes",
  "members",
  "snapshots",
  "leaders",
] as const;
export type Profile = (typeof PROFILES)[number];

/** Unless somebody asks for another one. */
export const profileOf = (seed: number): Profile => PROFILES[seed % PROFILES.length]!;

export type SimOptions = {
  readonly profile: Profile;
  /** Random events before the faults end. */
  readonly events: number;
  readonly voters: number;
  readonly learners: number;
  /** Of each event, relative to the others. */
  readonly weights: Readonly<Record<EventName, number>>;
  readonly tuning: Pick<
    RaftOptions,
    | "electionTicks"
    | "heartbeatTicks"
    | "inflightMessagesMax"
    | "inflightBytesMax"
    | "appendBytesMax"
    | "uncommittedBytesMax"
  > & {
    readonly preVote: boolean;
    readonly checkQuorum: boolean;
    readonly saveMessages: boolean;
  };
  /** How far a message can be overtaken, in messages; 1 keeps the order. */
  readonly reorderWindow: number;
  readonly lossChance: number;
  readonly repeatChance: number;
  readonly delayChance: number;
  readonly inFlightMax: number;
  /** With more than this on its way, messages arrive before anything new is asked for. */
  readonly backlogMessages: number;
  /** That time goes on though some disk has something to do. */
  readonly diskLagChance: number;
  /** That a replica with a slow clock lets a tick pass; every third has one. */
  readonly slownessChance: number;
  /** That the disk of a slow replica does nothing when its turn has come. */
  readonly diskStallChance: number;
  /** That an owner does not get to its Ready after an event. */
  readonly lazyChance: number;
  /** That entries handed out for applying wait for the engine's own event. */
  readonly applyLagChance: number;
  /** Batches that one sync can cover. */
  readonly groupCommitMax: number;
  readonly valueSizeBytesMax: number;
  /** What a compaction keeps at most for slow followers. */
  readonly retainedBytesMax: number;
  /** Parts in which a snapshot's state travels, at most. */
  readonly chunksMax: number;
  /** Members that a change of membership aims at, at most. */
  readonly membersMax: number;
};

/** Expected share of each event; `faults` scales everything below the line. */
function baseWeights(voters: number): Record<EventName, number> {
  return {
    tick: 10,
    deliver: 30 + 3 * voters,
    disk: 14,
    engine: 4,
    propose: 6,
    read: 3,
    "transfer-chunk": 2,
    offer: 1.5,
    // ---
    crash: 0.15,
    restart: 0.6,
    pause: 0.1,
    resume: 0.4,
    cut: 0.06,
    isolate: 0.1,
    heal: 0.2,
    flush: 1,
    compact: 0.4,
    change: 0.3,
    "hand-over": 0.15,
    forget: 0.1,
    unreachable: 0.2,
    campaign: 0.05,
    retire: 0.3,
    wipe: 0.02,
  };
}

const REPAIRS: ReadonlySet<EventName> = new Set(["restart", "resume", "heal", "retire"]);

/** Kinds of events without which a run still makes sense. */
export const FAULT_EVENTS: readonly EventName[] = EVENT_NAMES.slice(EVENT_NAMES.indexOf("crash"));

type Emphasis = Partial<Record<EventName, number>>;

const EMPHASIS: Readonly<Record<Exclude<Profile, "swarm">, Emphasis>> = {
  calm: { crash: 0, pause: 0, cut: 0, isolate: 0, wipe: 0, forget: 0, campaign: 0.2 },
  network: { cut: 4, isolate: 3, heal: 1.5, pause: 2, unreachable: 4, crash: 0.3 },
  crashes: { crash: 5, restart: 4, pause: 4, flush: 2 },
  members: { change: 12, "hand-over": 4, retire: 4, crash: 2, wipe: 2 },
  leaders: {
    campaign: 30,
    isolate: 30,
    heal: 20,
    crash: 2,
    restart: 4,
    "hand-over": 3,
    propose: 3,
    compact: 12,
    flush: 6,
    offer: 2,
    "transfer-chunk": 2,
  },
  snapshots: { compact: 10, flush: 6, crash: 2, offer: 3, "transfer-chunk": 3, change: 2 },
};

/** Each fault has its own strength, and is absent in a third of the runs. */
function drawEmphasis(random: SeededRandom): Emphasis {
  const emphasis: Emphasis = {};
  const strength = 2 ** (random.float() * 5 - 2);
  for (const name of FAULT_EVENTS) {
    const off = !REPAIRS.has(name) && random.below(3) === 0;
    emphasis[name] = off ? 0 : strength * 2 ** (random.float() * 3 - 1.5);
  }
  emphasis.tick = 2 ** (random.float() * 2 - 1);
  emphasis.disk = 2 ** (random.float() * 3 - 2);
  emphasis.engine = 2 ** (random.float() * 3 - 1.5);
  emphasis.propose = 2 ** (random.float() * 3 - 1.5);
  emphasis.read = 2 ** (random.float() * 3 - 1.5);
  return emphasis;
}

function drawTuning(random: SeededRandom, hasty: boolean): SimOptions["tuning"] {
  const min = 3 + random.below(hasty ? 2 : 7);
  return {
    // As fixed as a draw, without one.
    saveMessages: min % 2 === 0,
    electionTicks: { min, max: min + 1 + random.below(min + 4) },
    heartbeatTicks: 1 + random.below(Math.max(1, Math.floor(min / 3))),
    preVote: random.below(4) > 0,
    checkQuorum: random.below(3) > (hasty ? 1 : 0),
    inflightMessagesMax: 1 + random.below(8),
    inflightBytesMax: 100 + random.below(600),
    appendBytesMax: 40 + random.below(400),
    uncommittedBytesMax: 200 + random.below(4000),
  };
}

/** What `seed`'s run is like: drawn from `random`, which is the run's own. */
export function drawOptions(random: SeededRandom, profile: Profile): SimOptions {
  const calm = profile === "calm";
  const hasty = profile === "leaders";
  const voters = hasty ? 3 + random.below(2) : 1 + Math.max(random.below(7), random.below(5));
  const emphasis = profile === "swarm" ? drawEmphasis(random) : EMPHASIS[profile];
  const weights = baseWeights(voters);
  for (const name of EVENT_NAMES) weights[name] *= emphasis[name] ?? 1;
  const wild = calm ? 0 : random.float();
  return {
    profile,
    events: 1000 + random.below(6000),
    voters,
    learners: random.below(4) === 0 ? 1 : 0,
    weights,
    tuning: drawTuning(random, hasty),
    reorderWindow: 1 + (calm ? random.below(2) : random.below(24)),
    lossChance: wild * random.float() * 0.25,
    repeatChance: wild * random.float() * 0.15,
    delayChance: wild * random.float() * 0.3,
    inFlightMax: 64 + random.below(400),
    backlogMessages: Math.floor(voters * 2 ** (random.float() * (calm ? 2 : 5) - 2)),
    diskLagChance: random.float() ** 2,
    slownessChance: calm || random.below(2) === 0 ? 0 : random.float(),
    diskStallChance: hasty && random.below(4) === 0 ? 1 - random.float() ** 2 : 0,
    lazyChance: random.float() * 0.4,
    applyLagChance: random.below(2) === 0 ? random.float() : 0,
    groupCommitMax: 1 + random.below(6),
    valueSizeBytesMax: 8 + random.below(200),
    retainedBytesMax: hasty || random.below(3) === 0 ? 0 : random.below(4000),
    chunksMax: 1 + random.below(6),
    membersMax: Math.max(3, Math.min(9, voters + random.below(3))),
  };
}

/** Event of a draw below this: its kind stands in the table, as often as its weight says. */
export const KIND_TABLE_SIZE = 8192;

export function kindTable(weights: SimOptions["weights"]): Uint8Array {
  const table = new Uint8Array(KIND_TABLE_SIZE);
  const sum = EVENT_NAMES.reduce((total, name) => total + weights[name], 0);
  let at = 0;
  let upTo = 0;
  EVENT_NAMES.forEach((name, kind) => {
    upTo += weights[name];
    const end = Math.round((upTo / sum) * KIND_TABLE_SIZE);
    table.fill(kind, at, end);
    at = end;
  });
  return table;
}
