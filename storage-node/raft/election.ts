/**
 * Elections: pre-vote, vote, and who may stand.
 *
 * - A campaign first asks whether it could win (pre-vote), so that a replica which was cut off does
 *   not disturb a working leader with its higher term when it comes back.
 * - The own vote counts only when it is durable; see `ownVoteIsDurable`.
 * - Vote requests, too, leave only after the hard state is durable. Otherwise a candidate that
 *   crashes before its write could come back with a shorter log, campaign in the same term again,
 *   and win with grants that were given to its former, longer log.
 */
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { takeOffice } from "./leader.ts";
import { isVoter, voteOutcome } from "./quorum.ts";
import {
  becomeCandidate,
  becomeFollower,
  becomePreCandidate,
  drawElectionTimeout,
  forgetLeader,
  NOBODY,
  type RaftState,
} from "./state.ts";
import { type Message, Role } from "./types.ts";

/** Also the leader itself, and everybody who heard from one within the shortest timeout. */
export function hearsLeader(state: RaftState): boolean {
  if (!state.checkQuorum || state.leader === NOBODY) return false;
  return state.electionElapsed < state.options.electionTicks.min;
}

/**
 * Whether this replica may stand. With a committed change of membership not yet applied it does not
 * know the configuration it would have to win under (a replica could be two changes behind). The same
 * holds while a snapshot is being installed.
 */
function mayStand(state: RaftState): boolean {
  const { role, log, configuration, id } = state;
  if (role === Role.Leader || log.installing) return false;
  return isVoter(configuration, id) && !log.hasUnappliedConfiguration();
}

export function campaign(state: RaftState): boolean {
  if (!mayStand(state)) return false;
  if (!state.preVote) {
    startElection(state, false);
    return true;
  }
  becomePreCandidate(state);
  // A pre-vote promises nothing, so the own one needs no write.
  state.votes.set(state.id, true);
  if (voteOutcome(state.configuration, state.votes) === "won") {
    startElection(state, false);
  } else {
    requestVotes(state, { kind: "preVote", term: (state.term + 1) as Term, forced: false });
  }
  return true;
}

/** The leader wants this replica in its place: no pre-vote, and the others do not wait for it. */
export function campaignByTransfer(state: RaftState): void {
  if (mayStand(state)) startElection(state, true);
}

function startElection(state: RaftState, forced: boolean): void {
  becomeCandidate(state);
  requestVotes(state, { kind: "vote", term: state.term, forced });
}

type VoteRequest = {
  readonly kind: "preVote" | "vote";
  readonly term: Term;
  readonly forced: boolean;
};

function requestVotes(state: RaftState, { kind, term, forced }: VoteRequest): void {
  const { voters, outgoing } = state.configuration;
  const queue = kind === "vote" ? state.messagesAfterAppend : state.messagesNow;
  const known = knownCommit(state);
  for (const to of new Set([...voters, ...outgoing])) {
    if (to === state.id) continue;
    queue.push({
      kind,
      group: state.options.group,
      from: state.id,
      to,
      term,
      lastIndex: state.log.lastIndex,
      lastTerm: state.log.lastTerm,
      forced,
      ...known,
    });
  }
}

const knownCommit = ({ log }: RaftState) => ({
  commit: log.commit,
  commitTerm: log.termAt(log.commit)!,
});

/**
 * The sender knows an entry as committed that this log holds: so it is. Without this a group could be
 * stuck after a change of membership: those who know of it need the vote of one who does not, has the
 * longer log and so refuses, and may not stand by the configuration that it knows.
 *
 * Index and term name one entry in all logs, and that it is committed never changes; hence it does not
 * matter in which term the message was sent.
 */
export function learnCommit(
  state: RaftState,
  { commit, commitTerm }: { readonly commit: LogIndex; readonly commitTerm: Term },
): void {
  if (state.role === Role.Leader || state.log.termAt(commit) !== commitTerm) return;
  if (!state.log.commitTo(commit) || state.role === Role.Follower) return;
  // It counts votes by a configuration that it now knows to be old.
  if (!mayStand(state)) becomeFollower(state, state.term, NOBODY);
}

/** The hard state with this candidate's vote for itself has reached the disk. */
export function ownVoteIsDurable(state: RaftState): void {
  if (state.role !== Role.Candidate || state.votes.has(state.id)) return;
  countVote(state, state.id, true);
}

