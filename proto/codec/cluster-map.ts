/**
 * The cluster map as it travels and as it is stored, and as plain objects. What a peer sent is
 * checked here, so that all others may rely on the types of `shared/cluster-map.ts`.
 */
import { create } from "@bufbuild/protobuf";
import {
  type ClusterMap as ClusterMapMessage,
  ClusterMapSchema,
  type ClusterNode as ClusterNodeMessage,
  ClusterNodeSchema,
  NodeState as NodeStateNumber,
  type Placement as PlacementMessage,
  PlacementSchema,
  ReplicaRole as ReplicaRoleNumber,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  type ClusterMap,
  type ClusterNode,
  NodeState,
  type Placement,
  type ReplicaRole,
} from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { META_GROUP, toGroupId, toNodeId, toReplicaId, VSHARD_COUNT } from "#shared/ids.ts";

const STATE_TO_WIRE = {
  [NodeState.Up]: NodeStateNumber.UP,
  [NodeState.Draining]: NodeStateNumber.DRAINING,
  [NodeState.Down]: NodeStateNumber.DOWN,
  [NodeState.Removing]: NodeStateNumber.REMOVING,
} as const;

const ROLE_TO_WIRE = {
  voter: ReplicaRoleNumber.VOTER,
  learner: ReplicaRoleNumber.LEARNER,
  leaving: ReplicaRoleNumber.LEAVING,
} as const;

function stateOf(state: NodeStateNumber): NodeState {
  if (state === NodeStateNumber.UP) return NodeState.Up;
  if (state === NodeStateNumber.DRAINING) return NodeState.Draining;
  if (state === NodeStateNumber.DOWN) return NodeState.Down;
  if (state === NodeStateNumber.REMOVING) return NodeState.Removing;
  throw new RangeError("unknown state of a node");
}

function roleOf(role: ReplicaRoleNumber): ReplicaRole {
  if (role === ReplicaRoleNumber.VOTER) return "voter";
  if (role === ReplicaRoleNumber.LEARNER) return "learner";
  if (role === ReplicaRoleNumber.LEAVING) return "leaving";
  throw new RangeError("unknown role of a replica");
}

export function toNodeMessage(node: ClusterNode): ClusterNodeMessage {
  const { id, address, zone, host, capacityBytes } = node;
  return create(ClusterNodeSchema, {
    id,
    address,
    zone,
    host,
    state: STATE_TO_WIRE[node.state],
    capacityBytes: BigInt(capacityBytes),
  });
}

/** @throws RangeError */
export function fromNodeMessage(message: ClusterNodeMessage): ClusterNode {
  const { address, zone, host } = message;
  const capacityBytes = Number(message.capacityBytes);
  return {
    id: toNodeId(message.id),
    address,
    zone,
    host,
    state: stateOf(message.state),
    capacityBytes,
  };
}

export function toPlacementMessage(placement: Placement): PlacementMessage {
  const { group, replicas, lastSequence, preferredLeader } = placement;
  return create(PlacementSchema, {
    group,
    replicas: replicas.map(({ replica, role }) => ({
      replicaId: BigInt(replica),
      role: ROLE_TO_WIRE[role],
    })),
    lastSequence: BigInt(lastSequence),
    preferredLeader,
  });
}

/** @throws RangeError */
export function fromPlacementMessage(message: PlacementMessage): Placement {
  return {
    group: toGroupId(message.group),
    replicas: message.replicas.map(({ replicaId, role }) => ({
      replica: toReplicaId(Number(replicaId)),
      role: roleOf(role),
    })),
    lastSequence: Number(message.lastSequence),
    preferredLeader: toNodeId(message.preferredLeader),
  };
}

export function toMapMessage(map: ClusterMap): ClusterMapMessage {
  return create(ClusterMapSchema, {
    clusterId: map.clusterId,
    version: BigInt(map.version),
    featureVersion: map.featureVersion,
    nodes: map.nodes.map(toNodeMessage),
    placements: [...map.placements, map.meta].map(toPlacementMessage),
  });
}

/** @throws KvError DATA_CORRUPT when it is not a whole map. */
export function fromMapMessage(message: ClusterMapMessage | undefined): ClusterMap {
  try {
    if (message === undefined) throw new RangeError("there is none");
    const placements = message.placements.map(fromPlacementMessage);
    const meta = placements.pop();
    if (placements.length !== VSHARD_COUNT || meta?.group !== META_GROUP) {
      throw new RangeError("it does not place every group");
    }
    if (placements.some(({ group }, vshard) => group !== vshard)) {
      throw new RangeError("its placements are not in order");
    }
    const { clusterId, featureVersion } = message;
    const nodes = message.nodes.map(fromNodeMessage);
    return { clusterId, version: Number(message.version), featureVersion, nodes, placements, meta };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new KvError("DATA_CORRUPT", `unusable cluster map: ${error.message}`, { cause: error });
  }
}
