/**
 * What the reports of all nodes say of each group: who leads it, whether it has a quorum, and how far
 * its replicas are behind. Pure.
 */
import type { GroupReport, NodeStatus, ReportRequest } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap, Placement, ReplicaRole } from "#shared/cluster-map.ts";
import { type NodeId, nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import { NODE_SILENT_MS } from "#shared/limits.ts";

export type NodeReport = {
  readonly report: ReportRequest;
  readonly ageMs: number;
  readonly isFresh: boolean;
  readonly groups: ReadonlyMap<number, GroupReport>;
};

export type ReplicaView = {
  readonly node: NodeId;
  readonly role: ReplicaRole;
  /** Its node answers and has it. */
  readonly isUp: boolean;
  readonly appliedIndex: number | undefined;
  /** Entries behind the leader; undefined when no leader tells. */
  readonly lagEntries: number | undefined;
  readonly needsSnapshot: boolean;
};

export type GroupView = {
  readonly placement: Placement;
  readonly leader: NodeId | undefined;
  /** A node that may lead it has not reported yet: whether there is a leader is not known. */
  readonly isUnheard: boolean;
  readonly term: number;
  readonly hasQuorum: boolean;
  readonly commitIndex: number | undefined;
  /** Keys and values of one replica; undefined when nobody tells. */
  readonly sizeBytes: number | undefined;
  readonly objects: number | undefined;
  readonly replicas: readonly ReplicaView[];
};

export function reportsByNode(nodes: readonly NodeStatus[]): ReadonlyMap<number, NodeReport> {
  const reports = new Map<number, NodeReport>();
  for (const { report, reportAgeMs } of nodes) {
    if (report === undefined) continue;
    const ageMs = Number(reportAgeMs);
    const groups = new Map(report.groups.map((group) => [group.group, group]));
    reports.set(report.nodeId, { report, ageMs, isFresh: ageMs <= NODE_SILENT_MS, groups });
  }
  return reports;
}

/**
 * `isUnheard`: a node is there, but has not reported to the present leader of the meta group, which may
 * be new. It gets the benefit of the doubt.
 */
export const groupViews = (
  map: ClusterMap,
  reports: ReadonlyMap<number, NodeReport>,
  isUnheard: (node: NodeId) => boolean,
): readonly GroupView[] =>
  [...map.placements, map.meta].map((placement) => groupView(placement, reports, isUnheard));

function groupView(
  placement: Placement,
  reports: ReadonlyMap<number, NodeReport>,
  isUnheard: (node: NodeId) => boolean,
): GroupView {
  const led = leaderReport(placement, reports);
  const upReplicas = new Set<bigint>();
  let applied: GroupReport | undefined;
  for (const { isFresh, groups } of reports.values()) {
    const report = groups.get(placement.group);
    if (report === undefined || !isFresh) continue;
    upReplicas.add(report.replicaId);
    if (applied === undefined || report.appliedIndex > applied.appliedIndex) applied = report;
  }
  const isUp = (replica: bigint): boolean =>
    upReplicas.has(replica) || isUnheard(nodeOfReplica(Number(replica) as ReplicaId));
  const told = led ?? applied;
  return {
    placement,
    leader: led && nodeOfReplica(Number(led.replicaId) as ReplicaId),
    isUnheard:
      led === undefined &&
      placement.replicas.some(({ replica }) => isUnheard(nodeOfReplica(replica))),
    term: Number(told?.term ?? 0n),
    hasQuorum: votingSets(placement, led).every((voters) => isMajority(voters, isUp)),
    commitIndex: told && Number(told.commitIndex),
    sizeBytes: told && Number(told.sizeBytes),
    objects: told && Number(told.objects),
    replicas: placement.replicas.map(({ replica, role }) =>
      replicaView(replica, role, { led, isUp, reports, group: placement.group }),
    ),
  };
}

/** Of whoever says that it leads, in the highest term; nobody whose node has fallen silent. */
function leaderReport(
  { group }: Placement,
  reports: ReadonlyMap<number, NodeReport>,
): GroupReport | undefined {
  let found: GroupReport | undefined;
  for (const { isFresh, groups } of reports.values()) {
    const report = groups.get(group);
    if (!isFresh || report === undefined || report.leaderReplicaId !== report.replicaId) continue;
    if (found === undefined || report.term > found.term) found = report;
  }
  return found;
}

/** Each must have a majority: the leader's configuration, or what the map asks for without one. */
function votingSets(
  { replicas }: Placement,
  led: GroupReport | undefined,
): readonly (readonly bigint[])[] {
  if (led !== undefined && led.voters.length > 0) {
    return led.outgoing.length > 0 ? [led.voters, led.outgoing] : [led.voters];
  }
  const voters = replicas.filter(({ role }) => role !== "learner");
  return [voters.map(({ replica }) => BigInt(replica))];
}

const isMajority = (voters: readonly bigint[], isUp: (replica: bigint) => boolean): boolean =>
  voters.filter(isUp).length * 2 > voters.length;

function replicaView(
  replica: ReplicaId,
  role: ReplicaRole,
  known: {
    readonly led: GroupReport | undefined;
    readonly isUp: (replica: bigint) => boolean;
    readonly reports: ReadonlyMap<number, NodeReport>;
    readonly group: number;
  },
): ReplicaView {
  const { led, isUp, reports, group } = known;
  const id = BigInt(replica);
  const node = nodeOfReplica(replica);
  const own = reports.get(node)?.groups.get(group);
  const member = led?.members.find(({ replicaId }) => replicaId === id);
  return {
    node,
    role,
    isUp: isUp(id),
    appliedIndex: own?.replicaId === id ? Number(own.appliedIndex) : undefined,
    lagEntries: lagOf(id, led, member?.matchIndex),
    needsSnapshot: member?.needsSnapshot ?? false,
  };
}

function lagOf(
  replica: bigint,
  led: GroupReport | undefined,
  matchIndex: bigint | undefined,
): number | undefined {
  if (led?.replicaId === replica) return 0;
  if (led === undefined || matchIndex === undefined) return undefined;
  return Math.max(0, Number(led.lastIndex - matchIndex));
}
