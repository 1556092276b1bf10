/**
 * The follower's part: accepting entries, commit index and heartbeats from the term's leader.
 *
 * Replies to appends wait until everything this replica has accepted so far is durable
 * (`messagesAfterAppend`): the leader counts them towards the commit. Heartbeat replies say only
 * that this replica has not moved to a later term, which needs no write.
 */
import { assert } from "#shared/assert.ts";
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { durablyKnownCommit } from "./membership.ts";
import { becomeFollower, NOBODY, type RaftState } from "./state.ts";
import { type Message, Role } from "./types.ts";

/** A message of the current term's leader has come. */
export function heardFromLeader(state: RaftState, from: ReplicaId): void {
  assert(state.role !== Role.Leader, `term ${state.term} has a second leader, ${from}`);
  if (state.role !== Role.Follower) {
    becomeFollower(state, state.term, from);
    return;
  }
  assert(state.leader === NOBODY || state.leader === from, "a term has one leader at most");
  state.leader = from;
  state.hasHurried = false;
  state.electionElapsed = 0;
}

export function handleAppend(
  state: RaftState,
  message: Message & { readonly kind: "append" },
): void {
  heardFromLeader(state, message.from);
  const { log } = state;
  const { previousIndex, previousTerm, entries } = message;
  // Up to the commit index every log that may lead holds the same entries; below the start their
  // terms are not even known any more. So an append that begins there matches.
  const matches = previousIndex <= log.commit || log.termAt(previousIndex) === previousTerm;
  if (!matches) {
    const hintIndex = log.lastIndexWithTermUpTo(previousIndex, previousTerm);
    replyToAppend(state, message.from, {
      index: previousIndex,
      rejected: true,
      hintIndex,
      hintTerm: log.termAt(hintIndex) ?? (0 as Term),
    });
    return;
  }
  log.merge(entries);
  // What lies behind the last entry of this message is not known to match the leader's log: it may
  // neither be acknowledged nor committed, however far our log or the leader's commit reaches.
  const lastNewIndex = Math.max(previousIndex + entries.length, log.commit) as LogIndex;
  log.commitTo(Math.min(message.commit, lastNewIndex) as LogIndex);
  replyToAppend(state, message.from, {
    index: lastNewIndex,
    rejected: false,
    hintIndex: 0 as LogIndex,
    hintTerm: 0 as Term,
  });
}

export function handleHeartbeat(
  state: RaftState,
  message: Message & { readonly kind: "heartbeat" | "heartbeatReply" },
): void {
  heardFromLeader(state, message.from);
  // The leader sends at most what this replica has acknowledged in this term. If that is missing,
  // the disk was wiped or lied: `commitTo` stops the replica.
  state.log.commitTo(message.commit);
  const commit = durablyKnownCommit(state);
  const { from, readRound } = message;
  state.messagesNow.push(heartbeatReply(state, from, commit, readRound));
  if (commit === state.log.commit) return;
  // The rest is in the batch of the next Ready at the latest. A leader that leaves waits for it.
  state.messagesAfterAppend.push(heartbeatReply(state, from, state.log.commit, 0));
}

const heartbeatReply = (
  state: RaftState,
  to: ReplicaId,
  commit: LogIndex,
  readRound: number,
): Message => ({
  kind: "heartbeatReply",
  group: state.options.group,
  from: state.id,
  to,
  term: state.term,
  commit,
  readRound,
});

type AppendVerdict = {
  readonly index: LogIndex;
  readonly rejected: boolean;
  readonly hintIndex: LogIndex;
  readonly hintTerm: Term;
};

/** Tells a leader of an earlier term that it is deposed: our term in a rejection says it all. */
export function refuseDeposedLeader(state: RaftState, to: ReplicaId): void {
  const zero = 0 as LogIndex;
  replyToAppend(state, to, { index: zero, rejected: true, hintIndex: zero, hintTerm: 0 as Term });
}

export function replyToAppend(state: RaftState, to: ReplicaId, verdict: AppendVerdict): void {
  state.messagesAfterAppend.push({
    kind: "appendReply",
    group: state.options.group,
    from: state.id,
    to,
    term: state.term,
    index: verdict.index,
    rejected: verdict.rejected,
    hintIndex: verdict.hintIndex,
    hintTerm: verdict.hintTerm,
  });
}
