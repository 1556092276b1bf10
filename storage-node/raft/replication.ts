/**
 * What a leader sends: appends as far as each follower's window allows, and heartbeats.
 *
 * Appends leave at once, in parallel with the leader's own write: an entry on a quorum of followers
 * is committed even if the leader's disk is the slowest.
 */
import type { LogIndex } from "#shared/ids.ts";
import { NO_ENTRIES } from "./log.ts";
import type { Progress } from "./progress.ts";
import { majority } from "./quorum.ts";
import { openRoundNumber } from "./reads.ts";
import type { RaftState } from "./state.ts";
import { ProgressState } from "./types.ts";

/** Of one follower in a row, for which appends stand. */
const HEARTBEATS_SAVED_MAX = 2;

/**
 * Sends each follower all that its window allows, and a new commit index if nothing else did.
 *
 * With `saveMessages` a commit index that moved alone waits for the next append or heartbeat: under
 * load that saves half of all messages, and nobody who waits for an answer waits for it. A change of
 * membership is told at once, because the next one waits until it is known.
 */
export function sendDueAppends(state: RaftState): void {
  state.appendsDue = false;
  const { commit } = state.log;
  for (const peer of state.peers) {
    while (sendAppend(state, peer, "entries"));
    const replicating = peer.state === ProgressState.Replicate;
    // Behind `next - 1` the follower could not use a higher commit index yet.
    const isNews = commit > peer.commitSent && peer.commitSent < peer.next - 1;
    if (replicating && isNews && !mayWait(state, peer)) sendAppend(state, peer, "always");
  }
}

/** Whether the commit index may travel with the next heartbeat. */
function mayWait(state: RaftState, peer: Progress): boolean {
  const { log, options, leaving } = state;
  if (options.saveMessages !== true || leaving) return false;
  return log.lastConfigurationIn(peer.commitSent, log.commit) === undefined;
}

/** Sends one append: `entries` only if there are some to send, `always` also an empty one. */
export function sendAppend(state: RaftState, peer: Progress, mode: "entries" | "always"): boolean {
  if (peer.paused) return false;
  const { log, options } = state;
  const previousIndex = (peer.next - 1) as LogIndex;
  const previousTerm = log.termAt(previousIndex);
  if (previousTerm === undefined) {
    needSnapshot(state, peer);
    return false;
  }
  const blocked = peer.state === ProgressState.Replicate && peer.inflight.full;
  const entries = blocked ? NO_ENTRIES : log.slice(peer.next, options.appendBytesMax);
  if (entries.length === 0 && mode === "entries") return false;
  state.messagesNow.push({
    kind: "append",
    group: options.group,
    from: state.id,
    to: peer.id,
    term: state.term,
    previousIndex,
    previousTerm,
    entries,
    commit: log.commit,
  });
  const lastIndex = (previousIndex + entries.length) as LogIndex;
  peer.sent(entries.length, lastIndex, log.sizeBytesBetween(previousIndex, lastIndex));
  peer.commitSent = log.commit;
  return true;
}

/** The entries that `peer` needs next are compacted. A replica that is not there gets no snapshot. */
function needSnapshot(state: RaftState, peer: Progress): void {
  if (!peer.recentlyActive) {
    peer.pause();
    return;
  }
  peer.becomeSnapshot();
  state.snapshotsDue.push(peer.id);
}

/**
 * Heartbeats of the tick. With `saveMessages` an append in the same interval stands for one: it resets the
 * follower's election timeout, carries the commit index, and its reply shows that the follower is
 * there. Not for ever: only heartbeat replies say what the follower has committed, and they come
 * without waiting for its disk. Nor by a leader that leaves, which waits for what they say.
 */
export function sendDueHeartbeats(state: RaftState): void {
  const readRound = openRoundNumber(state.reads);
  const maySave = state.options.saveMessages === true && !state.leaving && readRound === 0;
  for (const peer of state.peers) {
    const appended = peer.heartbeatDue();
    if (maySave && appended && peer.heartbeatsSaved < HEARTBEATS_SAVED_MAX) {
      peer.heartbeatsSaved++;
    } else {
      peer.heartbeatsSaved = 0;
      sendHeartbeat(state, peer, readRound);
    }
  }
}

/** Opens a read round at every follower. */
export function broadcastHeartbeat(state: RaftState): void {
  const readRound = openRoundNumber(state.reads);
  for (const peer of state.peers) sendHeartbeat(state, peer, readRound);
}

/**
 * Opens a read round at as few voters as make a quorum with this one, other ones for each group. False
 * when that is not possible, or so few do not answer promptly. Should one of them not answer now, the
 * heartbeats of the next tick ask everybody.
 */
export function askQuorum(state: RaftState): boolean {
  const { voters, outgoing } = state.configuration;
  if (outgoing.length > 0 || !voters.includes(state.id)) return false;
  const needed = majority(voters.length) - 1;
  const prompt = state.peers.filter((peer) => peer.prompt && voters.includes(peer.id));
  if (prompt.length < needed) return false;
  const readRound = openRoundNumber(state.reads);
  for (let i = 0; i < needed; i++) {
    sendHeartbeat(state, prompt[(state.options.group + i) % prompt.length]!, readRound);
  }
  return true;
}

function sendHeartbeat(state: RaftState, peer: Progress, readRound: number): void {
  if (readRound > 0) peer.readRoundAsked = readRound;
  state.messagesNow.push({
    kind: "heartbeat",
    group: state.options.group,
    from: state.id,
    to: peer.id,
    term: state.term,
    // Beyond `match` the follower's log may differ from ours: it must not commit that.
    commit: Math.min(peer.match, state.log.commit) as LogIndex,
    readRound,
  });
}
