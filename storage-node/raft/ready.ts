/**
 * The owner's side: what is to be done (`takeReady`), and what was done (`appended`).
 */

import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { READY_COMMITTED_BYTES_MAX } from "#shared/limits.ts";
import { ownVoteIsDurable } from "./election.ts";
import { maybeCommit } from "./leader.ts";
import { hasCommittedChangeAfter } from "./membership.ts";
import { canOpenRound, openRound } from "./read-index.ts";
import { sendDueAppends } from "./replication.ts";
import type { RaftState } from "./state.ts";
import {
  type AppendTicket,
  type Message,
  type ReadState,
  type ReadToken,
  type Ready,
  Role,
} from "./types.ts";

const NO_MESSAGES: readonly Message[] = Object.freeze([]);
const NO_READS: readonly ReadState[] = Object.freeze([]);
const NO_TOKENS: readonly ReadToken[] = Object.freeze([]);
const NO_REPLICAS: readonly ReplicaId[] = Object.freeze([]);

/**
 * Of a Ready that writes nothing: there is nothing it could vouch for, and reporting it does nothing
 * (in term 0 there is no candidate and no leader).
 */
const NO_TICKET: AppendTicket = Object.freeze({
  index: 0 as LogIndex,
  logTerm: 0 as Term,
  issueTerm: 0 as Term,
  commit: 0 as LogIndex,
});

function hardStateChanged(state: RaftState): boolean {
  return state.term !== state.issuedTerm || state.vote !== state.issuedVote;
}

/** A few comparisons: it is asked of every group of a node, again and again. */
export function hasReady(state: RaftState): boolean {
  const { log, reads } = state;
  return (
    state.messagesNow.length > 0 ||
    state.messagesAfterAppend.length > 0 ||
    state.appendsDue ||
    state.snapshotsDue.length > 0 ||
    state.reset !== undefined ||
    log.hasUnissued ||
    log.hasUnhandedCommitted ||
    hardStateChanged(state) ||
    reads.confirmed.length > 0 ||
    reads.dropped.length > 0 ||
    canOpenRound(state)
  );
}

export function takeReady(state: RaftState): Ready {
  const { log, reads } = state;
  if (canOpenRound(state)) openRound(state);
  if (state.appendsDue) sendDueAppends(state);
  const { truncateFrom, entries } = log.takeUnissued();
  const { reset, snapshotsDue, messagesNow, messagesAfterAppend } = state;
  const write =
    entries.length > 0 ||
    reset !== undefined ||
    hardStateChanged(state) ||
    hasCommittedChangeAfter(state, state.issuedCommit);
  const { confirmed, dropped } = reads;
  const ready: Ready = {
    reset,
    // All entries up to the commit index are in this batch or an earlier one, so that recovery
    // never finds a commit index beyond its log.
    hardState: write ? { term: state.term, vote: state.vote, commit: log.commit } : undefined,
    truncateFrom,
    entries,
    mustSync: write,
    ticket: write ? issueTicket(state) : NO_TICKET,
    messagesNow: messagesNow.length > 0 ? messagesNow : NO_MESSAGES,
    messagesAfterAppend: messagesAfterAppend.length > 0 ? messagesAfterAppend : NO_MESSAGES,
    committed: log.takeCommitted(READY_COMMITTED_BYTES_MAX),
    reads: confirmed.length > 0 ? confirmed : NO_READS,
    droppedReads: dropped.length > 0 ? dropped : NO_TOKENS,
    snapshotsDue: snapshotsDue.length > 0 ? snapshotsDue : NO_REPLICAS,
  };
  state.reset = undefined;
  if (snapshotsDue.length > 0) state.snapshotsDue = [];
  if (messagesNow.length > 0) state.messagesNow = [];
  if (messagesAfterAppend.length > 0) state.messagesAfterAppend = [];
  if (confirmed.length > 0) reads.confirmed = [];
  if (dropped.length > 0) reads.dropped = [];
  return ready;
}

/**
 * The ticket names the last entry issued so far, also when this batch has no entries of its own: a
 * change of term makes the tickets of batches still under way stale, and the batch that carries the
 * new term then vouches for them, since batches become durable in order.
 */
function issueTicket(state: RaftState): AppendTicket {
  const { log } = state;
  state.issuedTerm = state.term;
  state.issuedVote = state.vote;
  state.issuedCommit = log.commit;
  const index = log.issuedIndex;
  const known = index <= log.durableIndex;
  return {
    index: known ? (0 as LogIndex) : index,
    logTerm: known ? (0 as Term) : log.termAt(index)!,
    issueTerm: state.term,
    commit: log.commit,
  };
}

/**
 * A batch is durable. Why a ticket can never vouch for entries other than those on disk:
 *
 * Suppose entry i of term t is issued, then replaced by one of term u, then by the first again (two
 * changes of leader). The first batch's ticket would find "index i, term t" in the log, although
 * the disk is about to hold u there. Hence the term of issue. Within one term T, only T's leader
 * changes the log (this replica itself, or the one it follows), and that leader's own log only
 * grows. So once an entry has been replaced within T, its successor stays for the rest of T, and
 * has another term: the comparison of `logTerm` catches a ticket issued before the replacement.
 * Tickets of an earlier term are ignored altogether. Every change of term writes a hard state, whose
 * ticket (of the new term, see `issueTicket`) vouches for what they would have.
 *
 * If the entry at the ticket's index is the one that was issued, so is everything before it: two
 * logs that agree on index and term of one entry agree on all before it (log matching).
 *
 * A candidate's own vote: its term began with that vote, so any batch issued in this term carries
 * it or follows the one that does.
 */
export function appended(state: RaftState, ticket: AppendTicket): void {
  // What is committed stays so, in whatever term the batch was issued.
  if (ticket.commit > state.durableCommit) state.durableCommit = ticket.commit;
  if (ticket.issueTerm !== state.term) return;
  if (ticket.index > 0) state.log.markDurable(ticket.index, ticket.logTerm);
  if (state.role === Role.Candidate) ownVoteIsDurable(state);
  else if (state.role === Role.Leader) maybeCommit(state);
}
