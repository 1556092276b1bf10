/**
 * Leadership transfer (thesis section 3.10), and the owner's hint that a peer cannot be reached.
 *
 * The leader stops taking proposals, brings the transferee's log up to its own, and tells it to
 * campaign at once (`timeoutNow`). The transferee's votes are *forced*: others answer them though they
 * hear a leader. Nothing about safety depends on it, it is an ordinary election; if the transferee is
 * not elected within an election timeout, the leader takes proposals again.
 */
import type { ReplicaId } from "#shared/ids.ts";
import { campaignByTransfer } from "./election.ts";
import { endJoint } from "./membership.ts";
import { sendAppend } from "./replication.ts";
import { NOBODY, peerOf, type RaftState } from "./state.ts";
import { type Message, ProgressState, Role, type TransferResult } from "./types.ts";

export function transferLeadership(state: RaftState, to: ReplicaId): TransferResult {
  if (state.role !== Role.Leader) return { kind: "notLeader", leader: state.leader };
  if (to === state.id) return { kind: "refused", reason: `replica ${to} leads already` };
  const peer = peerOf(state, to);
  if (peer === undefined || !state.configuration.voters.includes(to)) {
    return { kind: "refused", reason: `replica ${to} is not a voter` };
  }
  if (peer.state === ProgressState.Snapshot) {
    return { kind: "refused", reason: `replica ${to} waits for a snapshot` };
  }
  if (state.transferee === to) return { kind: "started" };
  state.transferee = to;
  state.transferElapsed = 0;
  if (!handOverIfCaughtUp(state, to)) sendAppend(state, peer, "always");
  return { kind: "started" };
}

/** It takes no proposals: what it would accept could only delay its successor. */
export const isHandingOver = (state: RaftState): boolean =>
  state.transferee !== NOBODY || state.leaving;

/** Tells the transferee to campaign, once its log is as long as the leader's. */
export function handOverIfCaughtUp(state: RaftState, from: ReplicaId): boolean {
  if (state.transferee !== from) return false;
  if (peerOf(state, from)?.match !== state.log.lastIndex) return false;
  sendTimeoutNow(state, from);
  return true;
}

export function sendTimeoutNow(state: RaftState, to: ReplicaId): void {
  const { group } = state.options;
  state.messagesNow.push({ kind: "timeoutNow", group, from: state.id, to, term: state.term });
}

/** Gives the transfer up after an election timeout: the group must not refuse writes for ever. */
export function tickTransfer(state: RaftState): void {
  if (state.transferee === NOBODY) return;
  state.transferElapsed++;
  if (state.transferElapsed < state.options.electionTicks.min) return;
  state.transferee = NOBODY;
  endJoint(state);
}

/**
 * Only the leader that this replica follows may tell it to campaign. A late or repeated copy causes
 * an election that nobody needed, and no harm.
 */
export function handleTimeoutNow(
  state: RaftState,
  message: Message & { readonly kind: "timeoutNow" },
): void {
  if (state.role !== Role.Follower || state.leader !== message.from) return;
  campaignByTransfer(state);
}

/** A message to `id` was lost on the way: what was sent behind it is better asked for again. */
export function reportUnreachable(state: RaftState, id: ReplicaId): void {
  const peer = peerOf(state, id);
  if (peer?.state === ProgressState.Replicate) peer.becomeProbe();
}
