/**
 * The cluster map: which nodes exist and which of them hold each group. Gateways route by it, storage
 * nodes create, move and destroy replicas by it.
 *
 * A map is immutable; a newer one has a higher `version`. It is kept by the meta group, whose own
 * placement it holds like that of any other group.
 */
import { FEATURE_VERSION } from "./features.ts";
import {
  type GroupId,
  META_GROUP,
  type NodeId,
  nodeOfReplica,
  type ReplicaId,
  replicaIdOf,
  VSHARD_COUNT,
} from "./ids.ts";

/**
 * `draining`: leaders and replicas are being moved away. `down`: not heard of for so long that its
 * replicas are rebuilt elsewhere; it is up again as soon as it reports. A node that is merely not
 * answering stays `up`. `removing`: leaves like one that drains, and is taken out of the map as soon as
 * it holds nothing. A removed node is no longer in the map.
 */
export const NodeState = {
  Up: "up",
  Draining: "draining",
  Down: "down",
  Removing: "removing",
} as const;
export type NodeState = (typeof NodeState)[keyof typeof NodeState];

export type ClusterNode = {
  readonly id: NodeId;
  /** `host:port` of its gRPC listener; empty when it lives in this process. */
  readonly address: string;
  /** Failure domains, for placement; empty when not told. */
  readonly zone: string;
  readonly host: string;
  readonly state: NodeState;
  /** Size of the disk that its data lives on; 0 when not known. */
  readonly capacityBytes: number;
};

/**
 * What a replica is to be. The group's Raft configuration follows this (`storage-node/meta/`).
 * `leaving`: to be removed from the group as soon as the others can do without it; it is dropped
 * from the placement when a quorum of the group without it knows that it is out.
 */
export type ReplicaRole = "voter" | "learner" | "leaving";

export type GroupReplica = {
  /** Names its node too: `nodeOfReplica`. */
  readonly replica: ReplicaId;
  readonly role: ReplicaRole;
};

export type Placement = {
  readonly group: GroupId;
  readonly replicas: readonly GroupReplica[];
  /** The highest sequence of any replica that the group ever had: a new one takes the next. */
  readonly lastSequence: number;
  /** Who should lead while it can; 0 for whoever is elected. */
  readonly preferredLeader: NodeId;
};

export type ClusterMap = {
  readonly clusterId: string;
  /** Grows with each change of the map; see `storage-node/meta/map-rows.ts`. */
  readonly version: number;
  /** What all nodes of the cluster understand (features.ts). Rises by itself after an update, and never falls. */
  readonly featureVersion: number;
  readonly nodes: readonly ClusterNode[];
  /** Indexed by vshard id; always 256 long. */
  readonly placements: readonly Placement[];
  readonly meta: Placement;
};

/**
 * A cluster gets its id when it is founded: its name with some random digits, so that two clusters of
 * the same name are never taken for one. What operators configure is the name, or the whole id.
 */
export const isClusterNamed = (clusterId: string, name: string): boolean =>
  clusterId === name || clusterId.startsWith(`${name}-`);

/** It was asked to go: nothing counts on it any more, whether it answers or not. */
export const isDeparting = ({ state }: Pick<ClusterNode, "state">): boolean =>
  state === NodeState.Draining || state === NodeState.Removing;

/** The nodes that hold a replica, in the order of the placement. */
export const nodesOfPlacement = ({ replicas }: Placement): readonly NodeId[] =>
  replicas.map(({ replica }) => nodeOfReplica(replica));

/** The replica that a node holds, in any role. */
export const replicaOn = ({ replicas }: Placement, node: NodeId): GroupReplica | undefined =>
  replicas.find(({ replica }) => nodeOfReplica(replica) === node);

/** Placement of a vshard or of the meta group. */
export const placementOf = (map: ClusterMap, group: GroupId): Placement =>
  group < VSHARD_COUNT ? map.placements[group]! : map.meta;

/**
 * A map in which every node holds a voter of every group, and the first one is preferred as leader:
 * that of a single node, and of tests.
 */
export function fullyReplicatedMap(clusterId: string, nodes: readonly ClusterNode[]): ClusterMap {
  const place = (group: GroupId): Placement => ({
    group,
    replicas: nodes.map(({ id }) => ({ replica: replicaIdOf(id, 0), role: "voter" })),
    lastSequence: 0,
    preferredLeader: nodes[0]!.id,
  });
  return {
    clusterId,
    version: 0,
    featureVersion: FEATURE_VERSION,
    nodes,
    placements: Array.from({ length: VSHARD_COUNT }, (_, vshard) => place(vshard as GroupId)),
    meta: place(META_GROUP),
  };
}
