/**
 * The leader's part: proposals, the commit rule, replies of followers, heartbeats, check-quorum.
 *
 * The leader counts itself only with what `appended` has reported. Replies are judged by Progress,
 * which ignores old ones. Only messages of the current term get here (step.ts).
 */
import { assert } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { LogIndex } from "#shared/ids.ts";
import { entrySizeBytes } from "./log.ts";
import { leaveIfDispensable, noticeLeaving } from "./membership.ts";
import type { Progress } from "./progress.ts";
import { quorumValue, voteOutcome } from "./quorum.ts";
import { confirmRounds } from "./read-index.ts";
import { sendAppend, sendDueHeartbeats } from "./replication.ts";
import { becomeFollower, becomeLeader, NOBODY, peerOf, type RaftState } from "./state.ts";
import { handOverIfCaughtUp, isHandingOver, tickTransfer } from "./transfer.ts";
import {
  type Entry,
  EntryKind,
  type Message,
  ProgressState,
  type ProposeResult,
  Role,
} from "./types.ts";

/**
 * Takes office and opens the term with an empty entry: entries of earlier terms become committed
 * only under an entry of this one, and reads wait for its commit.
 */
export function takeOffice(state: RaftState): void {
  becomeLeader(state);
  const { index } = appendOwn(state, EntryKind.Normal, EMPTY_BYTES);
  state.pendingConfiguration = index;
  noticeLeaving(state);
}

export function propose(state: RaftState, data: Uint8Array): ProposeResult {
  if (state.role !== Role.Leader) return { kind: "notLeader", leader: state.leader };
  if (isHandingOver(state)) return { kind: "transferring", to: state.transferee };
  const { uncommittedBytesMax } = state.options;
  const sizeBytes = state.uncommittedBytes + data.length;
  // With nothing uncommitted even an oversized proposal passes: it could never pass later.
  if (state.uncommittedBytes > 0 && sizeBytes > uncommittedBytesMax) return { kind: "full" };
  const entry = appendOwn(state, EntryKind.Normal, data);
  return { kind: "accepted", index: entry.index, term: entry.term };
}

export function appendOwn(state: RaftState, kind: EntryKind, data: Uint8Array): Entry {
  const entry: Entry = {
    index: (state.log.lastIndex + 1) as LogIndex,
    term: state.term,
    kind,
    data,
  };
  state.log.append(entry);
  state.uncommittedBytes += entrySizeBytes(entry);
  state.appendsDue = state.peers.length > 0;
  return entry;
}

/**
 * Commits what a quorum holds durably, if it ends in an entry of the leader's own term.
 *
 * An entry of an earlier term on a quorum may still be overwritten (paper, section 5.4.2, figure 8):
 * a replica with a later last term, which lacks the entry, can win an election. Once an entry of
 * the current term is on a quorum no such replica can win, and everything before it is safe too.
 */
export function maybeCommit(state: RaftState): void {
  const { log } = state;
  const index = quorumValue(state.configuration, (id) =>
    id === state.id ? log.durableIndex : (peerOf(state, id)?.match ?? 0),
  ) as LogIndex;
  if (index <= log.commit || log.termAt(index) !== state.term) return;
  state.uncommittedBytes -= log.sizeBytesBetween(log.commit, index);
  log.commitTo(index);
  state.appendsDue = state.peers.length > 0;
}

