/**
 * Nodes, maps and observations for tests of the planner: everything is well unless a test says otherwise.
 */
import {
  type ClusterMap,
  type ClusterNode,
  NodeState,
  type Placement,
} from "#shared/cluster-map.ts";
import {
  type GroupId,
  type NodeId,
  nodeOfReplica,
  type ReplicaId,
  type Term,
} from "#shared/ids.ts";
import type {
  GroupObservation,
  NodeObservation,
  PlannerInput,
  PlannerOptions,
} from "#storage-node/meta/placement/types.ts";
import { initialPlacements } from "#storage-node/meta/planner.ts";
import type { Configuration } from "#storage-node/raft/types.ts";

export const MiB = 2 ** 20;
export const OPTIONS: PlannerOptions = { replicationFactor: 3, metaReplicas: 3, movesAtOnceMax: 4 };

export const makeNode = (id: number, more: Partial<ClusterNode> = {}): ClusterNode => ({
  id: id as NodeId,
  address: `127.0.0.1:${7000 + id}`,
  zone: "",
  host: "",
  state: NodeState.Up,
  capacityBytes: 0,
  ...more,
});

export const makeNodes = (count: number): ClusterNode[] =>
  Array.from({ length: count }, (_, i) => makeNode(i + 1));

/** A founded cluster, of the first `vshards` vshards only: the planner does not mind. */
export function makeMap(
  nodes: readonly ClusterNode[],
  { options = OPTIONS, vshards = 256 }: { options?: PlannerOptions; vshards?: number } = {},
): ClusterMap {
  const { placements, meta } = initialPlacements(nodes, options);
  return {
    clusterId: "test",
    version: 1,
    featureVersion: 1,
    nodes,
    placements: placements.slice(0, vshards),
    meta,
  };
}

export const WELL: NodeObservation = {
  answering: true,
  lost: false,
  slow: false,
  usedBytes: 0,
  capacityBytes: 0,
  writable: true,
};
export const SILENT: NodeObservation = { ...WELL, answering: false };
export const LOST: NodeObservation = { ...SILENT, lost: true };

/** The configuration of a group that has carried out its row. */
export function configurationOf({ replicas }: Placement): Configuration {
  const ids = (role: string) =>
    replicas.filter((replica) => replica.role === role).map(({ replica }) => replica);
  const highestId = replicas.reduce((max, { replica }) => (replica > max ? replica : max), 0);
  return {
    voters: ids("voter"),
    outgoing: [],
    learners: ids("learner"),
    learnersNext: [],
    highestId: highestId as ReplicaId,
  };
}

/** What the leader of a group reports; whoever is on one of `silent` is neither caught up nor active. */
export function observe(
  configuration: Configuration,
  { silent = [], sizeBytes = 100 * MiB }: { silent?: readonly number[]; sizeBytes?: number } = {},
): GroupObservation {
  const isSilent = (id: ReplicaId) => silent.includes(nodeOfReplica(id));
  const ids = [...configuration.voters, ...configuration.learners];
  return {
    leader: configuration.voters.find((id) => !isSilent(id))!,
    term: 1 as Term,
    configuration,
    settled: true,
    members: new Map(ids.map((id) => [id, { caughtUp: !isSilent(id), active: !isSilent(id) }])),
    sizeBytes,
  };
}

/** All nodes are well and all groups have carried out their rows, but for what is overridden. */
export function makeInput(
  map: ClusterMap,
  overrides: {
    readonly options?: Partial<PlannerOptions>;
    readonly nodes?: Readonly<Record<number, NodeObservation>>;
    readonly sizeBytes?: (group: GroupId) => number;
  } = {},
): PlannerInput {
  const states = overrides.nodes ?? {};
  const silent = Object.keys(states)
    .map(Number)
    .filter((id) => !states[id]!.answering);
  const size = overrides.sizeBytes ?? (() => 100 * MiB);
  return {
    map,
    nodes: new Map(map.nodes.map(({ id }) => [id, states[id] ?? WELL])),
    groups: new Map(
      [...map.placements, map.meta].map((placement) => [
        placement.group,
        observe(configurationOf(placement), { silent, sizeBytes: size(placement.group) }),
      ]),
    ),
    options: { ...OPTIONS, ...overrides.options },
  };
}

/** The map with the rows of a plan. */
export function withRows(
  map: ClusterMap,
  rows: {
    readonly placements?: readonly Placement[];
    readonly nodes?: readonly ClusterNode[];
    readonly removedNodes?: readonly NodeId[];
  },
): ClusterMap {
  const placement = (old: Placement): Placement =>
    rows.placements?.find(({ group }) => group === old.group) ?? old;
  return {
    ...map,
    version: map.version + 1,
    nodes: map.nodes
      .filter(({ id }) => !rows.removedNodes?.includes(id))
      .map((old) => rows.nodes?.find(({ id }) => id === old.id) ?? old),
    placements: map.placements.map(placement),
    meta: placement(map.meta),
  };
}

export const nodesOf = (placement: Placement): readonly number[] =>
  placement.replicas.map(({ replica }) => nodeOfReplica(replica)).sort((a, b) => a - b);

export const rolesOf = (placement: Placement): string =>
  placement.replicas.map(({ replica, role }) => `${nodeOfReplica(replica)} ${role}`).join(", ");

export const replicaCounts = (map: ClusterMap): ReadonlyMap<number, number> => {
  const counts = new Map<number, number>(map.nodes.map(({ id }) => [id, 0]));
  for (const placement of map.placements) {
    for (const node of nodesOf(placement)) counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
};

export const leaderCounts = (map: ClusterMap): ReadonlyMap<number, number> => {
  const counts = new Map<number, number>(map.nodes.map(({ id }) => [id, 0]));
  for (const { preferredLeader } of map.placements) {
    counts.set(preferredLeader, (counts.get(preferredLeader) ?? 0) + 1);
  }
  return counts;
};

export const difference = (counts: ReadonlyMap<number, number>): number =>
  Math.max(...counts.values()) - Math.min(...counts.values());
