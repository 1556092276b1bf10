/**
 * The state that the modules of the core share, and the transitions of role that all of them use.
 *
 * Each module is a set of plain functions over `RaftState`: election.ts, leader.ts, follower.ts,
 * read-index.ts, step.ts (dispatch and rules of terms), ready.ts (the owner's side).
 */
import { assert } from "#shared/assert.ts";
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { checkConfiguration } from "./configuration.ts";
import { RaftLog } from "./log.ts";
import { Progress } from "./progress.ts";
import { membersOf } from "./quorum.ts";
import { createReads, dropReads, type Reads } from "./reads.ts";
import {
  type Configuration,
  type LogReset,
  type Message,
  type RaftOptions,
  Role,
} from "./types.ts";

export const NOBODY = 0 as ReplicaId;

export type RaftState = {
  readonly options: RaftOptions;
  readonly id: ReplicaId;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  readonly log: RaftLog;
  /** As of the applied index: a change takes effect when it is applied (membership.ts). */
  configuration: Configuration;

  role: Role;
  term: Term;
  vote: ReplicaId;
  leader: ReplicaId;
  /** Term and vote as last handed out for writing: what differs is written with the next Ready. */
  issuedTerm: Term;
  issuedVote: ReplicaId;
  /** Commit index as last handed out for writing, and as known to be on disk (membership.ts). */
  issuedCommit: LogIndex;
  durableCommit: LogIndex;

  /** Ticks since this replica heard of a leader or voted; a leader: since its last quorum check. */
  electionElapsed: number;
  heartbeatElapsed: number;
  /** Drawn anew at every change of role or term, so that rivals do not collide for ever. */
  electionTimeout: number;
  /** It has campaigned early once since it last heard of a leader (election.ts). */
  hasHurried: boolean;
  /** Answers to the running (pre-)campaign. */
  readonly votes: Map<ReplicaId, boolean>;

  /** All other members; only a leader's values mean anything. */
  peers: readonly Progress[];
  /** Leader: size of the entries behind the commit index. */
  uncommittedBytes: number;
  /**
   * Leader: entries or a commit index may be waiting to be sent. They leave with the next Ready, so
   * that all proposals in between share one append per follower.
   */
  appendsDue: boolean;
  /**
   * Leader: no change of membership is proposed before this index is applied. It is the last change
   * proposed, and at first the entry that opened the term: whatever the log held before may hold one.
   */
  pendingConfiguration: LogIndex;
  /**
   * Leader: the log holds a change, applied or not, by which it is no voter any more. It takes no
   * proposals, and leads on until the others can do without it (membership.ts).
   */
  leaving: boolean;
  /** Leader: to whom leadership is being handed; nobody otherwise. */
  transferee: ReplicaId;
  /** Leader: ticks since the transfer began. */
  transferElapsed: number;
  /** For the next Ready. */
  snapshotsDue: ReplicaId[];
  reset: LogReset | undefined;
  readonly reads: Reads;

  messagesNow: Message[];
  messagesAfterAppend: Message[];
};

export function createState(options: RaftOptions): RaftState {
  const { hardState, electionTicks, heartbeatTicks } = options;
  assert(options.id !== NOBODY, "a replica's id is at least 1");
  assert(electionTicks.min > heartbeatTicks, "heartbeats must come faster than elections");
  assert(electionTicks.max >= electionTicks.min, "electionTicks.max is below min");
  checkConfiguration(options.configuration);
  const { configuration, applied } = options;
  const log = new RaftLog({
    start: options.start,
    entries: options.entries,
    commit: hardState.commit,
    applied,
  });
  // A snapshot was taken over, and the term in which it came did not reach the disk any more. Without
  // that term on disk no vote was given in it.
  const termIsLost = log.resetAtOpen && applied.term > hardState.term;
  const term = termIsLost ? applied.term : hardState.term;
  assert(log.lastTerm <= term, "the log is of a later term than the hard state");
  const state: RaftState = {
    options,
    id: options.id,
    preVote: options.preVote ?? true,
    checkQuorum: options.checkQuorum ?? true,
    log,
    configuration,
    role: Role.Follower,
    term,
    vote: termIsLost ? NOBODY : hardState.vote,
    leader: NOBODY,
    issuedTerm: hardState.term,
    issuedVote: hardState.vote,
    issuedCommit: hardState.commit,
    durableCommit: hardState.commit,
    electionElapsed: 0,
    heartbeatElapsed: 0,
    electionTimeout: 0,
    hasHurried: false,
    votes: new Map(),
    peers: [],
    uncommittedBytes: 0,
    appendsDue: false,
    pendingConfiguration: 0 as LogIndex,
    leaving: false,
    transferee: NOBODY,
    transferElapsed: 0,
    snapshotsDue: [],
    reset: log.resetAtOpen ? { start: log.start, configuration, install: false } : undefined,
    reads: createReads(),
    messagesNow: [],
    messagesAfterAppend: [],
  };
  drawElectionTimeout(state);
  return state;
}

