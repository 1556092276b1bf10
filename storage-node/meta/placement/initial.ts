/**
 * The placements with which a cluster begins: replicas spread and leaders even, as the planner would have
 * it, so that it finds nothing to do.
 */
import type { ClusterNode, Placement } from "#shared/cluster-map.ts";
import { type GroupId, META_GROUP, type NodeId, replicaIdOf, VSHARD_COUNT } from "#shared/ids.ts";
import { nextImprovement } from "./balance.ts";
import { targetOf } from "./group-state.ts";
import { balanceLeaders } from "./leaders.ts";
import { Loads } from "./loads.ts";
import { inRole } from "./members.ts";
import { viewNodesOfMap } from "./nodes.ts";
import { joinCost } from "./spread.ts";
import type { PlannerOptions } from "./types.ts";

export type InitialPlacements = {
  /** Of the vshards, in their order. */
  readonly placements: readonly Placement[];
  readonly meta: Placement;
};

/** All replicas have sequence 0. `nodes` must not be empty. */
export function initialPlacements(
  nodes: readonly ClusterNode[],
  options: Omit<PlannerOptions, "movesAtOnceMax">,
): InitialPlacements {
  const views = viewNodesOfMap(nodes);
  const loads = new Loads(views.list, false);
  const groups = [...Array(VSHARD_COUNT).keys(), META_GROUP] as GroupId[];
  for (const group of groups) {
    const members = cheapest(loads, targetOf(group, views, options));
    loads.set({ group, sizeBytes: 0, members, movable: true });
  }
  evenOut(loads);
  const rows = groups.map((group): Placement => {
    const ids = loads.share(group).members.map((member) => views.list[member]!.id);
    const replicas = ids.map((id) => inRole(replicaIdOf(id, 0), "voter"));
    return { group, replicas, lastSequence: 0, preferredLeader: 0 as NodeId };
  });
  const led = balanceLeaders(rows, views, 1);
  return { placements: led.slice(0, VSHARD_COUNT), meta: led[VSHARD_COUNT]! };
}

/** The best spread, and among equals the nodes with least. */
function cheapest({ nodes, counts }: Loads, size: number): readonly number[] {
  const members: number[] = [];
  while (members.length < size) {
    let best = -1;
    let bestCost = 0;
    for (const { index } of nodes) {
      if (members.includes(index)) continue;
      const cost = joinCost(nodes, members, index);
      const isBetter = cost < bestCost || (cost === bestCost && counts[index]! < counts[best]!);
      if (best < 0 || isBetter) [best, bestCost] = [index, cost];
    }
    members.push(best);
  }
  return members;
}

/** Unequal zones can leave counts that are not even; nothing is there yet, so all moves are free. */
function evenOut(loads: Loads): void {
  for (;;) {
    const improvement = nextImprovement(loads, 1);
    if (improvement === undefined) return;
    for (const move of improvement.moves.slice(0, 1)) {
      loads.move(move);
      loads.set({ ...loads.share(move.group), movable: true });
    }
  }
}
