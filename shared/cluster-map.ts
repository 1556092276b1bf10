/**
 * The cluster map: which nodes exist and which of them hold each vshard. Gateways route by it.
 *
 * A map is immutable; a newer one has a higher `version`. On a single node it is built at start.
 */
import { type NodeId, type ReplicaId, VSHARD_COUNT, type VshardId } from "./ids.ts";

export const NodeState = { Up: "up", Draining: "draining", Down: "down" } as const;
export type NodeState = (typeof NodeState)[keyof typeof NodeState];

export type ClusterNode = {
  readonly id: NodeId;
  /** `host:port` of its gRPC listener; empty when it lives in this process. */
  readonly address: string;
  readonly zone: string;
  readonly host: string;
  readonly state: NodeState;
};

export type VshardReplica = {
  readonly node: NodeId;
  readonly replica: ReplicaId;
  readonly role: "voter" | "learner";
};

export type VshardPlacement = {
  readonly vshard: VshardId;
  readonly replicas: readonly VshardReplica[];
  readonly preferredLeader: NodeId;
};

export type ClusterMap = {
  readonly clusterId: string;
  readonly version: number;
  readonly nodes: readonly ClusterNode[];
  /** Indexed by vshard id; always 256 long. */
  readonly placements: readonly VshardPlacement[];
};

/** The map of a cluster of one node: it holds the only replica of every vshard. */
export function singleNodeMap(clusterId: string, node: ClusterNode): ClusterMap {
  const replicas: readonly VshardReplica[] = [
    { node: node.id, replica: 1 as ReplicaId, role: "voter" },
  ];
  const placements = Array.from({ length: VSHARD_COUNT }, (_, vshard) => ({
    vshard: vshard as VshardId,
    replicas,
    preferredLeader: node.id,
  }));
  return { clusterId, version: 1, nodes: [node], placements };
}