export function drawElectionTimeout(state: RaftState): void {
  const { electionTicks, random } = state.options;
  const span = electionTicks.max - electionTicks.min + 1;
  state.electionElapsed = 0;
  state.electionTimeout = electionTicks.min + random.below(span);
}

/**
 * What every change of role shares. The vote is forgotten only with its term: a replica that steps
 * down within a term must not vote a second time in it.
 */
function reset(state: RaftState, term: Term): void {
  assert(term >= state.term, "terms never go back");
  if (term !== state.term) {
    state.term = term;
    state.vote = NOBODY;
  }
  state.leader = NOBODY;
  state.heartbeatElapsed = 0;
  state.votes.clear();
  state.peers = [];
  state.uncommittedBytes = 0;
  state.appendsDue = false;
  state.leaving = false;
  state.transferee = NOBODY;
  state.snapshotsDue = [];
  dropReads(state.reads, state.id);
  drawElectionTimeout(state);
}

/**
 * The leader that this follower follows is gone, as its owner or an election timeout says: it answers
 * votes at once. It does not vote twice in the term. False when it followed nobody.
 */
export function forgetLeader(state: RaftState): boolean {
  if (state.role !== Role.Follower || state.leader === NOBODY) return false;
  state.leader = NOBODY;
  // Asked of the leader that is forgotten.
  dropReads(state.reads, state.id);
  return true;
}

export function becomeFollower(state: RaftState, term: Term, leader: ReplicaId): void {
  reset(state, term);
  state.role = Role.Follower;
  state.leader = leader;
}

/** Asks around without entering a new term: no promise is made, nothing is written. */
export function becomePreCandidate(state: RaftState): void {
  assert(state.role !== Role.Leader, "a leader does not campaign");
  reset(state, state.term);
  state.role = Role.PreCandidate;
}

export function becomeCandidate(state: RaftState): void {
  assert(state.role !== Role.Leader, "a leader does not campaign");
  reset(state, (state.term + 1) as Term);
  state.role = Role.Candidate;
  state.vote = state.id;
}

/** Takes office; the caller opens the term with an empty entry. */
export function becomeLeader(state: RaftState): void {
  assert(state.role === Role.Candidate, "only a candidate is elected");
  reset(state, state.term);
  state.role = Role.Leader;
  state.leader = state.id;
  state.hasHurried = false;
  const { log } = state;
  createPeers(state);
  state.uncommittedBytes = log.sizeBytesBetween(log.commit, log.lastIndex);
}

/** Keeps what is known of members that stay, and starts to probe those that are new. */
export function createPeers(state: RaftState): void {
  const { options, log } = state;
  const others = membersOf(state.configuration).filter((id) => id !== state.id);
  state.peers = others.map((id) => {
    const known = peerOf(state, id);
    if (known !== undefined) return known;
    return new Progress({
      id,
      next: (log.lastIndex + 1) as LogIndex,
      inflightMessagesMax: options.inflightMessagesMax,
      inflightBytesMax: options.inflightBytesMax,
    });
  });
}

export function peerOf(state: RaftState, id: ReplicaId): Progress | undefined {
  for (const peer of state.peers) if (peer.id === id) return peer;
  return undefined;
}

/**
 * The leader has committed an entry of its own term. Until then its commit index may lag behind what
 * earlier leaders committed and answered, and no read may rely on it.
 */
export function hasCommittedInTerm(state: RaftState): boolean {
  return state.log.termAt(state.log.commit) === state.term;
}
