/**
 * Nodes that go: how far a drain is, and whether a node may be removed.
 */
import { type ClusterMap, NodeState, type Placement } from "#shared/cluster-map.ts";
import { type NodeId, nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import { isOutForEver, isReady, majority, sameIds, withRole } from "./members.ts";
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

/**
 * Why a node may not be removed; undefined when it may. One that answers must have been drained. One that
 * does not answer may be removed as long as every group goes on without it: its replicas are then
 * taken out and rebuilt elsewhere.
 *
 * Groups whose voters are changing are refused too: what is reported of them may be over already, and the
 * node be one of two voters by now.
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
  const changing = held.filter((row) => isChanging(row, observations.groups.get(row.group)));
  if (changing.length > 0)
    return `${groupsText(changing)} changing voters or without a leader; try again`;
  const stuck = held.filter(({ group }) => !goesOnWithout(observations.groups.get(group)!, node));
  return stuck.length === 0
    ? undefined
    : `${groupsText(stuck)} without a quorum when node ${node} is gone`;
}

/** `placements` for people: how many, and the first of them. */
function groupsText(placements: readonly Placement[]): string {
  const names = placements.slice(0, 5).map(({ group }) => group);
  const more = placements.length > names.length ? ", …" : "";
  const count = placements.length === 1 ? "1 group is" : `${placements.length} groups are`;
  return `${count} (${names.join(", ")}${more})`;
}

/** Whether others may vote in the group than its row says, or nobody knows. */
function isChanging(placement: Placement, observation: GroupObservation | undefined): boolean {
  if (observation === undefined) return true;
  const { configuration, settled } = observation;
  return (
    !settled ||
    configuration.outgoing.length > 0 ||
    !sameIds(configuration.voters, withRole(placement, "voter")) ||
    withRole(placement, "leaving").some((id) => !isOutForEver(configuration, id))
  );
}

/** Whether those of its voters that are ready, without `node`, are a majority. */
function goesOnWithout(observation: GroupObservation, node: NodeId): boolean {
  const { configuration, members, leader } = observation;
  const { voters } = configuration;
  const isLeft = (id: ReplicaId) => nodeOfReplica(id) !== node && isReady(members, leader, id);
  return voters.filter(isLeft).length >= majority(voters.length);
}
