/**
 * What operators ask of a cluster, as changes of its map: drain, remove, transfer, rebalance. Pure, but
 * for the observations that come with it. Nothing moves here: the map says what is wanted, and planner
 * and leaders bring it about.
 *
 * All of them say what is to be and not what to do next, so that asking again does no harm.
 */
import type { ChangeClusterRequest } from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  type ClusterMap,
  type ClusterNode,
  isDeparting,
  NodeState,
  nodesOfPlacement,
  placementOf,
  replicaOn,
} from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { type GroupId, META_GROUP, type NodeId, VSHARD_COUNT } from "#shared/ids.ts";
import type { MetaChange } from "./map-rows.ts";
import { drainProgress, type PlannerInput, rebalanceLeaders, removalRefusal } from "./planner.ts";

export type OperatorChange = {
  /** Undefined when the map says so already. */
  readonly change: MetaChange | undefined;
  /** For people: what will happen now. */
  readonly detail: string;
};

const refuse = (detail: string): KvError => new KvError("CLUSTER_CONFLICT", detail);

/**
 * `nextNodeId` has never been given to a node; all below it have.
 *
 * @throws KvError CLUSTER_CONFLICT when it cannot or must not be done, and UNAVAILABLE when it cannot yet;
 * the message says why. INVALID_ARGUMENT when it makes no sense in any cluster.
 */
export function operatorChange(
  change: Exclude<ChangeClusterRequest["change"], { case: "invite" } | { case: undefined }>,
  input: PlannerInput,
  nextNodeId: NodeId,
): OperatorChange {
  const { map } = input;
  switch (change.case) {
    case "drain":
      return drain(input, nodeOf(map, change.value.nodeId));
    case "cancelDrain":
      return cancelDrain(nodeOf(map, change.value.nodeId));
    case "remove": {
      const { nodeId } = change.value;
      // The answer to a first request may have been lost.
      const isGone = nodeId < nextNodeId && !map.nodes.some(({ id }) => id === nodeId);
      if (isGone) return { change: undefined, detail: `node ${nodeId} was removed already` };
      return remove(input, nodeOf(map, nodeId));
    }
    case "transfer":
      return transfer(input, change.value.group, nodeOf(map, change.value.nodeId));
    case "rebalance": {
      const placements = rebalanceLeaders(input);
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

function drain(input: PlannerInput, node: ClusterNode): OperatorChange {
  const { map } = input;
  if (node.state === NodeState.Removing) {
    return { change: undefined, detail: `node ${node.id} is being removed, and drains for that` };
  }
  const others = map.nodes.filter(({ id, state }) => id !== node.id && state === NodeState.Up);
  if (others.length === 0) {
    throw refuse(`node ${node.id} has no other node to move its replicas to: add a node first`);
  }
  const { leaders, replicas } = drainProgress(map, node.id);
  const moves = `node ${node.id} drains: ${leaders} leaders and ${replicas} replicas to move`;
  const detail = moves + sizeText(input, node);
  if (node.state === NodeState.Draining) return { change: undefined, detail };
  return { change: { nodes: [{ ...node, state: NodeState.Draining }] }, detail };
}

/** Also of a removal that has not come to its end. */
function cancelDrain(node: ClusterNode): OperatorChange {
  const { id } = node;
  if (!isDeparting(node)) return { change: undefined, detail: `node ${id} is not being drained` };
  const detail = `node ${id} keeps what it has, and takes replicas again`;
  return { change: { nodes: [{ ...node, state: NodeState.Up }] }, detail };
}

/**
 * A node without replicas is taken out at once. One that is gone for good and still has some loses them
 * to others, or its groups become smaller; the planner takes it out when that is done.
 */
function remove(input: PlannerInput, node: ClusterNode): OperatorChange {
  const { map } = input;
  const refusal = removalRefusal(map, input, node.id);
  if (refusal?.isTemporary) {
    throw new KvError("UNAVAILABLE", refusal.detail, { outcome: "not_applied" });
  }
  if (refusal !== undefined) throw refuse(refusal.detail);
  const { replicas } = drainProgress(map, node.id);
  if (replicas === 0) {
    return { change: { removedNodes: [node.id] }, detail: `node ${node.id} is removed` };
  }
  const detail =
    `node ${node.id} is being removed: ${replicas} replicas to take off it, then it is gone` +
    sizeText(input, node);
  if (node.state === NodeState.Removing) return { change: undefined, detail };
  return { change: { nodes: [{ ...node, state: NodeState.Removing }] }, detail };
}

/** When there are too few nodes left for all replicas: that the groups get smaller, and what that means. */
function sizeText({ map, options }: PlannerInput, node: ClusterNode): string {
  const staying = map.nodes.filter((other) => other.id !== node.id && !isDeparting(other)).length;
  const sizes = map.placements.map((placement) => nodesOfPlacement(placement).length);
  const present = Math.min(options.replicationFactor, Math.max(...sizes));
  if (staying === 0 || staying >= present) return "";
  const survives = Math.floor((staying - 1) / 2);
  return (
    `. No other node is there for them: vshards go on with ${staying} of ${present} replicas, ` +
    `which survive the loss of ${survives} nodes, until a node is added`
  );
}

function transfer(input: PlannerInput, group: number, node: ClusterNode): OperatorChange {
  const { map } = input;
  if (group >= VSHARD_COUNT && group !== META_GROUP) {
    throw new KvError("INVALID_ARGUMENT", `there is no vshard ${group}`);
  }
  const name = group === META_GROUP ? "the meta group" : `vshard ${group}`;
  const placement = placementOf(map, group as GroupId);
  if (replicaOn(placement, node.id)?.role !== "voter") {
    throw refuse(`node ${node.id} holds no voter of ${name}, which alone could lead it`);
  }
  if (node.state !== NodeState.Up) throw refuse(`node ${node.id} is ${node.state}`);
  // The planner would take it away again at once.
  const seen = input.nodes.get(node.id);
  if (seen?.answering === false) throw refuse(`node ${node.id} does not answer`);
  if (seen?.slow) throw refuse(`node ${node.id} is slow: its log syncs take too long to lead`);
  if (seen?.writable === false) throw refuse(`node ${node.id} takes no writes: its disk is full`);
  const detail = `node ${node.id} is to lead ${name} as soon as its replica is caught up`;
  if (placement.preferredLeader === node.id) return { change: undefined, detail };
  return { change: { placements: [{ ...placement, preferredLeader: node.id }] }, detail };
}
