/**
 * What the nodes of the cluster last reported, as the leader of the meta group keeps it: in memory only,
 * so a new leader first has to hear from everybody.
 */
import type { GroupReport, ReportRequest } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { GroupId, NodeId, ReplicaId, Term } from "#shared/ids.ts";
import { CAUGHT_UP_ENTRIES_MAX, NODE_SILENT_MS } from "#shared/limits.ts";
import type { GroupObservation, NodeObservation } from "./planner.ts";

type Received = {
  readonly report: ReportRequest;
  readonly atMs: number;
  /** Looks of this node before it. */
  readonly looks: number;
};

/**
 * Silence is only what this node has looked out for so often. One that has stood still, or had no
 * processor, finds the others' reports waiting: to take its own pause for their silence would move
 * all leaders at once, when the cluster is busiest.
 */
const SILENT_LOOKS_MIN = 20;

/**
 * A log sync that takes so long, smoothed, makes a node slow if others do not have the same. It stays so
 * until it is well below: leaders that leave take load with them, and must not come back with the relief.
 */
const SLOW = { syncMicros: 100_000, factor: 10 } as const;
const STILL_SLOW = { syncMicros: 50_000, factor: 5 } as const;

export class Reports {
  readonly #byNode = new Map<NodeId, Received>();
  readonly #slow = new Set<NodeId>();
  /** Since when silence counts. */
  #sinceMs = 0;
  #sinceLooks = 0;
  #looks = 0;

  /** Forgets everything: this node has begun to lead the meta group. */
  begin(nowMs: number): void {
    this.#byNode.clear();
    this.#slow.clear();
    this.#sinceMs = nowMs;
    this.#sinceLooks = this.#looks;
  }

  /** The event loop has come round: what had arrived has been taken. */
  look(): void {
    this.#looks++;
  }

  take(report: ReportRequest, nowMs: number): void {
    const node = report.nodeId as NodeId;
    this.#byNode.set(node, { report, atMs: nowMs, looks: this.#looks });
    const { syncMicros, factor } = this.#slow.has(node) ? STILL_SLOW : SLOW;
    const isSlow =
      report.syncMicros >= syncMicros && report.syncMicros >= factor * this.#usualSyncMicros(nowMs);
    if (isSlow) this.#slow.add(node);
    else this.#slow.delete(node);
  }

  /** Forgets the nodes that are not among `ids`: they were removed. */
  keepOnly(ids: readonly NodeId[]): void {
    for (const node of [...this.#byNode.keys()]) {
      if (ids.includes(node)) continue;
      this.#byNode.delete(node);
      this.#slow.delete(node);
    }
  }

  all(): ReadonlyMap<NodeId, Received> {
    return this.#byNode;
  }

  /** Milliseconds since the node was last heard of, or since this node would have heard of it. */
  silentMs(node: NodeId, nowMs: number): number {
    return nowMs - (this.#byNode.get(node)?.atMs ?? this.#sinceMs);
  }

  #isSilent(node: NodeId, nowMs: number): boolean {
    const looks = this.#looks - (this.#byNode.get(node)?.looks ?? this.#sinceLooks);
    return this.silentMs(node, nowMs) >= NODE_SILENT_MS && looks >= SILENT_LOOKS_MIN;
  }

  nodes(
    ids: readonly NodeId[],
    nowMs: number,
    rebuildAfterMs: number,
  ): ReadonlyMap<NodeId, NodeObservation> {
    const found = new Map<NodeId, NodeObservation>();
    for (const id of ids) {
      const report = this.#byNode.get(id)?.report;
      const isSilent = this.#isSilent(id, nowMs);
      // Not heard of yet, which says nothing: it may never have been up.
      if (report === undefined && !isSilent) continue;
      found.set(id, {
        answering: !isSilent,
        lost: isSilent && this.silentMs(id, nowMs) >= rebuildAfterMs,
        slow: this.#slow.has(id),
        usedBytes: Number(report?.usedBytes ?? 0n),
        capacityBytes: Number(report?.capacityBytes ?? 0n),
        writable: report?.writable ?? true,
      });
    }
    return found;
  }

  /** Of the nodes that answer: what the others said last may be long over. */
  #usualSyncMicros(nowMs: number): number {
    const all = [...this.#byNode.values()]
      .filter(({ atMs }) => nowMs - atMs < NODE_SILENT_MS)
      .map(({ report }) => report.syncMicros);
    all.sort((a, b) => a - b);
    return all[Math.floor((all.length - 1) / 2)] ?? 0;
  }

  /** What the leaders of the groups say, as far as that is recent. */
  groups(nowMs: number): ReadonlyMap<GroupId, GroupObservation> {
    const found = new Map<GroupId, GroupObservation>();
    for (const [node, { report }] of this.#byNode) {
      if (this.#isSilent(node, nowMs)) continue;
      for (const group of report.groups) {
        if (group.leaderReplicaId !== group.replicaId || group.voters.length === 0) continue;
        const observed = observationOf(group);
        const other = found.get(group.group as GroupId);
        // A deposed leader may not know it yet.
        if (other === undefined || other.term < observed.term) {
          found.set(group.group as GroupId, observed);
        }
      }
    }
    return found;
  }
}

const ids = (values: readonly bigint[]): ReplicaId[] => values.map((id) => Number(id) as ReplicaId);

function observationOf(group: GroupReport): GroupObservation {
  const members = new Map<ReplicaId, { caughtUp: boolean; active: boolean }>();
  for (const member of group.members) {
    const behind = Number(group.lastIndex - member.matchIndex);
    members.set(Number(member.replicaId) as ReplicaId, {
      // Where the log is short, one that has nothing yet is not far behind: it must have answered once.
      caughtUp: !member.needsSnapshot && member.matchIndex > 0n && behind <= CAUGHT_UP_ENTRIES_MAX,
      active: member.active,
    });
  }
  const self = Number(group.replicaId) as ReplicaId;
  members.set(self, { caughtUp: true, active: true });
  return {
    leader: self,
    term: Number(group.term) as Term,
    configuration: {
      voters: ids(group.voters),
      outgoing: ids(group.outgoing),
      learners: ids(group.learners),
      learnersNext: ids(group.learnersNext),
      highestId: Number(group.highestReplicaId) as ReplicaId,
    },
    settled: group.settled,
    members,
    sizeBytes: Number(group.sizeBytes),
  };
}
