/** Planted bugs of replication: the log, its marks on the way to the disk, progress, snapshots. */
import type { Mutation } from "./mutation.ts";

const FOLLOWER = "storage-node/raft/follower.ts";
const LEADER = "storage-node/raft/leader.ts";
const LOG = "storage-node/raft/log.ts";
const PROGRESS = "storage-node/raft/progress.ts";
const READY = "storage-node/raft/ready.ts";
const SNAPSHOT = "storage-node/raft/snapshot.ts";

export const LOG_MUTATIONS: readonly Mutation[] = [
  {
    name: "1 copies of any term are counted",
    what: "An entry on a quorum is committed although it is of an earlier leader's term.",
    simulation: "cores",
    edits: [
      {
        file: LEADER,
        find: "if (index <= log.commit || log.termAt(index) !== state.term) return;",
        replace: "if (index <= log.commit) return;",
      },
    ],
  },
  {
    name: "4 append is acknowledged at once",
    what: "The reply to an append leaves beside the write of its entries.",
    simulation: "cores",
    edits: [
      {
        file: FOLLOWER,
        find: 'state.messagesAfterAppend.push({\n    kind: "appendReply"',
        replace: 'state.messagesNow.push({\n    kind: "appendReply"',
      },
    ],
  },
  {
    name: "4 leader counts itself at once",
    what: "A leader counts its own copy of an entry before it is on its disk.",
    simulation: "cores",
    edits: [
      {
        file: LEADER,
        find: "id === state.id ? log.durableIndex",
        replace: "id === state.id ? log.lastIndex",
      },
    ],
  },
  {
    name: "4 replica acknowledges an append at once",
    what: "The same under real replicas, logs and clients.",
    simulation: "replicas",
    edits: [
      {
        file: FOLLOWER,
        find: 'state.messagesAfterAppend.push({\n    kind: "appendReply"',
        replace: 'state.messagesNow.push({\n    kind: "appendReply"',
      },
    ],
  },
  {
    name: "5 append replaces all behind its beginning",
    what: "Entries that are there already are cut and written again, and with them what follows.",
    simulation: "cores",
    edits: [{ file: LOG, find: "      if (known === entry.term) continue;\n", replace: "" }],
  },
  {
    name: "6 commit by probe without a bound",
    what: "A follower commits its own log's end, which an append without entries does not vouch for.",
    simulation: "cores",
    edits: [
      {
        file: "storage-node/raft/replication.ts",
        find: "const blocked = peer.state === ProgressState.Replicate && peer.inflight.full;",
        replace: "const blocked = peer.state === ProgressState.Probe || peer.inflight.full;",
      },
      {
        file: FOLLOWER,
        find: "log.commitTo(Math.min(message.commit, lastNewIndex) as LogIndex);",
        replace: "log.commitTo(Math.min(message.commit, log.lastIndex) as LogIndex);",
      },
    ],
  },
  {
    name: "6 commit by heartbeat without a bound",
    what: "A heartbeat carries the leader's commit index to followers that do not match so far.",
    simulation: "cores",
    edits: [
      {
        file: "storage-node/raft/replication.ts",
        find: "commit: Math.min(peer.match, state.log.commit) as LogIndex,",
        replace: "commit: state.log.commit,",
      },
      {
        file: FOLLOWER,
        find: "state.log.commitTo(message.commit);",
        replace: "state.log.commitTo(Math.min(message.commit, state.log.lastIndex) as LogIndex);",
      },
    ],
  },
  {
    name: "9 snapshot replaces what is newer",
    what: "A late snapshot takes the replica back behind what it has committed and applied.",
    simulation: "cores",
    edits: [
      {
        file: SNAPSHOT,
        find: "if (snapshotIndex > log.commit) {",
        replace: "if (snapshotIndex !== log.commit) {",
      },
      {
        file: LOG,
        find: '    assert(start.index > this.#commit, "a snapshot never replaces what is known to be committed");\n',
        replace: "",
      },
    ],
  },
  {
    name: "9 conflicting rest stays behind the snapshot",
    what: "Entries behind a snapshot are kept although the log does not agree with it.",
    simulation: "cores",
    edits: [
      {
        file: LOG,
        find: "    this.#start = start;\n    this.#entries = [];\n    this.#cutFrom = undefined;",
        replace:
          "    const behind = Math.max(0, start.index - this.#start.index);\n" +
          "    this.#entries = this.#entries.slice(behind);\n" +
          "    this.#start = start;\n" +
          "    this.#cutFrom = undefined;",
      },
    ],
  },
  {
    name: "9 log as long as the snapshot is taken for the same",
    what: "A log that reaches the snapshot's index is kept, whatever entry it has there.",
    simulation: "cores",
    edits: [
      {
        file: SNAPSHOT,
        find: "if (log.termAt(snapshotIndex) === snapshotTerm) {",
        replace: "if (log.lastIndex >= snapshotIndex) {",
      },
    ],
  },
  {
    name: "10 log that reaches beyond the snapshot is kept",
    what: "At a start only the length of the log is compared with the state, not its entry.",
    open: "a longer log must conflict, and the process end between the snapshot's rows and the log's reset",
    simulation: "cores",
    edits: [
      {
        file: LOG,
        find: "if (this.termAt(applied.index) !== applied.term) {",
        replace: "if (applied.index > this.lastIndex) {",
      },
    ],
  },
  {
    name: "10 log on disk is not reset",
    what: "The log is aligned with the snapshot in memory, and stays as it was on disk.",
    simulation: "cores",
    edits: [
      {
        file: "storage-node/raft/state.ts",
        find: "log.resetAtOpen ? { start: log.start, configuration, install: false } : undefined",
        replace: "undefined",
      },
    ],
  },
  {
    name: "14 write of an earlier term counts",
    what: "A batch issued in an earlier term vouches for what the log holds now.",
    simulation: "cores",
    edits: [
      {
        file: READY,
        find: "  if (ticket.issueTerm !== state.term) return;\n",
        replace: "",
      },
    ],
  },
  {
    name: "14 write counts whatever it wrote",
    what: "A batch vouches for an index although another entry has taken it since.",
    simulation: "cores",
    edits: [
      {
        file: LOG,
        find: "if (index > this.#issued || this.termAt(index) !== term) return;",
        replace: "if (index > this.#issued || term < 0) return;",
      },
    ],
  },
  {
    name: "14 write counts whatever and whenever it wrote",
    what: "Neither the term of issue nor that of the entry is compared.",
    simulation: "cores",
    edits: [
      {
        file: READY,
        find: "  if (ticket.issueTerm !== state.term) return;\n",
        replace: "",
      },
      {
        file: LOG,
        find: "if (index > this.#issued || this.termAt(index) !== term) return;",
        replace: "if (index > this.#issued || term < 0) return;",
      },
    ],
  },
  {
    name: "15 late acknowledgement moves match back",
    what: "Whatever a follower acknowledged last is taken for all that it has.",
    simulation: "cores",
    edits: [
      {
        file: PROGRESS,
        find: "if (index < this.match || (index === this.match && !probing)) return false;",
        replace: "if (index === this.match && !probing) return false;",
      },
    ],
  },
  {
    name: "15 late rejection moves next back",
    what: "A rejection that was answered long ago begins the probing again, below match.",
    simulation: "cores",
    edits: [
      {
        file: PROGRESS,
        find: "if (rejected <= this.match || this.state === ProgressState.Snapshot) return false;",
        replace: "if (this.state === ProgressState.Snapshot) return false;",
      },
      { file: PROGRESS, find: "    if (rejected !== this.next - 1) return false;\n", replace: "" },
      {
        file: PROGRESS,
        find: "this.next = Math.max(Math.min(rejected, guess + 1), this.match + 1) as LogIndex;",
        replace: "this.next = Math.max(Math.min(rejected, guess + 1), 1) as LogIndex;",
      },
    ],
  },
  {
    name: "23 acknowledged appends stay in the window",
    what: "The window counts appends that were answered, until nothing can be sent any more.",
    simulation: "cores",
    edits: [{ file: PROGRESS, find: "      this.inflight.freeThrough(index);\n", replace: "" }],
  },
  {
    name: "23 lost append pauses for ever",
    what: "A heartbeat reply does not let anything through, so nothing follows a lost append.",
    simulation: "cores",
    edits: [
      {
        file: LEADER,
        find: "  peer.heartbeatAnswered();\n",
        replace: "",
      },
    ],
  },
];
