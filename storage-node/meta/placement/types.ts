/**
 * What the planner is given and what it answers. No code.
 *
 * All of it are plain values: the controller at the meta group's leader gathers them from reports, calls
 * `plan`, and writes the rows that it answers under the condition that the map is still the same.
 */
import type { ClusterMap, ClusterNode, Placement } from "#shared/cluster-map.ts";
import type { GroupId, NodeId, ReplicaId, Term } from "#shared/ids.ts";
import type { Configuration } from "#storage-node/raft/types.ts";

/**
 * What is known of a node. A node without an observation is one of which nothing is known yet, because
 * the meta group's leader is new: nothing is moved to it or away from it.
 */
export type NodeObservation = {
  readonly answering: boolean;
  /** Not answering for so long that its replicas are to be rebuilt elsewhere. */
  readonly lost: boolean;
  /** Its log syncs take so long that it should not lead. */
  readonly slow: boolean;
  readonly usedBytes: number;
  /** 0 when not known. */
  readonly capacityBytes: number;
  readonly writable: boolean;
};

/** What a group's leader knows of a member. */
export type MemberObservation = {
  /** Its log is so close to the leader's that it can vote without holding the group up. */
  readonly caughtUp: boolean;
  /** It has answered lately. */
  readonly active: boolean;
};

/**
 * What the leader of a group last reported. One that is too old is left out by the caller: without an
 * observation nothing but the preferred leader of a group is changed.
 */
export type GroupObservation = {
  readonly leader: ReplicaId;
  readonly term: Term;
  readonly configuration: Configuration;
  /** A quorum of `configuration` knows it as committed, and no change is under way. */
  readonly settled: boolean;
  readonly members: ReadonlyMap<ReplicaId, MemberObservation>;
  readonly sizeBytes: number;
};

export type Observations = {
  readonly nodes: ReadonlyMap<NodeId, NodeObservation>;
  readonly groups: ReadonlyMap<GroupId, GroupObservation>;
};

export type PlannerOptions = {
  /** Voters of a vshard, where there are so many nodes. */
  readonly replicationFactor: number;
  /** Voters of the meta group, where there are so many nodes. */
  readonly metaReplicas: number;
  /** Groups whose replicas move at the same time, in the whole cluster. */
  readonly movesAtOnceMax: number;
};

export type PlannerInput = Observations & {
  readonly map: ClusterMap;
  readonly options: PlannerOptions;
};

/** Rows of the map that are to be replaced. Empty when all is as it should be. */
export type Plan = {
  /** At most one per group, each one step further. */
  readonly placements: readonly Placement[];
  readonly nodes: readonly ClusterNode[];
  /** Rows that are to go: of nodes that were to be removed and hold nothing any more. */
  readonly removedNodes: readonly NodeId[];
  /** One line per change, for people. */
  readonly reasons: readonly string[];
};
