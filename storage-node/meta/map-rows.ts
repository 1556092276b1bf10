/**
 * The cluster map as rows of the meta group, and changes of it as commands.
 *
 *     cluster            ClusterRecord
 *     node/<8 hex>       NodeRecord
 *     placement/<4 hex>  Placement
 *
 * in `Space.Meta` of the system tenant. Pure functions. Every command writes the row `cluster`, under
 * the condition that it has not changed since the map was read. So all changes of the map are serial:
 * whoever computed one from an older map is refused, and computes it again.
 *
 * The version of a map is the highest revision among its rows. The group's own revision will not do: the
 * directory (directory-rows.ts) lives in the same group, and its changes make no new map. It grows with each
 * change of the map and with nothing else: every change puts the row `cluster`, which is never deleted, and
 * what is put takes a revision above all that the group ever gave. And two replicas that read the same
 * version have read the same rows, because all of them apply the same changes in the same order.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  fromNodeMessage,
  fromPlacementMessage,
  toNodeMessage,
  toPlacementMessage,
} from "#proto/codec/cluster-map.ts";
import type { Condition, Mutation, MutationAction } from "#proto/codec/messages.ts";
import {
  ClusterRecordSchema,
  NodeRecordSchema,
  PlacementSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { EMPTY_BYTES, utf8, utf8Decode } from "#shared/bytes.ts";
import {
  type ClusterMap,
  type ClusterNode,
  type Placement,
  placementOf,
} from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  META_GROUP,
  type NodeId,
  type Revision,
  Space,
  SYSTEM_TENANT,
  VSHARD_COUNT,
} from "#shared/ids.ts";

export type MetaRow = {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly revision: Revision;
};

/** The map with what only the meta group's leader needs to know. */
export type MetaState = {
  readonly map: ClusterMap;
  readonly nextNodeId: NodeId;
  /** Of each node; see `NodeRecord`. */
  readonly joinTokens: ReadonlyMap<NodeId, Uint8Array>;
  /** Of the row `cluster`: 0 as long as the map has not been written. */
  readonly clusterRevision: Revision;
};

/** What of a map is to be written; the rest stays. */
export type MetaChange = {
  readonly nodes?: readonly ClusterNode[];
  readonly removedNodes?: readonly NodeId[];
  readonly placements?: readonly Placement[];
  /** For nodes that are new. */
  readonly joinTokens?: ReadonlyMap<NodeId, Uint8Array>;
  readonly nextNodeId?: NodeId;
  readonly featureVersion?: number;
};

/** Written by every change. */
export const CLUSTER_KEY = "cluster";
const NODE_PREFIX = "node/";
const PLACEMENT_PREFIX = "placement/";

const nodeKey = (id: NodeId): string => NODE_PREFIX + id.toString(16).padStart(8, "0");
const placementKey = (group: GroupId): string =>
  PLACEMENT_PREFIX + group.toString(16).padStart(4, "0");

/**
 * Reads the map out of its rows. Undefined as long as it has not been written.
 * @throws KvError DATA_CORRUPT
 */
export function readMetaState(rows: readonly MetaRow[]): MetaState | undefined {
  if (rows.length === 0) return undefined;
  let version = 0;
  const nodes: ClusterNode[] = [];
  const joinTokens = new Map<NodeId, Uint8Array>();
  const placements = new Map<GroupId, Placement>();
  let cluster: { readonly row: MetaRow } | undefined;
  try {
    for (const row of rows) {
      version = Math.max(version, row.revision);
      const name = utf8Decode(row.key);
      if (name === CLUSTER_KEY) cluster = { row };
      else if (name.startsWith(NODE_PREFIX)) {
        const { node, joinToken } = fromBinary(NodeRecordSchema, row.value);
        if (node === undefined) throw new RangeError("a node record has no node");
        const found = fromNodeMessage(node);
        nodes.push(found);
        joinTokens.set(found.id, joinToken);
      } else if (name.startsWith(PLACEMENT_PREFIX)) {
        const placement = fromPlacementMessage(fromBinary(PlacementSchema, row.value));
        placements.set(placement.group, placement);
      }
      // Rows of other names belong to later versions of minikv.
    }
    if (cluster === undefined) throw new RangeError("the row of the cluster is missing");
    const record = fromBinary(ClusterRecordSchema, cluster.row.value);
    const { clusterId, featureVersion } = record;
    return {
      map: { clusterId, version, featureVersion, nodes, ...allOf(placements) },
      nextNodeId: record.nextNodeId as NodeId,
      joinTokens,
      clusterRevision: cluster.row.revision,
    };
  } catch (error) {
    const detail = `the rows of the cluster map cannot be read: ${String(error)}`;
    throw new KvError("DATA_CORRUPT", detail, { cause: error });
  }
}

