/**
 * How well the replicas of a group are spread over failure domains.
 *
 * The cost of a set of nodes is the number of pairs that share a zone and, far less, of pairs that share
 * a host. A pair is what one failure takes together. As hosts lie within zones and pairs grow faster
 * than their members, a set that no exchange of one node makes cheaper is a cheapest one: the planner
 * needs to look at single moves only, and adding the cheapest node again and again finds an optimum.
 */
import { assert } from "#shared/assert.ts";
import { GROUP_MEMBERS_MAX } from "#shared/limits.ts";
import type { NodeView } from "./nodes.ts";

/** Above the number of pairs of any group, so that zones go before hosts. */
const ZONE_COST = 1024;
assert((GROUP_MEMBERS_MAX * (GROUP_MEMBERS_MAX - 1)) / 2 < ZONE_COST, "zones outweigh hosts");

const pairCost = (a: NodeView, b: NodeView): number => {
  if (a.zone !== b.zone) return 0;
  return a.host === b.host ? ZONE_COST + 1 : ZONE_COST;
};

/** What `node` costs beside `members`, of which `except` does not count. */
export function joinCost(
  nodes: readonly NodeView[],
  members: readonly number[],
  node: number,
  except = -1,
): number {
  let cost = 0;
  for (const member of members) {
    if (member !== except && member !== node) cost += pairCost(nodes[member]!, nodes[node]!);
  }
  return cost;
}

/** By how much the cost grows when `to` takes the place of `from`. */
export const exchangeCost = (
  nodes: readonly NodeView[],
  members: readonly number[],
  from: number,
  to: number,
): number => joinCost(nodes, members, to, from) - joinCost(nodes, members, from);

export function spreadCost(nodes: readonly NodeView[], members: readonly number[]): number {
  let twice = 0;
  for (const member of members) twice += joinCost(nodes, members, member);
  return twice / 2;
}

/** The lowest cost of `size` of `candidates`. */
export function bestSpreadCost(
  nodes: readonly NodeView[],
  candidates: readonly number[],
  size: number,
): number {
  const chosen: number[] = [];
  const left = new Set(candidates);
  let total = 0;
  while (chosen.length < size && left.size > 0) {
    let best = -1;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const candidate of left) {
      const cost = joinCost(nodes, chosen, candidate);
      if (cost < bestCost) [best, bestCost] = [candidate, cost];
    }
    chosen.push(best);
    left.delete(best);
    total += bestCost;
  }
  return total;
}
