/**
 * What operators ask of a cluster, as changes of its map: drain, remove, transfer, rebalance. Pure, but
 * for the observations that come with it. Nothing moves here: the map says what is wanted, and planner
 * and leaders bring it about.
 */
import type { ChangeClusterRequest } from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  type ClusterMap,
  type ClusterNode,
  NodeState,
  nodesOfPlacement,
  placementOf,
} from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { type GroupId, META_GROUP, nodeOfReplica, VSHARD_COUNT } from "#shared/ids.ts";
import type { MetaChange } from "./map-rows.ts";
import { drainProgress, type PlannerInput, rebalanceLeaders, removalRefusal } from "./planner.ts";

export type OperatorChange = {
  /** Undefined when the map says so already. */
  readonly change: MetaChange | undefined;
  /** For people: what will happen now. */
  readonly detail: string;
};

const refuse = (detail: string): KvError => new KvError("INVALID_ARGUMENT", detail);

/** @throws KvError INVALID_ARGUMENT when it cannot or must not be done; the message says why. */
export function operatorChange(
  change: Exclude<ChangeClusterRequest["change"], { case: "invite" } | { case: undefined }>,
  input: PlannerInput,
): OperatorChange {
  const { map } = input;
  switch (change.case) {
    case "drain":
      return drain(map, nodeOf(map, change.value.nodeId));
    case "cancelDrain":
      return cancelDrain(nodeOf(map, change.value.nodeId));
    case "remove":
      return remove(input, nodeOf(map, change.value.nodeId));
    case "transfer":
      return transfer(map, change.value.group, nodeOf(map, change.value.nodeId));
    case "rebalance": {
      const placements = rebalanceLeaders(map);
      const detail = `${placements.length} leaders get another preferred node; replicas are balanced all the time`;
      return { change: placements.length === 0 ? undefined : { placements }, detail };
    }
  }
}

function nodeOf(map: ClusterMap, id: number): ClusterNode {
  const node = map.nodes.find((known) => known.id === id);
  if (node === undefined) throw refuse(`the cluster has no node ${id}`);
  return node;
}

function drain(map: ClusterMap, node: ClusterNode): OperatorChange {
  const others = map.nodes.filter(({ id, state }) => id !== node.id && state === NodeState.Up);
  if (others.length === 0) {
    throw refuse(`node ${node.id} has no other node to move its replicas to`);
  }
  const { leaders, replicas } = drainProgress(map, node.id);
  const detail = `node ${node.id} drains: ${leaders} leaders and ${replicas} replicas to move`;
  if (node.state === NodeState.Draining) return { change: undefined, detail };
  return { change: { nodes: [{ ...node, state: NodeState.Draining }] }, detail };
}

function cancelDrain(node: ClusterNode): OperatorChange {
  if (node.state !== NodeState.Draining) throw refuse(`node ${node.id} is not being drained`);
  const detail = `node ${node.id} keeps what it has, and takes replicas again`;
  return { change: { nodes: [{ ...node, state: NodeState.Up }] }, detail };
}

/**
 * A node without replicas is taken out at once. One that is gone for good and still has some counts as
 * lost from now on: its replicas are rebuilt elsewhere, and removing it again ends it.
 */
function remove(input: PlannerInput, node: ClusterNode): OperatorChange {
  const refusal = removalRefusal(input.map, input, node.id);
  if (refusal !== undefined) throw refuse(refusal);
  const { map } = input;
  const held = [...map.placements, map.meta].filter((placement) =>
    nodesOfPlacement(placement).includes(node.id),
  );
  if (held.length === 0) {
    return { change: { removedNodes: [node.id] }, detail: `node ${node.id} is removed` };
  }
  const detail =
    `node ${node.id} counts as lost: its ${held.length} replicas are being rebuilt elsewhere. ` +
    "Remove it again when it has none left.";
  if (node.state === NodeState.Down) return { change: undefined, detail };
  return { change: { nodes: [{ ...node, state: NodeState.Down }] }, detail };
}

function transfer(map: ClusterMap, group: number, node: ClusterNode): OperatorChange {
  if (group >= VSHARD_COUNT && group !== META_GROUP) throw refuse(`there is no vshard ${group}`);
  const placement = placementOf(map, group as GroupId);
  const replica = placement.replicas.find((held) => nodeOfReplica(held.replica) === node.id);
  if (replica?.role !== "voter") {
    throw refuse(`node ${node.id} holds no voter of vshard ${group}, which alone could lead it`);
  }
  if (node.state !== NodeState.Up) throw refuse(`node ${node.id} is ${node.state}`);
  const detail = `node ${node.id} is to lead vshard ${group} as soon as its replica is caught up`;
  if (placement.preferredLeader === node.id) return { change: undefined, detail };
  return { change: { placements: [{ ...placement, preferredLeader: node.id }] }, detail };
}
