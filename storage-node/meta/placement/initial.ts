/**
 * The placements with which a cluster begins: replicas spread and leaders even, as the planner would have
 * it, so that it finds nothing to do.
 *
 * Each pair of nodes shares about as many groups as any other. When a node fails, its leaders and the
 * replicas to be rebuilt then fall to all others alike, and not to the two that shared everything with it.
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
  const pairs = new Pairs();
  const groups = [...Array(VSHARD_COUNT).keys(), META_GROUP] as GroupId[];
  for (const group of groups) {
    const members = cheapest(loads, pairs, targetOf(group, views, options));
    pairs.add(members);
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

/** How many groups two nodes share. */
class Pairs {
  readonly #counts = new Map<string, number>();

  of(node: number, members: readonly number[]): number {
    return members.reduce((sum, member) => sum + (this.#counts.get(keyOf(node, member)) ?? 0), 0);
  }

  add(members: readonly number[]): void {
    for (const a of members) {
      for (const b of members) {
        if (a < b) this.#counts.set(keyOf(a, b), (this.#counts.get(keyOf(a, b)) ?? 0) + 1);
      }
    }
  }
}

const keyOf = (a: number, b: number): string => `${Math.min(a, b)} ${Math.max(a, b)}`;

/** The best spread; among equals the nodes with least, and of those the ones that share least. */
function cheapest({ nodes, counts }: Loads, pairs: Pairs, size: number): readonly number[] {
  const members: number[] = [];
  while (members.length < size) {
    const rank = (node: number): readonly number[] => [
      joinCost(nodes, members, node),
      counts[node]!,
      pairs.of(node, members),
    ];
    const left = nodes.map(({ index }) => index).filter((node) => !members.includes(node));
    const ranked = left.map((node) => ({ node, rank: rank(node) }));
    members.push(ranked.reduce((a, b) => (isLess(b.rank, a.rank) ? b : a)).node);
  }
  return members;
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  const first = a.findIndex((value, i) => value !== b[i]);
  return first >= 0 && a[first]! < b[first]!;
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
