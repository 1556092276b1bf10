/**
 * The cluster as `GET /admin/status` shows it: made of the map and of the nodes' reports. Pure.
 *
 * Without a leader of the meta group nobody has all reports. Then the gateway shows what it knows itself:
 * its map, and which nodes it reaches. `source` says which of the two it is; what is not known is null.
 */
import { fromMapMessage } from "#proto/codec/cluster-map.ts";
import type { GetClusterStatusResponse } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { type ClusterMap, type ClusterNode, isDeparting } from "#shared/cluster-map.ts";
import { toldFeatureVersion } from "#shared/features.ts";
import { type GroupId, META_GROUP, type NodeId, nodeOfReplica } from "#shared/ids.ts";
import { LATENCY_BOUNDS_MS } from "#shared/latency-histogram.ts";
import { type GatewayFiguresJson, nodeFiguresJson } from "./figures.ts";
import { type GroupView, groupViews, type NodeReport, reportsByNode } from "./groups.ts";

/** JSON as it is sent: snake_case, null for what is not known. */
export type StatusJson = ReturnType<typeof statusJson>;

const groupName = (group: GroupId): number | "meta" => (group === META_GROUP ? "meta" : group);

export type LeaderStatus = {
  readonly response: GetClusterStatusResponse;
  /** Whether this gateway reaches a node: all that is known of those that have not reported yet. */
  readonly isReachable: (node: NodeId) => boolean;
  readonly withGroups: boolean;
  readonly gateway?: GatewayFiguresJson | undefined;
};

/** @throws KvError DATA_CORRUPT when the response holds no usable map. */
export function statusFromLeader(told: LeaderStatus) {
  const { response, isReachable, withGroups, gateway } = told;
  const reports = reportsByNode(response.nodes);
  return statusJson({
    map: fromMapMessage(response.map),
    reports,
    isReachable,
    metaLeader: response.metaLeaderNodeId === 0 ? undefined : response.metaLeaderNodeId,
    reason: undefined,
    blocked: new Map(response.blocked.map(({ nodeId, reason }) => [nodeId, reason])),
    withGroups,
    gateway,
  });
}

export type OwnStatus = {
  readonly map: ClusterMap;
  readonly isReachable: (node: NodeId) => boolean;
  readonly reason: string;
  readonly gateway?: GatewayFiguresJson | undefined;
};

/** What this gateway sees by itself, and why it has to. */
export const statusFromGateway = (own: OwnStatus) =>
  statusJson({
    reports: new Map(),
    metaLeader: undefined,
    blocked: new Map(),
    withGroups: false,
    gateway: undefined,
    ...own,
  });

type Known = {
  readonly map: ClusterMap;
  readonly reports: ReadonlyMap<number, NodeReport>;
  readonly isReachable: (node: NodeId) => boolean;
  readonly metaLeader: number | undefined;
  /** Why there are no reports; undefined when there are. */
  readonly reason: string | undefined;
  /** Why nodes that depart cannot go on. */
  readonly blocked: ReadonlyMap<number, string>;
  readonly withGroups: boolean;
  readonly gateway: GatewayFiguresJson | undefined;
};

function statusJson(known: Known) {
  const { map, reports, reason, isReachable } = known;
  const isUnheard = (node: NodeId): boolean => !reports.has(node) && isReachable(node);
  const groups = groupViews(map, reports, isUnheard);
  const vshards = groups.slice(0, -1);
  const isReported = reason === undefined;
  const numbers = (views: readonly GroupView[]) => views.map(({ placement }) => placement.group);
  const leaderless = vshards.filter((view) => view.leader === undefined && !view.isUnheard);
  return {
    cluster_id: map.clusterId,
    map_version: map.version,
    feature_version: map.featureVersion,
    source: isReported ? ("meta_leader" as const) : ("gateway" as const),
    reason: reason ?? null,
    meta: {
      leader: known.metaLeader ?? null,
      has_quorum: groups.at(-1)!.hasQuorum,
      nodes: map.meta.replicas.map(({ replica }) => nodeOfReplica(replica)),
    },
    nodes: map.nodes.map((node) => nodeJson(node, groups, known)),
    vshards: {
      count: vshards.length,
      without_leader: isReported ? numbers(leaderless) : null,
      without_quorum: numbers(vshards.filter((view) => !view.hasQuorum)),
      size_bytes: total(vshards.map(({ sizeBytes }) => sizeBytes)),
      objects: total(vshards.map(({ objects }) => objects)),
    },
    lag: worstLag(groups),
    moves: groups.filter(isMoving).map(moveJson),
    latency_bounds_ms: LATENCY_BOUNDS_MS,
    gateway: known.gateway ?? null,
    ...(known.withGroups ? { groups: groups.map(groupJson) } : {}),
  };
}

