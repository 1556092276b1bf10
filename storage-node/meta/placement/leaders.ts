/**
 * Who should lead: leaders even over nodes, by count, changing as few as possible.
 *
 * A preferred leader that may not lead (its node is not answering, slow, draining, or cannot write) gives
 * way at once to the voter whose node leads least. Beyond that nothing is changed until two nodes differ
 * by more than `slack`; then leaders are moved until they differ by one at most, as far as the voters
 * allow (chain.ts). The slack is what lets a leader stay where an operator has put it.
 */
import type { Placement } from "#shared/cluster-map.ts";
import { META_GROUP, type NodeId, nodeOfReplica } from "#shared/ids.ts";
import { shortestChain } from "./chain.ts";
import { withRole } from "./members.ts";
import { type NodeViews, viewNodes } from "./nodes.ts";
import type { PlannerInput } from "./types.ts";

type Lead = {
  readonly placement: Placement;
  /** Positions of nodes that may lead the group. */
  readonly voters: readonly number[];
  /** Position of the node that is to lead; -1 for none. */
  leader: number;
};

const NOBODY = 0 as NodeId;

/** Only the placements whose preferred leader changes, with the new one. */
export function balanceLeaders(
  placements: readonly Placement[],
  nodes: NodeViews,
  slack: number,
): readonly Placement[] {
  const leads = placements.map((placement) => readLead(placement, nodes));
  const counts = nodes.list.map(() => 0);
  for (const { leader, placement } of leads) {
    if (leader >= 0 && placement.group !== META_GROUP) counts[leader]!++;
  }
  for (const lead of leads) if (lead.leader < 0) elect(lead, counts);
  evenOut(leads, counts, { nodes, slack });
  return leads.flatMap(({ placement, leader }) => {
    const preferredLeader = leader < 0 ? fallback(placement) : nodes.list[leader]!.id;
    return preferredLeader === placement.preferredLeader ? [] : [{ ...placement, preferredLeader }];
  });
}

function readLead(placement: Placement, nodes: NodeViews): Lead {
  const voters: number[] = [];
  let leader = -1;
  for (const id of withRole(placement, "voter")) {
    const view = nodes.byId.get(nodeOfReplica(id));
    if (view === undefined) continue;
    if (view.leads) voters.push(view.index);
    // Nothing is known of it: no reason to take anything away from it.
    if (view.id === placement.preferredLeader && (view.leads || !view.known)) leader = view.index;
  }
  return { placement, voters, leader };
}

function elect(lead: Lead, counts: number[]): void {
  for (const voter of lead.voters) {
    if (lead.leader < 0 || counts[voter]! < counts[lead.leader]!) lead.leader = voter;
  }
  if (lead.leader >= 0 && lead.placement.group !== META_GROUP) counts[lead.leader]!++;
}

/** Nobody may lead: whoever was preferred stays so, as long as it votes. */
const fallback = (placement: Placement): NodeId =>
  withRole(placement, "voter").some((id) => nodeOfReplica(id) === placement.preferredLeader)
    ? placement.preferredLeader
    : NOBODY;

function evenOut(
  leads: readonly Lead[],
  counts: number[],
  { nodes, slack }: { readonly nodes: NodeViews; readonly slack: number },
): void {
  const able = nodes.list.filter((view) => view.leads).map(({ index }) => index);
  const values = able.map((node) => counts[node]!);
  if (values.length === 0 || Math.max(...values) - Math.min(...values) <= slack) return;
  const leadBy = nodes.list.map((): Set<Lead> => new Set());
  for (const lead of leads) {
    if (lead.leader >= 0 && lead.placement.group !== META_GROUP) leadBy[lead.leader]!.add(lead);
  }
  const movable = (from: number, to: number): Lead | undefined => {
    for (const lead of leadBy[from]!) if (lead.voters.includes(to)) return lead;
    return undefined;
  };
  const canMove = (from: number, to: number) => movable(from, to) !== undefined;
  for (;;) {
    // Each chain lowers the sum of squares: this ends.
    const chain = shortestChain({ counts, givers: able, takers: able, canMove });
    if (chain === undefined) return;
    for (let i = chain.length - 1; i > 0; i--) {
      const [from, to] = [chain[i - 1]!, chain[i]!];
      const lead = movable(from, to)!;
      leadBy[from]!.delete(lead);
      leadBy[to]!.add(lead);
      lead.leader = to;
      counts[from]!--;
      counts[to]!++;
    }
  }
}

/** Evens leaders out at an operator's wish, without slack. Only rows that change. */
export function rebalanceLeaders({
  map,
  nodes,
}: Pick<PlannerInput, "map" | "nodes">): readonly Placement[] {
  return balanceLeaders([...map.placements, map.meta], viewNodes(map.nodes, nodes), 1);
}
