/**
 * What begins next because it has to: replicas that a group lacks, because a node is lost, gone or
 * draining or because the group may have more of them than it has; and voters that it has too many.
 *
 * Groups that have lost most go first; the meta group goes before its equals, because without it nothing
 * can be moved at all. All replicas that a group lacks are added at once: the group then passes from one
 * voter to three in one change, and not through two, which survive less than one.
 */
import { type GroupReplica, isDeparting, type Placement } from "#shared/cluster-map.ts";
import { META_GROUP, nodeOfReplica, replicaIdOf } from "#shared/ids.ts";
import { type GroupState, positions, stays, viewOf, type World } from "./group-state.ts";
import { inRole, isUnderWay } from "./members.ts";
import type { NodeView } from "./nodes.ts";
import { joinCost } from "./spread.ts";
import { type Step, shrink } from "./steps.ts";

/** In this order. `shrink` copies nothing. */
const URGENCIES = ["rebuild", "shrink", "grow", "drain"] as const;
type Urgency = (typeof URGENCIES)[number];

const WHY = {
  rebuild: "a node is lost",
  shrink: "too many voters",
  grow: "there is a node for one more",
  drain: "a node drains",
} as const satisfies Record<Urgency, string>;

export type Start = {
  readonly state: GroupState;
  readonly urgency: Urgency;
  /** Voters on nodes that stay. */
  readonly healthy: number;
};

/** Groups at rest that do not have what they should, the most urgent first. */
export function findStarts(world: World): readonly Start[] {
  const starts: Start[] = [];
  for (const state of world.groups) {
    if (!state.inStep || isUnderWay(state.placement)) continue;
    const healthy = state.voters.filter((id) => stays(world.nodes, id)).length;
    const urgency = urgencyOf(world, state, healthy);
    if (urgency !== undefined) starts.push({ state, urgency, healthy });
  }
  const rank = ({ urgency }: Start): number => URGENCIES.indexOf(urgency);
  const metaFirst = ({ state }: Start): number => (state.placement.group === META_GROUP ? 0 : 1);
  const leaderAway = (start: Start): number => (isLedByDeparting(world, start) ? 1 : 0);
  return starts.sort(
    (a, b) =>
      rank(a) - rank(b) ||
      a.healthy - b.healthy ||
      metaFirst(a) - metaFirst(b) ||
      leaderAway(a) - leaderAway(b),
  );
}

/** Leaders leave a node first: replicas whose groups have been handed over go before the others. */
const isLedByDeparting = ({ nodes }: World, { state }: Start): boolean => {
  const view = state.observation && viewOf(nodes, state.observation.leader);
  return view !== undefined && isDeparting(view);
};

function urgencyOf({ nodes }: World, state: GroupState, healthy: number): Urgency | undefined {
  const { voters, target } = state;
  if (healthy >= target) return voters.length > target ? "shrink" : undefined;
  const views = voters.map((id) => viewOf(nodes, id));
  if (views.some((view) => view === undefined || view.lost)) return "rebuild";
  return views.some((view) => view !== undefined && isDeparting(view)) ? "drain" : "grow";
}

/** Undefined when nothing can be done now: no node can take a replica, or the quorum would be at risk. */
export function begin(world: World, start: Start): Step | undefined {
  return addMissing(world, start) ?? shrink(world, start.state);
}

function addMissing(world: World, { state, urgency, healthy }: Start): Step | undefined {
  const { loads } = world;
  const members = [...positions(state.voters, world.nodes)];
  const chosen: NodeView[] = [];
  while (chosen.length < state.target - healthy) {
    const node = bestCandidate(world, state, members);
    if (node === undefined) break;
    members.push(node.index);
    loads.reserve(node.index, state.sizeBytes);
    chosen.push(node);
  }
  if (chosen.length === 0) return undefined;
  loads.set({ ...loads.share(state.placement.group), members, movable: false });
  return addLearners(state.placement, chosen, WHY[urgency]);
}

function bestCandidate(
  world: World,
  state: GroupState,
  members: readonly number[],
): NodeView | undefined {
  const { loads, nodes } = world;
  // Also of a replica that leaves: a node never has two of a group.
  const taken = new Set(state.placement.replicas.map(({ replica }) => nodeOfReplica(replica)));
  let best: NodeView | undefined;
  let bestCost = 0;
  for (const node of nodes.list) {
    if (!node.receives || taken.has(node.id) || members.includes(node.index)) continue;
    if (!loads.hasRoom(node.index, state.sizeBytes)) continue;
    const cost = joinCost(loads.nodes, members, node.index);
    if (best !== undefined && !isBetter(world, [node, cost], [best, bestCost])) continue;
    [best, bestCost] = [node, cost];
  }
  return best;
}

function isBetter(
  { loads: { counts, bytes } }: World,
  [a, aCost]: readonly [NodeView, number],
  [b, bCost]: readonly [NodeView, number],
): boolean {
  if (a.slow !== b.slow) return b.slow;
  if (aCost !== bCost) return aCost < bCost;
  if (counts[a.index] !== counts[b.index]) return counts[a.index]! < counts[b.index]!;
  return bytes[a.index]! < bytes[b.index]!;
}

/** Each takes the next sequence: ids of a group only grow. */
export function addLearners(
  placement: Placement,
  nodes: readonly Pick<NodeView, "id">[],
  why: string,
): Step {
  const { lastSequence } = placement;
  const added: GroupReplica[] = nodes.map(({ id }, i) =>
    inRole(replicaIdOf(id, lastSequence + 1 + i), "learner"),
  );
  return {
    placement: {
      ...placement,
      replicas: [...placement.replicas, ...added],
      lastSequence: lastSequence + nodes.length,
    },
    reason: `${nodes.map(({ id }) => `node ${id}`).join(", ")} gets a replica: ${why}`,
  };
}
