/**
 * Which replica moves: from the map and from what was observed to the rows that are to change next.
 *
 * A pure function. The controller calls it again and again, writes what it answers under the condition
 * that the map is still the same, and the groups' leaders carry it out (`reconcile.ts`). It keeps no
 * plans: each call looks at the whole cluster and takes each group one step further at most, so nothing
 * has to be undone when a plan is overtaken, a leader of the meta group is replaced, or a row is lost to
 * somebody else's change.
 *
 * In this order:
 *
 * 1. States of nodes: up → down when lost, down → up when answering again (`placement/nodes.ts`).
 * 2. Groups under way go one step on, or back (`placement/steps.ts`).
 * 3. Groups that lack replicas get learners, as long as fewer than `movesAtOnceMax` groups are under way:
 *    first those that lost some, then those that may have more, then drains (`placement/starts.ts`).
 * 4. What is left of the bound serves spread and balance (`placement/balance.ts`).
 * 5. Preferred leaders (`placement/leaders.ts`).
 * 6. The rows of nodes that were to be removed and hold nothing any more go (`placement/removal.ts`).
 *
 * Left in peace, it comes to rest: each move lowers a measure that nothing else raises.
 */
import type { Placement } from "#shared/cluster-map.ts";
import type { GroupId } from "#shared/ids.ts";
import { LEADERS_UNEVEN_MAX } from "#shared/limits.ts";
import { nextImprovement } from "./placement/balance.ts";
import { type GroupState, occupiesSlot, viewWorld, type World } from "./placement/group-state.ts";
import { balanceLeaders } from "./placement/leaders.ts";
import { viewNodes } from "./placement/nodes.ts";
import { emptiedNodes } from "./placement/removal.ts";
import { addLearners, begin, findStarts } from "./placement/starts.ts";
import { nextStep, type Step } from "./placement/steps.ts";
import type { Plan, PlannerInput } from "./placement/types.ts";

export { type InitialPlacements, initialPlacements } from "./placement/initial.ts";
export { rebalanceLeaders } from "./placement/leaders.ts";
export { departureObstacles } from "./placement/obstacles.ts";
export {
  type DrainProgress,
  drainProgress,
  type RemovalRefusal,
  removalRefusal,
} from "./placement/removal.ts";
export type {
  GroupObservation,
  MemberObservation,
  NodeObservation,
  Observations,
  Plan,
  PlannerInput,
  PlannerOptions,
} from "./placement/types.ts";

/** What has been decided so far. */
type Decisions = {
  readonly rows: Map<GroupId, Placement>;
  readonly reasons: string[];
};

export function plan(input: PlannerInput): Plan {
  const nodes = viewNodes(input.map.nodes, input.nodes);
  const world = viewWorld(input, nodes);
  const decisions: Decisions = { rows: new Map(), reasons: [...nodes.reasons] };
  for (const state of world.groups) take(decisions, nextStep(world, state));
  let free = input.options.movesAtOnceMax - countOccupied(world, decisions);
  free -= beginDue(world, decisions, free);
  beginBalancing(world, decisions, free);
  preferLeaders(world, decisions);
  const removedNodes = emptiedNodes(input.map);
  return {
    placements: [...decisions.rows.values()],
    nodes: nodes.changes,
    removedNodes,
    reasons: [
      ...decisions.reasons,
      ...removedNodes.map((id) => `node ${id} holds nothing any more, and is removed`),
    ],
  };
}

function take({ rows, reasons }: Decisions, step: Step | undefined): void {
  if (step === undefined) return;
  rows.set(step.placement.group, step.placement);
  reasons.push(`${groupText(step.placement.group)}: ${step.reason}`);
}

const groupText = (group: GroupId): string => `group ${group}`;

/** As of what has been decided. */
function countOccupied({ groups, nodes }: World, { rows }: Decisions): number {
  const rowOf = ({ placement }: GroupState) => rows.get(placement.group) ?? placement;
  return groups.filter((state) => occupiesSlot(rowOf(state), state, nodes)).length;
}

/** Begins what has to be done, as far as the bound allows; answers how much of it is used. */
function beginDue(world: World, decisions: Decisions, free: number): number {
  let begun = 0;
  for (const start of findStarts(world)) {
    if (begun >= free) break;
    const step = begin(world, start);
    if (step === undefined) continue;
    take(decisions, step);
    begun++;
  }
  return begun;
}

function beginBalancing(world: World, decisions: Decisions, free: number): void {
  const { loads, nodes } = world;
  let left = free;
  while (left > 0) {
    const improvement = nextImprovement(loads, left);
    if (improvement === undefined) return;
    for (const move of improvement.moves.slice(0, left)) {
      const { placement } = world.groups.find((state) => state.placement.group === move.group)!;
      const from = nodes.list[move.from]!;
      const why = `${improvement.reason}, for node ${from.id}`;
      take(decisions, addLearners(placement, [nodes.list[move.to]!], why));
      loads.move(move);
      left--;
    }
  }
}

function preferLeaders({ groups, nodes }: World, { rows, reasons }: Decisions): void {
  const placements = groups.map(({ placement }) => rows.get(placement.group) ?? placement);
  for (const placement of balanceLeaders(placements, nodes, LEADERS_UNEVEN_MAX)) {
    rows.set(placement.group, placement);
    const { group, preferredLeader } = placement;
    reasons.push(`${groupText(group)}: node ${preferredLeader} is to lead`);
  }
}
