/** Planted bugs of elections, votes, leases and reads. */
import type { Mutation } from "./mutation.ts";

const ELECTION = "storage-node/raft/election.ts";
const LEADER = "storage-node/raft/leader.ts";
const READ_INDEX = "storage-node/raft/read-index.ts";
const STATE = "storage-node/raft/state.ts";

export const ELECTION_MUTATIONS: readonly Mutation[] = [
  {
    name: "2 vote leaves before it is on disk",
    what: "The answer to a vote request leaves at once, beside the write of the vote.",
    simulation: "cores",
    edits: [
      {
        file: ELECTION,
        find: 'state.messagesAfterAppend.push({\n    kind: "voteReply"',
        replace: 'state.messagesNow.push({\n    kind: "voteReply"',
      },
    ],
  },
  {
    name: "2 vote request leaves before the own vote is on disk",
    what: "A candidate asks for votes while its new term is still being written.",
    simulation: "cores",
    edits: [
      {
        file: ELECTION,
        find: 'kind === "vote" ? state.messagesAfterAppend : state.messagesNow',
        replace: "state.messagesNow",
      },
    ],
  },
  {
    name: "2 own vote counts at once",
    what: "A candidate counts its own vote before it is on disk.",
    simulation: "cores",
    edits: [
      {
        file: ELECTION,
        find: '  requestVotes(state, { kind: "vote", term: state.term, forced });',
        replace:
          '  requestVotes(state, { kind: "vote", term: state.term, forced });\n' +
          "  countVote(state, state.id, true);",
      },
    ],
  },
  {
    name: "3 vote is forgotten with the role",
    what: "Whoever steps down within a term is free to vote in it again.",
    simulation: "cores",
    edits: [
      {
        file: STATE,
        find: "    state.vote = NOBODY;\n  }\n  state.leader = NOBODY;",
        replace: "  }\n  state.vote = NOBODY;\n  state.leader = NOBODY;",
      },
    ],
  },
  {
    name: "3 transfer gets a second vote",
    what: "A vote request that follows a transfer is granted whatever was voted before.",
    simulation: "cores",
    edits: [
      {
        file: ELECTION,
        find: "(forFutureTerm || free ||",
        replace: "(forFutureTerm || free || message.forced ||",
      },
    ],
  },
  {
    name: "7 read without asking the others",
    what: "A leader answers reads on its own word; it may have been deposed.",
    simulation: "cores",
    edits: [
      {
        file: READ_INDEX,
        find: "if (decidesAlone(state.configuration, state.id)) {",
        replace: "if (state.term > 0) {",
      },
    ],
  },
  {
    name: "7 read before the first commit of the term",
    what: "A new leader answers reads at a commit index that may lag behind its predecessor's.",
    simulation: "cores",
    edits: [
      {
        file: READ_INDEX,
        find: "state.reads.waiting.length > 0 && hasCommittedInTerm(state)",
        replace: "state.reads.waiting.length > 0",
      },
    ],
  },
  {
    name: "7 replica serves reads without asking the others",
    what: "The same under real replicas and clients.",
    simulation: "replicas",
    edits: [
      {
        file: READ_INDEX,
        find: "if (decidesAlone(state.configuration, state.id)) {",
        replace: "if (state.term > 0) {",
      },
    ],
  },
  {
    name: "7 confirmed read is served before it is applied",
    what: "A read is answered from the rows that are there, which may be older than its index.",
    simulation: "replicas",
    edits: [
      {
        file: "storage-node/replica/replica.ts",
        find: "if (waiting.index > applied) still.push(waiting);",
        replace: "if (waiting.index > applied + 1e9) still.push(waiting);",
      },
    ],
  },
  {
    name: "8 any heartbeat reply confirms the last round",
    what: "Answers to heartbeats that left before a read are counted for it.",
    simulation: "cores",
    edits: [
      {
        file: LEADER,
        find: "const readRound = Math.min(message.readRound, state.reads.lastRound);",
        replace: "const readRound = state.reads.lastRound;",
      },
    ],
  },
  {
    name: "8 read joins the round that is under way",
    what: "A later read takes part in a round that some have confirmed already, at its index.",
    simulation: "cores",
    edits: [
      {
        file: READ_INDEX,
        find: "  // Higher than any before;",
        replace:
          "  const open = reads.rounds.at(-1);\n" +
          "  if (open !== undefined) {\n" +
          "    (open.reads as WaitingRead[]).push(...waiting);\n" +
          "    return;\n" +
          "  }\n" +
          "  // Higher than any before;",
      },
    ],
  },
  {
    name: "13 learner does not vote",
    what: "A replica that takes itself for a learner leaves vote requests unanswered.",
    simulation: "cores",
    edits: [
      {
        file: ELECTION,
        find: "  const free = state.vote === NOBODY",
        replace:
          "  if (!isVoter(state.configuration, state.id)) return;\n" +
          "  const free = state.vote === NOBODY",
      },
    ],
  },
  {
    name: "22 everybody waits as long",
    what: "The election timeout is the same for all, so that rivals collide for ever.",
    simulation: "replicas",
    edits: [{ file: STATE, find: "random.below(span)", replace: "span - 1" }],
  },
  {
    name: "22 leader without an audience stays",
    what: "A leader that is heard but hears nobody never steps down, and nobody replaces it.",
    simulation: "replicas",
    edits: [
      {
        file: LEADER,
        find: "if (state.checkQuorum && !quorumIsActive(state)) {",
        replace: "if (state.checkQuorum && state.term < 0) {",
      },
    ],
  },
  {
    name: "22 a deaf replica deposes every leader",
    what: "Campaigns without a pre-vote, answered also by those who hear a leader.",
    simulation: "replicas",
    edits: [
      { file: STATE, find: "preVote: options.preVote ?? true", replace: "preVote: false" },
      {
        file: ELECTION,
        find: "if (!state.checkQuorum || state.leader === NOBODY) return false;",
        replace: "if (state.term >= 0) return false;",
      },
    ],
  },
  {
    name: "22 replica of a later term cannot come back",
    what: "A deposed leader is not told so, and one of a later term is refused for ever.",
    simulation: "cores",
    edits: [
      {
        file: "storage-node/raft/step.ts",
        find: "      refuseDeposedLeader(state, message.from);\n",
        replace: "",
      },
      {
        file: "storage-node/raft/step.ts",
        find: "import { handleAppend, handleHeartbeat, refuseDeposedLeader } from",
        replace: "import { handleAppend, handleHeartbeat } from",
      },
    ],
  },
];
