/**
 * Which faults happen when: drawn from a seed, before anything runs. Pure.
 *
 * Faults overlap, but never touch more than a minority of the storage nodes at a time, counting the time
 * that a node needs to come back. Some nodes suffer for a while, several faults at once, then others. A
 * blackout takes a majority, or all; it comes alone, at the end of a round.
 */
import type { Random } from "#shared/random.ts";

export type FaultKind =
  | "kill"
  | "terminate"
  | "storm"
  | "pause"
  | "isolate"
  | "isolateFromPeers"
  | "deaf"
  | "mute"
  | "cutPair"
  | "cutPairOneWay"
  | "cutGateway"
  | "flap"
  | "slowLinks"
  | "narrowLinks"
  | "slowDisk"
  | "hungDisk"
  | "fullDisk"
  | "brokenDisk"
  | "tornWrite"
  | "powerLoss"
  | "clockJump"
  | "killGateway"
  | "pauseGateway"
  | "transferLeaders"
  | "killBus"
  | "pauseBus"
  | "blackout"
  | "powerOff";

/** What must not be done twice to the same node at the same time. */
type Resource = "process" | "network" | "disk" | "clock" | "gateway" | "cluster" | "bus";

type FaultType = {
  readonly weight: number;
  readonly resource: Resource;
  /** Of how long it lasts; the length is drawn so that short ones are as likely as long ones. */
  readonly durationMs: readonly [least: number, most: number];
};

export const FAULT_TYPES = {
  kill: { weight: 10, resource: "process", durationMs: [100, 8_000] },
  terminate: { weight: 4, resource: "process", durationMs: [100, 6_000] },
  storm: { weight: 4, resource: "process", durationMs: [2_000, 10_000] },
  pause: { weight: 10, resource: "process", durationMs: [100, 30_000] },
  isolate: { weight: 6, resource: "network", durationMs: [500, 15_000] },
  isolateFromPeers: { weight: 6, resource: "network", durationMs: [500, 15_000] },
  deaf: { weight: 5, resource: "network", durationMs: [500, 15_000] },
  mute: { weight: 5, resource: "network", durationMs: [500, 15_000] },
  cutPair: { weight: 5, resource: "network", durationMs: [500, 15_000] },
  cutPairOneWay: { weight: 5, resource: "network", durationMs: [500, 15_000] },
  cutGateway: { weight: 4, resource: "network", durationMs: [500, 10_000] },
  flap: { weight: 4, resource: "network", durationMs: [1_000, 8_000] },
  slowLinks: { weight: 4, resource: "network", durationMs: [2_000, 15_000] },
  narrowLinks: { weight: 3, resource: "network", durationMs: [2_000, 10_000] },
  slowDisk: { weight: 4, resource: "disk", durationMs: [1_000, 10_000] },
  hungDisk: { weight: 4, resource: "disk", durationMs: [1_000, 15_000] },
  fullDisk: { weight: 3, resource: "disk", durationMs: [2_000, 10_000] },
  brokenDisk: { weight: 3, resource: "disk", durationMs: [500, 5_000] },
  tornWrite: { weight: 3, resource: "disk", durationMs: [500, 5_000] },
  powerLoss: { weight: 5, resource: "disk", durationMs: [500, 5_000] },
  clockJump: { weight: 3, resource: "clock", durationMs: [1_000, 8_000] },
  killGateway: { weight: 4, resource: "gateway", durationMs: [100, 4_000] },
  pauseGateway: { weight: 3, resource: "gateway", durationMs: [100, 5_000] },
  transferLeaders: { weight: 3, resource: "cluster", durationMs: [1, 1] },
  killBus: { weight: 4, resource: "bus", durationMs: [100, 10_000] },
  pauseBus: { weight: 3, resource: "bus", durationMs: [100, 10_000] },
  blackout: { weight: 0, resource: "process", durationMs: [500, 6_000] },
  powerOff: { weight: 0, resource: "process", durationMs: [500, 6_000] },
} as const satisfies Record<FaultKind, FaultType>;

export type PlannedFault = {
  readonly kind: FaultKind;
  /** Storage nodes that it touches. */
  readonly nodes: readonly string[];
  readonly gateway: string | undefined;
  readonly startMs: number;
  readonly durationMs: number;
  /** For whatever the fault has to draw on the way. */
  readonly seed: number;
};

export type ScheduleOptions = {
  readonly nodes: readonly string[];
  readonly gateways: readonly string[];
  readonly durationMs: number;
  /** What can be done here. */
  readonly kinds: ReadonlySet<FaultKind>;
  /** Ends with the loss of a majority. */
  readonly withBlackout: boolean;
};

/** A node that is well again still has to catch up. */
export const COME_BACK_MS = 2_500;
const GAP_MS_MIN = 200;
const GAP_MS_MAX = 4_000;
const FIRST_MS = 500;
/** Time for which the same nodes suffer. */
const TURN_MS_MIN = 3_000;
const TURN_MS_MAX = 14_000;
/** In a row, of faults that do not fit. */
const MISFITS_MAX = 50;

/** Nodes that can be lost while the others still decide; with one node, that one all the same. */
export const minorityOf = (nodes: number): number => Math.max(1, Math.floor((nodes - 1) / 2));