/**
 * Answers a request that is not of an earlier term. Any replica votes, also one that takes itself
 * for a learner or for removed: it may just not have seen its promotion yet, and its vote may be
 * needed.
 */
export function handleVoteRequest(
  state: RaftState,
  message: Message & { readonly kind: "preVote" | "vote" },
): void {
  const { log } = state;
  const free = state.vote === NOBODY && state.leader === NOBODY;
  const forFutureTerm = message.kind === "preVote" && message.term > state.term;
  const granted =
    (forFutureTerm || free || state.vote === message.from) &&
    log.isUpToDate(message.lastIndex, message.lastTerm);
  if (message.kind === "preVote") {
    replyPreVote(state, message.from, granted ? message.term : state.term, granted);
    return;
  }
  if (granted) {
    state.vote = message.from;
    state.electionElapsed = 0;
  }
  replyVote(state, message.from, granted);
}

/** Lets a candidate of an earlier term know the present one. */
export function refuseOldCandidate(
  state: RaftState,
  message: Message & { readonly kind: "preVote" | "vote" },
): void {
  if (message.kind === "preVote") replyPreVote(state, message.from, state.term, false);
  else replyVote(state, message.from, false);
}

function replyPreVote(state: RaftState, to: ReplicaId, term: Term, granted: boolean): void {
  state.messagesNow.push({
    kind: "preVoteReply",
    group: state.options.group,
    from: state.id,
    to,
    term,
    granted,
    ...knownCommit(state),
  });
}

/** A vote is a promise: it leaves only once it is durable. */
function replyVote(state: RaftState, to: ReplicaId, granted: boolean): void {
  state.messagesAfterAppend.push({
    kind: "voteReply",
    group: state.options.group,
    from: state.id,
    to,
    term: state.term,
    granted,
    ...knownCommit(state),
  });
}

export function handleVoteReply(
  state: RaftState,
  message: Message & { readonly kind: "preVoteReply" | "voteReply" },
): void {
  if (message.kind === "voteReply") {
    if (state.role !== Role.Candidate) return;
    countVote(state, message.from, message.granted);
    if (!message.granted) hurryAfterSplit(state);
    return;
  }
  if (state.role !== Role.PreCandidate) return;
  // A grant names the term it was asked for. One for another term answers an earlier campaign.
  if (message.granted && message.term !== state.term + 1) return;
  countVote(state, message.from, message.granted);
}

function countVote(state: RaftState, from: ReplicaId, granted: boolean): void {
  // The first answer stands: a repeated or contradicting one changes nothing.
  if (!state.votes.has(from)) state.votes.set(from, granted);
  const outcome = voteOutcome(state.configuration, state.votes);
  if (outcome === "won") {
    if (state.role === Role.PreCandidate) startElection(state, false);
    else takeOffice(state);
  } else if (outcome === "lost") {
    becomeFollower(state, state.term, NOBODY);
  }
}

/**
 * Somebody else stood in this term, too. With one of three members gone neither can win, and neither
 * will hear that it has lost: they would wait for one more election timeout, and the group with them.
 * So the next campaign comes soon, at a time that each draws for itself. It disturbs nobody who has
 * won meanwhile: pre-votes are not answered by those who hear a leader.
 *
 * Once only, until a leader is heard of: where messages take longer than what is drawn here, candidates
 * that always hurry would meet for ever.
 */
function hurryAfterSplit(state: RaftState): void {
  if (!state.preVote || state.hasHurried || state.role === Role.Leader) return;
  state.hasHurried = true;
  const { electionTicks, random } = state.options;
  const soon = 1 + random.below(Math.max(1, Math.floor(electionTicks.min / 2)));
  state.electionTimeout = Math.min(state.electionTimeout, state.electionElapsed + soon);
}

export function tickElection(state: RaftState): void {
  state.electionElapsed++;
  if (state.electionElapsed < state.electionTimeout) return;
  if (campaign(state)) return;
  // It may not stand, and asks again after another timeout. The leader it followed is gone: to go on
  // as if it had just been heard would withhold this vote from those who may stand.
  forgetLeader(state);
  drawElectionTimeout(state);
}