function nodeJson(node: ClusterNode, groups: readonly GroupView[], known: Known) {
  const { id, address, zone, host, state } = node;
  const { blocked } = known;
  const reported = known.reports.get(id);
  const { report, ageMs } = reported ?? {};
  const placed = groups.flatMap(({ replicas }) => replicas.filter((one) => one.node === id));
  const led = groups.filter(({ leader }) => leader === id).length;
  const lags = placed.map(({ lagEntries }) => lagEntries ?? 0);
  return {
    id,
    address,
    zone,
    host,
    state,
    answering: reported?.isFresh ?? known.isReachable(id),
    report_age_ms: ageMs ?? null,
    replicas: placed.length,
    leaders: report ? led : null,
    lag_entries_max: report ? Math.max(0, ...lags) : null,
    used_bytes: report ? Number(report.usedBytes) : null,
    capacity_bytes: Number(report?.capacityBytes ?? 0n) || node.capacityBytes,
    sync_micros: report?.syncMicros ?? null,
    writable: report?.writable ?? null,
    map_version: report ? Number(report.mapVersion) : null,
    software_version: report?.softwareVersion ?? null,
    feature_version: report ? toldFeatureVersion(report.featureVersion) : null,
    figures: nodeFiguresJson(report?.figures),
    drain: isDeparting(node)
      ? {
          replicas_left: placed.length,
          leaders_left: report ? led : null,
          blocked: blocked.get(id) ?? null,
        }
      : null,
  };
}

/** Undefined parts count as nothing; null when no part is known. */
function total(parts: readonly (number | undefined)[]): number | null {
  const known = parts.filter((part) => part !== undefined);
  return known.length === 0 ? null : known.reduce((sum, part) => sum + part, 0);
}

function worstLag(groups: readonly GroupView[]) {
  let worst: { group: number | "meta"; node: NodeId; entries: number } | null = null;
  for (const { placement, replicas } of groups) {
    for (const { node, lagEntries = 0 } of replicas) {
      if (lagEntries <= (worst?.entries ?? 0)) continue;
      worst = { group: groupName(placement.group), node, entries: lagEntries };
    }
  }
  return worst;
}

const isMoving = ({ replicas }: GroupView): boolean =>
  replicas.some(({ role }) => role !== "voter");

function moveJson({ placement, replicas }: GroupView) {
  return {
    group: groupName(placement.group),
    to: replicas
      .filter(({ role }) => role === "learner")
      .map(({ node, lagEntries, needsSnapshot }) => ({
        node,
        lag_entries: lagEntries ?? null,
        needs_snapshot: needsSnapshot,
      })),
    from: replicas.filter(({ role }) => role === "leaving").map(({ node }) => node),
  };
}

function groupJson(view: GroupView) {
  return {
    group: groupName(view.placement.group),
    leader: view.leader ?? null,
    preferred_leader: view.placement.preferredLeader || null,
    has_quorum: view.hasQuorum,
    term: view.term,
    commit_index: view.commitIndex ?? null,
    size_bytes: view.sizeBytes ?? null,
    objects: view.objects ?? null,
    replicas: view.replicas.map((replica) => ({
      node: replica.node,
      role: replica.role,
      up: replica.isUp,
      applied_index: replica.appliedIndex ?? null,
      lag_entries: replica.lagEntries ?? null,
      needs_snapshot: replica.needsSnapshot,
    })),
  };
}