function allOf(found: ReadonlyMap<GroupId, Placement>): Pick<ClusterMap, "placements" | "meta"> {
  const placements: Placement[] = [];
  for (let vshard = 0; vshard < VSHARD_COUNT; vshard++) {
    const placement = found.get(vshard as GroupId);
    if (placement === undefined) throw new RangeError(`vshard ${vshard} has no placement`);
    placements.push(placement);
  }
  const meta = found.get(META_GROUP);
  if (meta === undefined) throw new RangeError("the meta group has no placement");
  return { placements, meta };
}

/** The state of a cluster whose map has not been written yet; its whole map is a change of it. */
export function foundingState(map: ClusterMap): MetaState {
  return { map, nextNodeId: 0 as NodeId, joinTokens: new Map(), clusterRevision: 0 as Revision };
}

/** All of a founding map, as the first change. */
export function foundingChange(
  map: ClusterMap,
  joinTokens: ReadonlyMap<NodeId, Uint8Array>,
): MetaChange {
  const highest = map.nodes.reduce((max, { id }) => Math.max(max, id), 0);
  return {
    nodes: map.nodes,
    placements: [...map.placements, map.meta],
    joinTokens,
    nextNodeId: (highest + 1) as NodeId,
  };
}

/** The map as it is after `change`, at a version that the write will decide. */
export function applyChange(state: MetaState, change: MetaChange): MetaState {
  const { map } = state;
  const nodes = new Map(map.nodes.map((node) => [node.id, node]));
  for (const node of change.nodes ?? []) nodes.set(node.id, node);
  for (const id of change.removedNodes ?? []) nodes.delete(id);
  const placements = new Map([...map.placements, map.meta].map((p) => [p.group, p]));
  for (const placement of change.placements ?? []) {
    placements.set(placement.group, numbered(placements.get(placement.group), placement));
  }
  const joinTokens = new Map([...state.joinTokens, ...(change.joinTokens ?? [])]);
  for (const id of change.removedNodes ?? []) joinTokens.delete(id);
  return {
    ...state,
    map: {
      ...map,
      featureVersion: change.featureVersion ?? map.featureVersion,
      nodes: [...nodes.values()].sort((a, b) => a.id - b.id),
      ...allOf(placements),
    },
    nextNodeId: change.nextNodeId ?? state.nextNodeId,
    joinTokens,
  };
}

/**
 * `lastSequence` 0 says that the group still has the members that founded it: whoever of them starts
 * late relies on it. So the first change of members leaves it, also when it adds nobody.
 */
function numbered(before: Placement | undefined, after: Placement): Placement {
  if (before === undefined || after.lastSequence > 0) return after;
  const { replicas } = after;
  const isSame =
    replicas.length === before.replicas.length &&
    replicas.every(({ replica }) => before.replicas.some((known) => known.replica === replica));
  return isSame ? after : { ...after, lastSequence: 1 };
}

/** The mutations of one command that makes `change` if the map is still that of `state`. */
export function changeMutations(state: MetaState, change: MetaChange): readonly Mutation[] {
  const next = applyChange(state, change);
  const cluster = create(ClusterRecordSchema, {
    clusterId: next.map.clusterId,
    featureVersion: next.map.featureVersion,
    nextNodeId: next.nextNodeId,
  });
  const isFirst = state.clusterRevision === 0;
  const condition: Condition = {
    mustBeAbsent: isFirst,
    mustExist: false,
    revisionIs: isFirst ? [] : [state.clusterRevision],
    revisionIsNot: [],
  };
  const mutations: Mutation[] = [];
  for (const node of change.nodes ?? []) {
    const joinToken = next.joinTokens.get(node.id) ?? EMPTY_BYTES;
    const record = create(NodeRecordSchema, { node: toNodeMessage(node), joinToken });
    mutations.push(mutation(nodeKey(node.id), put(toBinary(NodeRecordSchema, record))));
  }
  for (const id of change.removedNodes ?? []) {
    mutations.push(mutation(nodeKey(id), { kind: "delete" }));
  }
  for (const { group } of change.placements ?? []) {
    const value = toBinary(PlacementSchema, toPlacementMessage(placementOf(next.map, group)));
    mutations.push(mutation(placementKey(group), put(value)));
  }
  // Last, so that the version is the group's revision behind the command, also when that deletes rows.
  // All conditions of a command are evaluated before anything of it is done.
  const row = put(toBinary(ClusterRecordSchema, cluster));
  mutations.push(mutation(CLUSTER_KEY, row, condition));
  return mutations;
}

const put = (value: Uint8Array): MutationAction => ({
  kind: "put",
  value,
  contentType: "",
  ttlMs: 0,
});

function mutation(name: string, action: MutationAction, condition?: Condition): Mutation {
  return { tenant: SYSTEM_TENANT, space: Space.Meta, key: utf8(name), condition, action };
}
