/**
 * Changes of membership: proposing them, and what applying one does.
 *
 * A configuration takes effect when its entry is **applied**, on every replica. Why that is safe, with
 * leader and followers at different ones:
 *
 * - A change moves one voter at most, or passes through a joint configuration, so that a quorum of a
 *   configuration and one of its successor always share a voter (configuration.ts).
 * - A leader proposes a change only when all changes before it are applied here, and so committed
 *   under their predecessors. Whoever applies configuration n+1 knows it as committed by a quorum of
 *   configuration n. An election or a commit under n+2 needs n+2 committed, which needs a quorum of
 *   n+1, which needs n+1 committed by a quorum of n. So a leader that still counts by n finds, in
 *   every quorum of n, somebody who has moved to a later term or holds the change.
 * - Nobody campaigns with a committed change unapplied (election.ts), and the commit index is on disk
 *   with the entries (durability rule 5): who campaigns is behind by one configuration at most.
 *
 * A leader that is no voter of the next configuration takes no proposals from the moment that the
 * change is in its log. When it has applied it, it leads on, without counting itself, until a voter of
 * the new configuration says that it knows the change as committed; then it tells that one to campaign,
 * and steps down. Both are needed so that the group can go on without it:
 *
 * - If it stepped down before anybody knew of the commit, the others would still count by the old
 *   configuration, and might need the vote of a replica that is about to be destroyed.
 * - If its log went on behind the change, it could refuse that vote to logs that end there.
 *
 * An owner may destroy a removed replica only when the change is known to a quorum of the new
 * configuration, for the same reason. And what they know they must not forget: a replica that restarts
 * with the change in its log, and not as committed, counts by the old configuration again, and may need
 * the vote of the one that was destroyed. So a committed change is written to the hard state at once, and
 * counts as known (`durablyKnownCommit`) when that is durable.
 */
import type { LogIndex } from "#shared/ids.ts";
import {
  decodeConfiguration,
  encodeConfiguration,
  isJoint,
  leaveJoint,
  planChange,
} from "./configuration.ts";
import { appendOwn, maybeCommit } from "./leader.ts";
import type { Progress } from "./progress.ts";
import { isVoter, quorumValue } from "./quorum.ts";
import { confirmRounds } from "./read-index.ts";
import { broadcastHeartbeat, sendDueAppends } from "./replication.ts";
import { becomeFollower, createPeers, NOBODY, peerOf, type RaftState } from "./state.ts";
import { isHandingOver, sendTimeoutNow } from "./transfer.ts";
import {
  type ChangeResult,
  type Configuration,
  EntryKind,
  type MemberChange,
  Role,
} from "./types.ts";

/** Every change so far, also those of earlier leaders, is applied here. */
const isSettled = (state: RaftState): boolean =>
  state.log.appliedIndex >= state.pendingConfiguration;

/**
 * No change is under way, and a quorum of the configuration knows it as committed. From then on who was
 * removed by it is needed by nobody, and may be destroyed.
 */
export function isConfigurationSettled(state: RaftState): boolean {
  const { configuration, pendingConfiguration } = state;
  if (state.role !== Role.Leader || state.leaving || isJoint(configuration)) return false;
  if (!isSettled(state)) return false;
  const known = quorumValue(configuration, (id) =>
    id === state.id ? durablyKnownCommit(state) : (peerOf(state, id)?.commit ?? 0),
  );
  return known >= pendingConfiguration;
}

/** A change of membership behind `index` is committed. */
export const hasCommittedChangeAfter = ({ log }: RaftState, index: LogIndex): boolean =>
  log.lastConfigurationIn(index, log.commit) !== undefined;

/**
 * The commit index as far as a restart would not forget a change of membership in it. A snapshot that is
 * being installed may bring changes that the log does not show.
 */
export function durablyKnownCommit(state: RaftState): LogIndex {
  const { log, durableCommit } = state;
  const mayBeForgotten = log.installing || hasCommittedChangeAfter(state, durableCommit);
  return mayBeForgotten ? durableCommit : log.commit;
}

export function proposeConfiguration(
  state: RaftState,
  changes: readonly MemberChange[],
): ChangeResult {
  if (state.role !== Role.Leader) return { kind: "notLeader", leader: state.leader };
  if (isHandingOver(state)) return { kind: "transferring", to: state.transferee };
  if (!isSettled(state)) {
    return { kind: "refused", reason: "an earlier change of membership is not yet applied" };
  }
  const plan = planChange(state.configuration, changes);
  if (plan.kind === "refused") return plan;
  const { index, term } = appendChange(state, plan.configuration);
  return { kind: "accepted", index, term };
}

function appendChange(state: RaftState, configuration: Configuration) {
  const entry = appendOwn(state, EntryKind.Configuration, encodeConfiguration(configuration));
  state.pendingConfiguration = entry.index;
  noticeLeaving(state);
  return entry;
}

/** Looks for a change behind the applied index by which this leader is no voter any more. */
export function noticeLeaving(state: RaftState): void {
  const { log } = state;
  const change = log.lastConfigurationIn(log.appliedIndex, log.lastIndex);
  if (change === undefined) return;
  state.leaving = !isVoter(decodeConfiguration(change.data), state.id);
}

/** `peer` has said what it knows as committed: perhaps it can take the group over. */
export function leaveIfDispensable(state: RaftState, peer: Progress, commit: LogIndex): void {
  const { configuration, log } = state;
  // Not applied yet: it is still a voter. A later change would have put `pendingConfiguration` higher.
  if (isVoter(configuration, state.id)) return;
  if (!isVoter(configuration, peer.id) || commit < state.pendingConfiguration) return;
  if (peer.match === log.lastIndex) sendTimeoutNow(state, peer.id);
  becomeFollower(state, state.term, NOBODY);
}

/** The engine holds the effects of all entries up to and with `index`. */
export function applied(state: RaftState, index: LogIndex): void {
  const { log } = state;
  const before = log.appliedIndex;
  log.applied(index);
  const change = log.lastConfigurationIn(before, log.appliedIndex);
  if (change !== undefined) adopt(state, decodeConfiguration(change.data));
  endJoint(state);
}

/**
 * Leaves the joint configuration, also one that this leader found in its log: no change may get stuck
 * in it. Not while leadership is handed over: the successor's log would be behind the others', and
 * it leaves it as well.
 */
export function endJoint(state: RaftState): void {
  if (state.role !== Role.Leader || !isJoint(state.configuration)) return;
  if (!isSettled(state) || state.transferee !== NOBODY) return;
  appendChange(state, leaveJoint(state.configuration));
}

/** A configuration has taken effect. */
function adopt(state: RaftState, configuration: Configuration): void {
  if (state.role !== Role.Leader) {
    state.configuration = configuration;
    return;
  }
  // Whoever leaves hears for the last time how far the log is committed, so that it knows it has left;
  // by heartbeat too, which no full window holds up. The answers say who knows of the commit.
  sendDueAppends(state);
  broadcastHeartbeat(state);
  const known = new Set(state.peers);
  state.configuration = configuration;
  createPeers(state);
  // The new ones had no time to answer, and must not cost the leader its office at the next check.
  for (const peer of state.peers) if (!known.has(peer)) peer.recentlyActive = true;
  state.appendsDue = state.peers.length > 0;
  if (state.transferee !== NOBODY && !isVoter(configuration, state.transferee)) {
    state.transferee = NOBODY;
  }
  // A smaller quorum may be complete already.
  maybeCommit(state);
  confirmRounds(state);
}
