/** What the Raft groups of a node look like at one moment, summed up. */
import type { ReplicaId } from "#shared/ids.ts";
import { type RaftStatus, Role } from "#storage-node/raft/types.ts";

export type GroupFigures = {
  groups: number;
  led: number;
  withoutLeader: number;
  /** Led groups in which a voter does not answer, and one more that did not would cost the quorum. */
  quorumAtRisk: number;
  applyLagEntries: number;
  followerLagEntries: number;
};

export type ObservedGroup = {
  readonly status: RaftStatus;
  readonly self: ReplicaId;
  /** Up to where the engine has applied. */
  readonly appliedIndex: number;
};

export function groupFigures(groups: Iterable<ObservedGroup>): GroupFigures {
  const figures: GroupFigures = {
    ...{ groups: 0, led: 0, withoutLeader: 0, quorumAtRisk: 0 },
    ...{ applyLagEntries: 0, followerLagEntries: 0 },
  };
  for (const { status, self, appliedIndex } of groups) {
    figures.groups++;
    figures.applyLagEntries = Math.max(figures.applyLagEntries, status.commit - appliedIndex);
    if (status.leader === 0) figures.withoutLeader++;
    if (status.role !== Role.Leader) continue;
    figures.led++;
    if (isQuorumAtRisk(status, self)) figures.quorumAtRisk++;
    for (const { match } of status.peers) {
      figures.followerLagEntries = Math.max(figures.followerLagEntries, status.lastIndex - match);
    }
  }
  return figures;
}

function isQuorumAtRisk({ configuration, peers }: RaftStatus, self: ReplicaId): boolean {
  const answering = new Set(peers.filter((peer) => peer.recentlyActive).map((peer) => peer.id));
  answering.add(self);
  return [configuration.voters, configuration.outgoing].some((voters) => {
    const alive = voters.filter((voter) => answering.has(voter)).length;
    const quorum = Math.floor(voters.length / 2) + 1;
    return voters.length > 0 && alive < voters.length && alive - 1 < quorum;
  });
}
