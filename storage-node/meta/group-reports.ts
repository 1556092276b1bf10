/** What a node tells the meta group of each replica that it hosts. */
import { create } from "@bufbuild/protobuf";
import { type GroupReport, GroupReportSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { PeerStatus } from "#storage-node/raft/types.ts";
import type { Replica } from "#storage-node/replica/replica.ts";

type Told = {
  readonly report: GroupReport;
  readonly term: number;
  readonly leader: number;
  readonly leads: boolean;
  readonly applied: number;
  readonly commit: number;
  readonly lastIndex: number;
};

/**
 * Builds reports, and keeps that of a replica for as long as it would be the same: with 257 groups and nothing to do,
 * building them each second was a third of what a node did.
 */
export class GroupReports {
  readonly #told = new WeakMap<Replica, Told>();

  of(replica: Replica): GroupReport {
    const told = this.#told.get(replica);
    if (told !== undefined && isStill(told, replica)) return told.report;
    const { raft, isLeader } = replica;
    const report = groupReport(replica);
    const { term, leader, commit, lastIndex } = raft;
    const applied = replica.applied.index;
    this.#told.set(replica, { report, term, leader, leads: isLeader, applied, commit, lastIndex });
    return report;
  }
}

/**
 * Whatever else is in a report comes from entries that were appended or applied, but for two things: how the others
 * stand, and with them whether the configuration is settled. Who leads others is asked each time.
 */
function isStill(told: Told, replica: Replica): boolean {
  const { raft } = replica;
  return (
    told.term === raft.term &&
    told.leader === raft.leader &&
    told.leads === replica.isLeader &&
    told.applied === replica.applied.index &&
    told.commit === raft.commit &&
    told.lastIndex === raft.lastIndex &&
    (!told.leads || (replica.alone && told.report.settled === raft.configurationSettled))
  );
}

const memberReport = (peer: PeerStatus) => ({
  replicaId: BigInt(peer.id),
  matchIndex: BigInt(peer.match),
  commitIndex: BigInt(peer.commit),
  active: peer.recentlyActive,
  needsSnapshot: peer.state === "snapshot",
});

function groupReport(replica: Replica): GroupReport {
  const { raft, machine } = replica;
  let sizeBytes = 0;
  let objects = 0;
  for (const counters of machine.counters().values()) {
    sizeBytes += counters.bytes;
    objects += counters.objects;
  }
  const common = {
    group: replica.group,
    replicaId: BigInt(raft.id),
    term: BigInt(raft.term),
    leaderReplicaId: BigInt(raft.leader),
    appliedIndex: BigInt(replica.applied.index),
    commitIndex: BigInt(raft.commit),
    lastIndex: BigInt(raft.lastIndex),
    sizeBytes: BigInt(sizeBytes),
    objects: BigInt(objects),
  };
  if (!replica.isLeader) return create(GroupReportSchema, common);
  const { peers, configuration } = raft.status();
  return create(GroupReportSchema, {
    ...common,
    voters: configuration.voters.map(BigInt),
    outgoing: configuration.outgoing.map(BigInt),
    learners: configuration.learners.map(BigInt),
    learnersNext: configuration.learnersNext.map(BigInt),
    highestReplicaId: BigInt(configuration.highestId),
    members: peers.map(memberReport),
    settled: raft.configurationSettled,
  });
}
