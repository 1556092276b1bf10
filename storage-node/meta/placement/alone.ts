/** A node with nobody beside it: there is nowhere to move anything. */
import { type ClusterMap, NodeState, type Placement } from "#shared/cluster-map.ts";
import { nodeOfReplica } from "#shared/ids.ts";

/**
 * Whether the one node of the map already holds the only replica of each group and is to lead it. Nothing
 * that a plan could find differs from that, whatever was observed, so none has to be made: planning for
 * 257 groups twice a second was two thirds of what an idle node allocated.
 */
export function isAloneAndWhole({ nodes, placements, meta }: ClusterMap): boolean {
  const only = nodes[0];
  if (only === undefined || nodes.length > 1 || only.state !== NodeState.Up) return false;
  const isWhole = ({ replicas, preferredLeader }: Placement): boolean =>
    replicas.length === 1 &&
    replicas[0]!.role === "voter" &&
    nodeOfReplica(replicas[0]!.replica) === only.id &&
    preferredLeader === only.id;
  return placements.every(isWhole) && isWhole(meta);
}