export function handleAppendReply(
  state: RaftState,
  message: Message & { readonly kind: "appendReply" },
): void {
  const peer = peerOf(state, message.from);
  if (peer === undefined) return;
  peer.recentlyActive = true;
  if (message.rejected) {
    // Both sides skip: the follower named its last entry of a term not above ours, and we skip to
    // our last entry of a term not above that one. Neither can match anything in between.
    const guess =
      message.hintTerm > 0
        ? state.log.lastIndexWithTermUpTo(message.hintIndex, message.hintTerm)
        : message.hintIndex;
    if (peer.rejected(message.index, guess)) sendAppend(state, peer, "always");
    return;
  }
  assert(message.index <= state.log.lastIndex, "a follower acknowledged what was never sent");
  const wasPipelined = peer.state === ProgressState.Replicate && !peer.paused;
  if (!peer.accepted(message.index)) return;
  if (peer.state === ProgressState.Snapshot && peer.match >= state.log.start.index) {
    peer.becomeReplicate();
  }
  maybeCommit(state);
  // All that a flowing pipeline may send it has sent, but for a commit index that did not fit before.
  const all = wasPipelined && peer.next > state.log.lastIndex;
  if (!all || state.options.saveMessages !== true) state.appendsDue = true;
  handOverIfCaughtUp(state, peer.id);
}

export function handleHeartbeatReply(
  state: RaftState,
  message: Message & { readonly kind: "heartbeat" | "heartbeatReply" },
): void {
  const peer = peerOf(state, message.from);
  if (peer === undefined) return;
  peer.recentlyActive = true;
  peer.heartbeatAnswered();
  if (peer.state === ProgressState.Snapshot && message.commit >= state.log.start.index) {
    // A late append brought it far enough after all. What it has committed it shares with us, but
    // may not have on disk: that says where to probe, not what it has acknowledged.
    peer.resumeBehind(message.commit);
  }
  const behind = peer.match < state.log.lastIndex || peer.state === ProgressState.Probe;
  if (behind && !isOnItsWay(state, peer)) sendAppend(state, peer, "always");
  if (message.commit > peer.commit) peer.commit = message.commit;
  // No reply confirms a round that this group has not opened.
  const readRound = Math.min(message.readRound, state.reads.lastRound);
  if (readRound > peer.readRoundConfirmed) {
    peer.readRoundConfirmed = readRound;
    confirmRounds(state);
  }
  if (state.leaving) leaveIfDispensable(state, peer, message.commit);
}

/** All that the follower lacks was sent, and not so long ago that it should have answered. */
function isOnItsWay(state: RaftState, peer: Progress): boolean {
  if (state.options.saveMessages !== true || peer.state !== ProgressState.Replicate) return false;
  return peer.next > state.log.lastIndex && !peer.overdue;
}

/** A leader that decides alone and has no followers does nothing here: idle groups cost nothing. */
export function tickLeader(state: RaftState): void {
  if (state.peers.length === 0) return;
  tickTransfer(state);
  state.electionElapsed++;
  if (state.electionElapsed >= state.options.electionTicks.min) {
    state.electionElapsed = 0;
    if (state.checkQuorum && !quorumIsActive(state)) {
      // A majority may follow someone else by now: stop answering as if leading.
      becomeFollower(state, state.term, NOBODY);
      return;
    }
  }
  state.heartbeatElapsed++;
  if (state.heartbeatElapsed >= state.options.heartbeatTicks) {
    state.heartbeatElapsed = 0;
    sendDueHeartbeats(state);
  }
}

/** Whether a quorum has answered since the last time this was asked. */
function quorumIsActive(state: RaftState): boolean {
  const active = new Map([[state.id, true]]);
  for (const peer of state.peers) {
    active.set(peer.id, peer.recentlyActive);
    peer.activeBefore = peer.recentlyActive;
    peer.recentlyActive = false;
  }
  return voteOutcome(state.configuration, active) === "won";
}

export function compactionIndex(state: RaftState, retainedBytesMax: number): LogIndex {
  const { log, peers } = state;
  let floor: LogIndex = state.role === Role.Leader ? log.lastIndex : (0 as LogIndex);
  for (const peer of peers) {
    // Behind a snapshot on its way the follower goes on with the log.
    const has = Math.max(peer.match, peer.pendingSnapshot) as LogIndex;
    if (has < floor) floor = has;
  }
  return log.compactionIndex(floor, retainedBytesMax);
}
