/**
 * Linearizable reads by ReadIndex (thesis section 6.4), without clocks or leases.
 *
 * A read may be served at the leader's commit index once a quorum has confirmed, **after the read
 * arrived**, that this replica still leads. Reads that arrive between two Readys share a *round*: a
 * number, higher than any before in this leader's term, that heartbeats carry and replies echo. A
 * reply that names round R was caused by a heartbeat sent after R was opened, so it confirms R and
 * every earlier round; a quorum is the same arithmetic as for the commit index. Rounds are never
 * reused, replies of another term are dropped before they get here, and a retried read joins a new
 * round: no acknowledgement can be counted for a read it did not follow.
 *
 * Reads wait for the first commit of the leader's term (see `hasCommittedInTerm`). A follower
 * forwards its reads; they are given up when the leader or term changes, or after an election
 * timeout, since request or answer may be lost.
 */

import type { LogIndex } from "#shared/ids.ts";
import { READS_PENDING_PER_GROUP_MAX } from "#shared/limits.ts";
import { decidesAlone, quorumValue } from "./quorum.ts";
import type { WaitingRead } from "./reads.ts";
import { askQuorum, broadcastHeartbeat } from "./replication.ts";
import { hasCommittedInTerm, NOBODY, peerOf, type RaftState } from "./state.ts";
import { type Message, type ReadIndexResult, type ReadToken, Role } from "./types.ts";

/** Takes a read of this replica's own owner. */
export function requestRead(state: RaftState, token: ReadToken): ReadIndexResult {
  const { reads } = state;
  if (state.role === Role.Leader) {
    if (reads.pendingCount >= READS_PENDING_PER_GROUP_MAX) return { kind: "full" };
    reads.waiting.push({ token, from: state.id });
    reads.pendingCount++;
    return { kind: "pending" };
  }
  if (state.leader === NOBODY) return { kind: "notLeader", leader: NOBODY };
  if (reads.forwarded.size >= READS_PENDING_PER_GROUP_MAX) return { kind: "full" };
  reads.forwarded.set(token, reads.ticks + state.options.electionTicks.max);
  state.messagesNow.push({
    kind: "readIndex",
    group: state.options.group,
    from: state.id,
    to: state.leader,
    term: state.term,
    token,
    index: 0 as LogIndex,
  });
  return { kind: "pending" };
}

/** Takes a read that a follower forwarded, or refuses it. */
export function handleReadIndex(
  state: RaftState,
  message: Message & { readonly kind: "readIndex" | "readIndexReply" },
): void {
  const { reads } = state;
  if (state.role !== Role.Leader || reads.pendingCount >= READS_PENDING_PER_GROUP_MAX) {
    answer(state, message, 0 as LogIndex);
    return;
  }
  reads.waiting.push({ token: message.token, from: message.from });
  reads.pendingCount++;
}

/** The leader's answer to a read this replica forwarded; answers to given-up reads are ignored. */
export function handleReadIndexReply(
  state: RaftState,
  message: Message & { readonly kind: "readIndex" | "readIndexReply" },
): void {
  if (!state.reads.forwarded.delete(message.token)) return;
  if (message.index === 0) state.reads.dropped.push(message.token);
  else state.reads.confirmed.push({ token: message.token, index: message.index });
}

/** Gives up forwarded reads whose time is over. */
export function tickReads(state: RaftState): void {
  const { reads } = state;
  reads.ticks++;
  for (const [token, givenUpAt] of reads.forwarded) {
    if (givenUpAt > reads.ticks) break;
    reads.forwarded.delete(token);
    reads.dropped.push(token);
  }
}

/** Reads are waiting for which a round can be opened. */
export function canOpenRound(state: RaftState): boolean {
  return state.reads.waiting.length > 0 && hasCommittedInTerm(state);
}

/** Covers all waiting reads with one new round of heartbeats. Leader only. */
export function openRound(state: RaftState): void {
  const { reads, log } = state;
  const waiting = reads.waiting;
  reads.waiting = [];
  if (decidesAlone(state.configuration, state.id)) {
    // Nobody else can have been elected: this replica's vote is part of every quorum.
    reads.pendingCount -= waiting.length;
    for (const read of waiting) answer(state, read, log.commit);
    return;
  }
  // Higher than any before; the same for all groups of the node that open a round in this pass. The
  // node's number follows, so that what it is raised to next is higher than any that was used.
  const { readRounds } = state.options;
  reads.lastRound = Math.max(reads.lastRound + 1, readRounds?.current ?? 0);
  if (readRounds !== undefined) readRounds.current = reads.lastRound;
  reads.rounds.push({ number: reads.lastRound, index: log.commit, reads: waiting });
  // A follower that asked learns the commit index by the round, and has to be asked itself.
  const few = state.options.saveMessages === true && waiting.every(({ from }) => from === state.id);
  if (!few || !askQuorum(state)) broadcastHeartbeat(state);
}

/** Answers the reads of every round that a quorum has confirmed. */
export function confirmRounds(state: RaftState): void {
  const { reads } = state;
  if (reads.rounds.length === 0) return;
  const confirmed = quorumValue(state.configuration, (id) =>
    id === state.id ? reads.lastRound : (peerOf(state, id)?.readRoundConfirmed ?? 0),
  );
  let count = 0;
  for (const round of reads.rounds) {
    if (round.number > confirmed) break;
    for (const read of round.reads) answer(state, read, round.index);
    reads.pendingCount -= round.reads.length;
    count++;
  }
  if (count > 0) reads.rounds.splice(0, count);
}

function answer(state: RaftState, read: WaitingRead, index: LogIndex): void {
  if (read.from === state.id) {
    state.reads.confirmed.push({ token: read.token, index });
    return;
  }
  state.messagesNow.push({
    kind: "readIndexReply",
    group: state.options.group,
    from: state.id,
    to: read.from,
    term: state.term,
    token: read.token,
    index,
  });
}
