/** Planted bugs of changes of membership. */
import type { Mutation } from "./mutation.ts";

const CONFIGURATION = "storage-node/raft/configuration.ts";
const MEMBERSHIP = "storage-node/raft/membership.ts";
const QUORUM = "storage-node/raft/quorum.ts";

export const MEMBERSHIP_MUTATIONS: readonly Mutation[] = [
  {
    name: "11 commit under the new half alone",
    what: "In a joint configuration entries are committed by a majority of the new voters.",
    simulation: "cores",
    edits: [
      {
        file: QUORUM,
        find: "  return Math.min(value, majorityValue(configuration.outgoing, reached));",
        replace: "  return value;",
      },
    ],
  },
  {
    name: "11 election under the new half alone",
    what: "In a joint configuration the new voters alone elect a leader.",
    simulation: "cores",
    edits: [
      {
        file: QUORUM,
        find: "if (configuration.outgoing.length === 0) return incoming;",
        replace: "if (configuration.outgoing.length >= 0) return incoming;",
      },
    ],
  },
  {
    name: "11 two voters change in one step",
    what: "A change of two voters is made without a joint configuration.",
    simulation: "cores",
    edits: [
      { file: CONFIGURATION, find: "if (added + gone <= 1)", replace: "if (added + gone <= 2)" },
    ],
  },
  {
    name: "11 leader counts by a change that it has only proposed",
    what: "The leader adopts a membership with its proposal, and keeps it when the entry is cut.",
    simulation: "cores",
    edits: [
      {
        file: MEMBERSHIP,
        find: "  noticeLeaving(state);\n  return entry;",
        replace: "  adopt(state, configuration);\n  noticeLeaving(state);\n  return entry;",
      },
    ],
  },
  {
    name: "11 second change before the first is applied",
    what: "A change is planned from a membership that another change is about to replace.",
    simulation: "cores",
    edits: [
      {
        file: MEMBERSHIP,
        find: "  if (!isSettled(state)) {\n    return",
        replace: "  if (state.term < 0) {\n    return",
      },
    ],
  },
  {
    name: "12 candidate with an unapplied change",
    what: "A replica stands under the membership before a committed change.",
    simulation: "cores",
    edits: [
      {
        file: "storage-node/raft/election.ts",
        find: "return isVoter(configuration, id) && !log.hasUnappliedConfiguration();",
        replace: "return isVoter(configuration, id);",
      },
    ],
  },
  {
    name: "24 removed replica id is given out again",
    what: "A new member may have an id whose votes and acknowledgements are still remembered.",
    simulation: "cores",
    edits: [
      {
        file: CONFIGURATION,
        find: "if (!isMember && replica <= current.highestId) {",
        replace: "if (!isMember && replica < 1) {",
      },
    ],
  },
];
