/**
 * Nodes that go: how far that is, and whether a node may be taken out.
 *
 * A node that answers is drained first. One that does not may be removed while every group goes on
 * without it. Its replicas are then rebuilt on other nodes; where there is no other node for them, the
 * groups go on with fewer voters, as those of etcd do after `member remove`: a dead voter is of no use to
 * a quorum, and without it a new node makes things better at once. Either way each group is changed by the
 * planner's usual steps, which keep its quorum, and the row of the node goes last.
 */
import {
  type ClusterMap,
  isDeparting,
  NodeState,
  type Placement,
  replicaOn,
} from "#shared/cluster-map.ts";
import { META_GROUP, type NodeId, nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import { majority } from "./members.ts";
import type { GroupObservation, Observations } from "./types.ts";

export type DrainProgress = {
  /** Groups that the node should lead. */
  readonly leaders: number;
  /** Replicas of any role that the map has on it. */
  readonly replicas: number;
};

const holds = (placement: Placement, node: NodeId): boolean =>
  replicaOn(placement, node) !== undefined;

const allOf = (map: ClusterMap): readonly Placement[] => [map.meta, ...map.placements];

export function drainProgress(map: ClusterMap, node: NodeId): DrainProgress {
  const placements = allOf(map);
  return {
    leaders: placements.filter(({ preferredLeader }) => preferredLeader === node).length,
    replicas: placements.filter((placement) => holds(placement, node)).length,
  };
}

/** Nodes that are to be removed and hold nothing any more. */
export function emptiedNodes(map: ClusterMap): readonly NodeId[] {
  const placements = allOf(map);
  return map.nodes
    .filter(({ state }) => state === NodeState.Removing)
    .filter(({ id }) => !placements.some((placement) => holds(placement, id)))
    .map(({ id }) => id);
}

export type RemovalRefusal = {
  readonly detail: string;
  /** It may be over in a moment, without anybody's help. */
  readonly isTemporary: boolean;
};

const refused = (detail: string): RemovalRefusal => ({ detail, isTemporary: false });
const notYet = (detail: string): RemovalRefusal => ({ detail, isTemporary: true });

/** Why a node may not be removed; undefined when it may. */
export function removalRefusal(
  map: ClusterMap,
  observations: Observations,
  node: NodeId,
): RemovalRefusal | undefined {
  const row = map.nodes.find(({ id }) => id === node);
  if (row === undefined) return refused(`node ${node} is not in the cluster`);
  if (map.nodes.length === 1) return refused(`node ${node} is the last one of the cluster`);
  if (row.state === NodeState.Removing) return undefined;
  const held = allOf(map).filter((placement) => holds(placement, node));
  const observation = observations.nodes.get(node);
  if (observation === undefined) return notYet(`nothing is known of node ${node} yet`);
  if (observation.answering) {
    if (row.state !== NodeState.Draining) {
      return refused(`node ${node} answers, or did a moment ago: drain it first`);
    }
    return held.length === 0
      ? undefined
      : refused(`node ${node} answers and still has ${held.length} replicas: wait for its drain`);
  }
  if (held.length === 0) return undefined;
  if (map.nodes.every((other) => other.id === node || isDeparting(other))) {
    return refused(`all other nodes are to leave the cluster too: add a node first`);
  }
  return quorumRefusal(held, observations, node);
}

function quorumRefusal(
  held: readonly Placement[],
  observations: Observations,
  node: NodeId,
): RemovalRefusal | undefined {
  const isLed = ({ group }: Placement) => observations.groups.has(group);
  const stuck = held.filter((placement) => !goesOnWithout(placement, observations, node));
  if (stuck.length > 0) {
    const answers = (id: NodeId) => observations.nodes.get(id)?.answering !== false;
    const others = [...new Set(stuck.flatMap(({ replicas }) => replicas.map(nodeOf)))]
      .filter((id) => id !== node && !answers(id))
      .sort((a, b) => a - b);
    const who = others.length === 0 ? `node ${node}` : others.map((id) => `node ${id}`).join(", ");
    return refused(
      `${groupsText(stuck)} without a quorum when node ${node} is gone: start ${who} again first`,
    );
  }
  const leaderless = held.filter((placement) => !isLed(placement));
  if (leaderless.length === 0) return undefined;
  return notYet(`${groupsText(leaderless)} without a leader at the moment`);
}

const nodeOf = ({ replica }: { readonly replica: ReplicaId }): NodeId => nodeOfReplica(replica);

/** `placements` for people, with "is" or "are": how many, and the first of them. */
export function groupsText(placements: readonly Placement[]): string {
  const names = placements.slice(0, 5).map(({ group }) => (group === META_GROUP ? "meta" : group));
  const more = placements.length > names.length ? ", …" : "";
  const [count, verb] =
    placements.length === 1 ? ["1 group", "is"] : [`${placements.length} groups`, "are"];
  return `${count} (${names.join(", ")}${more}) ${verb}`;
}

/** Whether those of its voters that answer, without `node`, are a majority. */
function goesOnWithout(
  placement: Placement,
  { groups, nodes }: Observations,
  node: NodeId,
): boolean {
  const observation = groups.get(placement.group);
  const isLeft = (id: ReplicaId): boolean =>
    nodeOfReplica(id) !== node &&
    (observation === undefined
      ? nodes.get(nodeOfReplica(id))?.answering !== false
      : isActive(observation, id));
  return votingSets(placement, observation).every(
    (voters) => voters.filter(isLeft).length >= majority(voters.length),
  );
}

const isActive = ({ leader, members }: GroupObservation, id: ReplicaId): boolean =>
  id === leader || members.get(id)?.active === true;

/** As reported; without a leader, what the map asks for. */
function votingSets(
  { replicas }: Placement,
  observation: GroupObservation | undefined,
): readonly (readonly ReplicaId[])[] {
  if (observation === undefined) {
    const voting = replicas.filter(({ role }) => role !== "learner");
    return [voting.map(({ replica }) => replica)];
  }
  const { voters, outgoing } = observation.configuration;
  return outgoing.length > 0 ? [voters, outgoing] : [voters];
}
