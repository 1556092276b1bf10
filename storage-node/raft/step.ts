/**
 * Dispatch of messages, after the rules about terms that hold for all of them.
 *
 * A message of an earlier term never changes the state. One of a later term makes this replica a
 * follower of that term, except where that would let a replica that nobody elected disturb others:
 * pre-votes (nobody has entered their term), and votes while a leader is being heard.
 */
import {
  handleVoteReply,
  handleVoteRequest,
  hearsLeader,
  learnCommit,
  refuseOldCandidate,
} from "./election.ts";
import { handleAppend, handleHeartbeat, refuseDeposedLeader } from "./follower.ts";
import { handleAppendReply, handleHeartbeatReply } from "./leader.ts";
import { handleReadIndex, handleReadIndexReply } from "./read-index.ts";
import { handleSnapshot } from "./snapshot.ts";
import { becomeFollower, NOBODY, type RaftState } from "./state.ts";
import { handleTimeoutNow } from "./transfer.ts";
import { type Message, Role } from "./types.ts";

export function step(state: RaftState, message: Message): void {
  // Meant for another group, or for an earlier replica of this node: late, not a fault.
  if (message.group !== state.options.group || message.to !== state.id) return;
  if ("commitTerm" in message) learnCommit(state, message);
  if (message.term < state.term) {
    handleEarlierTerm(state, message);
    return;
  }
  if (message.term > state.term && !enterLaterTerm(state, message)) return;
  dispatch(state, message);
}

function handleEarlierTerm(state: RaftState, message: Message): void {
  switch (message.kind) {
    case "append":
    case "heartbeat":
    case "snapshot":
      // It does not know that it was deposed; without this answer a replica of a later term, whose
      // campaigns are refused while the others hear that leader, could never rejoin.
      refuseDeposedLeader(state, message.from);
      return;
    case "preVote":
    case "vote":
      refuseOldCandidate(state, message);
      return;
    default:
      return;
  }
}

/** False when the message must be ignored. */
function enterLaterTerm(state: RaftState, message: Message): boolean {
  switch (message.kind) {
    case "preVote":
      return message.forced || !hearsLeader(state);
    case "vote":
      if (!message.forced && hearsLeader(state)) return false;
      becomeFollower(state, message.term, NOBODY);
      return true;
    case "preVoteReply":
      // A grant is of the term that was asked for; only a refusal is of a term somebody entered.
      if (!message.granted) becomeFollower(state, message.term, NOBODY);
      return true;
    case "append":
    case "heartbeat":
    case "snapshot":
      becomeFollower(state, message.term, message.from);
      return true;
    default:
      becomeFollower(state, message.term, NOBODY);
      return true;
  }
}

function dispatch(state: RaftState, message: Message): void {
  switch (message.kind) {
    case "preVote":
    case "vote":
      handleVoteRequest(state, message);
      return;
    case "preVoteReply":
    case "voteReply":
      handleVoteReply(state, message);
      return;
    case "append":
      handleAppend(state, message);
      return;
    case "heartbeat":
      handleHeartbeat(state, message);
      return;
    case "appendReply":
      if (state.role === Role.Leader) handleAppendReply(state, message);
      return;
    case "heartbeatReply":
      if (state.role === Role.Leader) handleHeartbeatReply(state, message);
      return;
    case "readIndex":
      handleReadIndex(state, message);
      return;
    case "readIndexReply":
      handleReadIndexReply(state, message);
      return;
    case "snapshot":
      handleSnapshot(state, message);
      return;
    case "timeoutNow":
      handleTimeoutNow(state, message);
      return;
    default:
      message satisfies never;
  }
}