export function planFaults(random: Random, options: ScheduleOptions): readonly PlannedFault[] {
  const planned: PlannedFault[] = [];
  for (let nowMs = FIRST_MS; nowMs < options.durationMs; nowMs = endOf(planned) + COME_BACK_MS) {
    const turnMs = TURN_MS_MIN + random.below(TURN_MS_MAX - TURN_MS_MIN);
    const untilMs = Math.min(options.durationMs, nowMs + turnMs);
    const turn = planTurn(random, options, nowMs, untilMs);
    if (turn.length === 0) break;
    planned.push(...turn);
  }
  if (options.withBlackout) planned.push(drawBlackout(random, options, planned));
  return planned.sort((a, b) => a.startMs - b.startMs);
}

/** Never empty, unless nothing can be done at all. */
function planTurn(
  random: Random,
  options: ScheduleOptions,
  fromMs: number,
  untilMs: number,
): readonly PlannedFault[] {
  const nodes = [...options.nodes];
  const count = minorityOf(nodes.length);
  while (nodes.length > count) nodes.splice(random.below(nodes.length), 1);
  const turn: PlannedFault[] = [];
  let misfits = 0;
  for (let nowMs = fromMs; nowMs < untilMs && misfits < MISFITS_MAX; ) {
    const fault = draw(random, { ...options, nodes }, nowMs);
    if (fault === undefined) break;
    if (fits(fault, turn)) {
      turn.push(fault);
      misfits = 0;
      nowMs += GAP_MS_MIN + random.below(GAP_MS_MAX - GAP_MS_MIN);
    } else misfits++;
  }
  return turn;
}

/** When the last fault is over. */
export const endOf = (planned: readonly PlannedFault[]): number =>
  Math.max(0, ...planned.map(({ startMs, durationMs }) => startMs + durationMs));

function draw(
  random: Random,
  { nodes, gateways, durationMs: endMs, kinds }: ScheduleOptions,
  startMs: number,
): PlannedFault | undefined {
  const possible = [...kinds].filter((kind) => FAULT_TYPES[kind].weight > 0);
  if (possible.length === 0) return undefined;
  let left = random.below(possible.reduce((sum, kind) => sum + FAULT_TYPES[kind].weight, 0));
  const kind = possible.find((kind) => (left -= FAULT_TYPES[kind].weight) < 0)!;
  const { resource, durationMs: range } = FAULT_TYPES[kind];
  const durationMs = Math.min(drawLength(random, range), Math.max(range[0], endMs - startMs));
  const isOfNode = !OF_NO_NODE.has(resource);
  const isOfGateway = resource === "gateway" || kind === "cutGateway";
  return {
    kind,
    nodes: isOfNode ? [nodes[random.below(nodes.length)]!] : [],
    gateway: isOfGateway ? gateways[random.below(gateways.length)] : undefined,
    startMs,
    durationMs,
    seed: random.below(2 ** 32),
  };
}

const OF_NO_NODE: ReadonlySet<Resource> = new Set(["gateway", "cluster", "bus"]);

/** Uniform in its logarithm. */
function drawLength(random: Random, [least, most]: readonly [number, number]): number {
  return Math.round(least * (most / least) ** random.float());
}

function drawBlackout(
  random: Random,
  { nodes, kinds }: ScheduleOptions,
  planned: readonly PlannedFault[],
): PlannedFault {
  const majority = Math.floor(nodes.length / 2) + 1;
  const count = random.below(2) === 0 ? nodes.length : majority;
  const chosen = [...nodes];
  while (chosen.length > count) chosen.splice(random.below(chosen.length), 1);
  const kind = kinds.has("powerOff") && random.below(2) === 0 ? "powerOff" : "blackout";
  return {
    kind,
    nodes: chosen,
    gateway: undefined,
    startMs: endOf(planned) + COME_BACK_MS,
    durationMs: drawLength(random, FAULT_TYPES[kind].durationMs),
    seed: random.below(2 ** 32),
  };
}

/** Whether nothing of it is being done to the same node already. */
function fits(fault: PlannedFault, turn: readonly PlannedFault[]): boolean {
  const meanwhile = turn.filter(
    (other) =>
      overlaps(fault, other) &&
      (other.nodes.length === 0 || fault.nodes.length === 0 || other.nodes[0] === fault.nodes[0]),
  );
  const { resource } = FAULT_TYPES[fault.kind];
  return !meanwhile.some((other) => {
    if (FAULT_TYPES[other.kind].resource !== resource) {
      // A disk that fails ends the process: nobody else must start or stop it meanwhile.
      const both = [resource, FAULT_TYPES[other.kind].resource];
      return both.includes("process") && both.includes("disk");
    }
    // The network bears several causes at once.
    if (resource === "network") return other.kind === fault.kind;
    return resource !== "gateway" || other.gateway === fault.gateway;
  });
}

function overlaps(a: PlannedFault, b: PlannedFault): boolean {
  const end = ({ startMs, durationMs }: PlannedFault): number =>
    startMs + durationMs + COME_BACK_MS;
  return a.startMs < end(b) && b.startMs < end(a);
}
