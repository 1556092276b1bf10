/** Swarm options: every seed draws its own load, network, disks and faults. */
import type { SeededRandom } from "#shared/random.ts";
import type { Load } from "./clients.ts";

export const EVENTS = [
  "time",
  "deliver",
  "disk",
  "client",
  "crash",
  "start",
  "outage",
  "cut",
  "heal",
  "pause",
  "flush",
  "jump",
  "damage",
  "compact",
  "stream",
] as const;
export type EventName = (typeof EVENTS)[number];

export type Options = {
  readonly steps: number;
  readonly weights: Readonly<Record<EventName, number>>;
  readonly clients: number;
  readonly load: Load;
  readonly lossChance: number;
  readonly repeatChance: number;
  readonly delayChance: number;
  /** Messages by which a message can be overtaken, at most; 1 keeps the order. */
  readonly reorderWindow: number;
  readonly timeStepMsMax: number;
  /** Messages that arrive per event, at most. */
  readonly deliveriesMax: number;
  /** Answers of a disk per event, at most. */
  readonly diskAnswersMax: number;
  /** Of a write or sync of a log. */
  readonly diskErrorChance: number;
  readonly inflightMessagesMax: number;
  readonly appendBytesMax: number;
  readonly segmentSizeBytes: number;
  readonly slowEngine: boolean;
  /** Only with small values: what has been cut off could come back by a snapshot alone. */
  readonly mayCompactLog: boolean;
  /** Logs are cut right behind what is applied, so that who lags needs a snapshot. */
  readonly snapshots: boolean;
  /** Bytes of rows in a chunk of a snapshot. */
  readonly chunkBytes: number;
  readonly ending: Ending;
};

/**
 * How the run ends. In the first three a majority is connected, and must take writes again before
 * the rest is healed too.
 */
export type Ending =
  /** All is well. */
  | "healed"
  /** One node is not heard, or hears nobody: one direction of its links stays cut. */
  | "mute"
  | "deaf"
  /** The power of all nodes fails at once, and comes back at once. */
  | "outage";

export function drawOptions(random: SeededRandom): Options {
  const wild = random.float();
  const strength = (share: number): number =>
    random.below(3) === 0 ? 0 : share * 4 ** (random.float() - 0.5);
  const values = random.below(12);
  const big = values === 0;
  const snapshots = random.below(2) === 0;
  return {
    steps: 1200 + random.below(2400),
    weights: {
      time: 6 + random.below(6),
      deliver: 14 + random.below(10),
      disk: 12 + random.below(16),
      client: 6 + random.below(24),
      crash: strength(0.1),
      start: 0.3 + random.float(),
      outage: strength(0.02),
      cut: strength(0.3),
      heal: strength(0.3) + 0.1,
      pause: strength(0.4),
      flush: strength(0.3),
      jump: strength(0.05),
      damage: strength(0.1),
      compact: snapshots ? 0.2 + random.float() : 0,
      stream: snapshots ? 4 + random.below(10) : 0,
    },
    clients: 1 + random.below(14),
    load: {
      valueSizeBytesMax: big ? 60_000 : values < 5 ? 4000 : random.below(200),
      patienceSteps: 20 + random.below(150),
      deadlineMsMax: 1000 + random.below(20_000),
    },
    lossChance: wild * random.float() * 0.2,
    repeatChance: wild * random.float() * 0.15,
    delayChance: wild * random.float() * 0.2,
    reorderWindow: 1 + random.below(16),
    timeStepMsMax: 20 + random.below(140),
    deliveriesMax: 2 + random.below(6),
    diskAnswersMax: 1 + random.below(6),
    diskErrorChance: random.below(3) === 0 ? random.float() * 0.005 : 0,
    inflightMessagesMax: 1 + random.below(8),
    appendBytesMax: 100 + random.below(2000),
    segmentSizeBytes: 16_384 << random.below(3),
    slowEngine: random.below(2) === 0,
    mayCompactLog: !big && random.below(3) === 0,
    snapshots,
    chunkBytes: 200 << random.below(8),
    ending: (["healed", "mute", "deaf", "outage"] as const)[random.below(4)]!,
  };
}
