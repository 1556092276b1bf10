/**
 * The cluster map: which nodes exist and which of them hold each vshard. Gateways route by it.
 *
 * A map is immutable; a newer one has a higher `version`. On a single node it is built at start.
 */
import type { NodeId, ReplicaId, VshardId } from "./ids.ts";

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
