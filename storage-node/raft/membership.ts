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
 * A leader that applies a configuration without itself still tells the members of both
 * configurations how far the log is committed, and then steps down: it would lead a group it is not
 * part of, and its own log does not count in its quorums any more.
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
import { isVoter } from "./quorum.ts";
import { confirmRounds } from "./read-index.ts";
import { sendDueAppends } from "./replication.ts";
import { becomeFollower, createPeers, NOBODY, type RaftState } from "./state.ts";
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

export function proposeConfiguration(
  state: RaftState,
  changes: readonly MemberChange[],
): ChangeResult {
  if (state.role !== Role.Leader) return { kind: "notLeader", leader: state.leader };
  if (state.transferee !== NOBODY) return { kind: "transferring", to: state.transferee };
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
  return entry;
}

/** The engine holds the effects of all entries up to and with `index`. */
export function applied(state: RaftState, index: LogIndex): void {
  const { log } = state;
  const before = log.appliedIndex;
  log.applied(index);
  const change = log.lastConfigurationIn(before, log.appliedIndex);
  if (change !== undefined) adopt(state, decodeConfiguration(change.data));
  if (state.role === Role.Leader && isJoint(state.configuration) && isSettled(state)) {
    // Also by a leader that found the joint configuration in its log: no change may get stuck in it.
    appendChange(state, leaveJoint(state.configuration));
  }
}

/** A configuration has taken effect. */
function adopt(state: RaftState, configuration: Configuration): void {
  if (state.role !== Role.Leader) {
    state.configuration = configuration;
    return;
  }
  // Whoever leaves hears for the last time how far the log is committed, so that it knows it has left.
  sendDueAppends(state);
  const known = new Set(state.peers);
  state.configuration = configuration;
  createPeers(state);
  // The new ones had no time to answer, and must not cost the leader its office at the next check.
  for (const peer of state.peers) if (!known.has(peer)) peer.recentlyActive = true;
  if (!isVoter(configuration, state.id)) {
    sendDueAppends(state);
    becomeFollower(state, state.term, NOBODY);
    return;
  }
  state.appendsDue = state.peers.length > 0;
  if (state.transferee !== NOBODY && !isVoter(configuration, state.transferee)) {
    state.transferee = NOBODY;
  }
  // A smaller quorum may be complete already.
  maybeCommit(state);
  confirmRounds(state);
}
