/**
 * Why nodes that drain or are removed do not get on: for operators, who would otherwise see only that
 * nothing happens. What merely waits for its turn, or for a copy that is under way, is no obstacle.
 */
import { isDeparting } from "#shared/cluster-map.ts";
import { type NodeId, nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import { type GroupState, stays, viewOf, viewWorld, type World } from "./group-state.ts";
import { isUnderWay, keepsQuorum } from "./members.ts";
import { mayAnswer, type NodeView, viewNodes } from "./nodes.ts";
import { groupsText } from "./removal.ts";
import type { PlannerInput } from "./types.ts";

/** Of each departing node that cannot go on, the reason and what helps, for people. */
export function departureObstacles(input: PlannerInput): ReadonlyMap<NodeId, string> {
  const found = new Map<NodeId, string>();
  const departing = input.map.nodes.filter(isDeparting);
  if (departing.length === 0) return found;
  const world = viewWorld(input, viewNodes(input.map.nodes, input.nodes));
  if (world.nodes.list.every(({ stays: isStaying }) => !isStaying)) {
    for (const { id } of departing) found.set(id, "no node is left to move to: add a node");
    return found;
  }
  for (const { id } of departing) {
    const reason = obstacleOf(world, id);
    if (reason !== undefined) found.set(id, reason);
  }
  return found;
}

function obstacleOf(world: World, node: NodeId): string | undefined {
  const byReason = new Map<string, GroupState[]>();
  for (const state of world.groups) {
    if (!state.placement.replicas.some(({ replica }) => nodeOfReplica(replica) === node)) continue;
    const reason = groupObstacle(world, state);
    if (reason === undefined) continue;
    const states = byReason.get(reason);
    if (states === undefined) byReason.set(reason, [state]);
    else states.push(state);
  }
  if (byReason.size === 0) return undefined;
  return [...byReason]
    .map(([why, states]) => `${groupsText(states.map(({ placement }) => placement))} ${why}`)
    .join("; ");
}

/** Continues "3 groups (0, 1, 2) are …". */
function groupObstacle(world: World, state: GroupState): string | undefined {
  const { placement, observation, inStep, learners, voters, target } = state;
  if (!state.isLed) {
    // Its leader may only not have reported yet to this node.
    if (voters.some((id) => viewOf(world.nodes, id)?.known === false)) return undefined;
    return "without a leader: see which of their nodes do not answer";
  }
  if (observation === undefined) return undefined;
  const { members, leader } = observation;
  // One on a node that goes is given up at once.
  const silent = learners.filter(
    (id) => stays(world.nodes, id) && !mayAnswer(viewOf(world.nodes, id)),
  );
  if (silent.length > 0) {
    return `waiting for ${nodesText(silent)} to answer, which gets a replica`;
  }
  const left = voters.filter((id) => stays(world.nodes, id));
  const leaves =
    state.leaving.length > 0 || (inStep && !isUnderWay(placement) && left.length >= target);
  if (leaves && !keepsQuorum(left, members, leader)) {
    return "waiting until enough of the other replicas answer and have caught up";
  }
  if (!inStep || isUnderWay(placement) || left.length >= target) return undefined;
  return noCandidate(world, state);
}

const nodesText = (ids: readonly ReplicaId[]): string =>
  ids.map((id) => `node ${nodeOfReplica(id)}`).join(", ");

function noCandidate({ nodes, loads }: World, state: GroupState): string | undefined {
  const taken = new Set(state.placement.replicas.map(({ replica }) => nodeOfReplica(replica)));
  const free = nodes.list.filter((view) => view.stays && !taken.has(view.id));
  const hasRoom = (view: NodeView): boolean => loads.hasRoom(view.index, state.sizeBytes);
  if (free.some((view) => view.receives && hasRoom(view))) return undefined;
  const why = free.map((view) => {
    if (!view.known) return `nothing is known of node ${view.id} yet`;
    return view.answering ? `node ${view.id} has no room` : `node ${view.id} does not answer`;
  });
  const lost = nodes.list.filter((view) => view.lost && !taken.has(view.id) && !view.stays);
  const down = lost.map((view) => `node ${view.id} does not answer`);
  const all = [...new Set([...why, ...down])];
  return `without a node that could take a replica (${all.join(", ") || "all others have one"}): add a node`;
}
