/**
 * Nodes that go: how far a drain is, and whether a node may be removed.
 */
import { type ClusterMap, NodeState, type Placement } from "#shared/cluster-map.ts";
import { type NodeId, nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import { isReady, majority } from "./members.ts";
import type { GroupObservation, Observations } from "./types.ts";

export type DrainProgress = {
  /** Groups that the node should lead. */
  readonly leaders: number;
  /** Replicas of any role that the map has on it. */
  readonly replicas: number;
};

const holds = ({ replicas }: Placement, node: NodeId): boolean =>
  replicas.some(({ replica }) => nodeOfReplica(replica) === node);

const allOf = (map: ClusterMap): readonly Placement[] => [map.meta, ...map.placements];

export function drainProgress(map: ClusterMap, node: NodeId): DrainProgress {
  const placements = allOf(map);
  return {
    leaders: placements.filter(({ preferredLeader }) => preferredLeader === node).length,
    replicas: placements.filter((placement) => holds(placement, node)).length,
  };
}

/** Why a node may not be drained; undefined when it may. */
export function drainRefusal(map: ClusterMap, node: NodeId): string | undefined {
  if (!map.nodes.some(({ id }) => id === node)) return `node ${node} is not in the cluster`;
  const others = map.nodes.filter(({ id, state }) => id !== node && state === NodeState.Up);
  return others.length === 0
    ? `there is no other node that could take what is on node ${node}`
    : undefined;
}

/**
 * Why a node may not be removed; undefined when it may. One that answers must have been drained. One that
 * does not answer may be removed as long as every group goes on without it: its replicas are then
 * taken out and rebuilt elsewhere.
 */
export function removalRefusal(
  map: ClusterMap,
  observations: Observations,
  node: NodeId,
): string | undefined {
  const row = map.nodes.find(({ id }) => id === node);
  if (row === undefined) return `node ${node} is not in the cluster`;
  if (map.nodes.length === 1) return `node ${node} is the last one of the cluster`;
  const observation = observations.nodes.get(node);
  const held = allOf(map).filter((placement) => holds(placement, node));
  if (observation === undefined) return `nothing is known of node ${node} yet; try again`;
  if (observation.answering) {
    if (row.state !== NodeState.Draining) return `node ${node} answers: drain it first`;
    return held.length === 0
      ? undefined
      : `node ${node} answers and still has ${held.length} replicas: wait for its drain`;
  }
  const stuck = held.filter(({ group }) => !goesOnWithout(observations.groups.get(group), node));
  if (stuck.length === 0) return undefined;
  const names = stuck.slice(0, 5).map(({ group }) => group);
  const more = stuck.length > names.length ? ", …" : "";
  return `${stuck.length} groups have no quorum without node ${node} (${names.join(", ")}${more})`;
}

/** Whether those of its members that are ready, without `node`, are a quorum. */
function goesOnWithout(observation: GroupObservation | undefined, node: NodeId): boolean {
  if (observation === undefined) return false;
  const { configuration, members, leader } = observation;
  const isLeft = (id: ReplicaId) => nodeOfReplica(id) !== node && isReady(members, leader, id);
  return [configuration.voters, configuration.outgoing].every(
    (half) => half.length === 0 || half.filter(isLeft).length >= majority(half.length),
  );
}
