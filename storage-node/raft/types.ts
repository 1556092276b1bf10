/**
 * The words of the Raft core: entries, messages, Ready. No code.
 *
 * The core is a pure state machine: `tick`, `step`, `propose`, `readIndex` change its state, `ready`
 * says what its owner has to do, and `appended` and `applied` report back what was done.
 * Entries and their data are immutable from the moment they enter the core, and may be shared by
 * log, messages and apply without a copy.
 */
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";

/** Values are on disk: never renumber. */
export const EntryKind = { Normal: 1, Configuration: 2 } as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

export type Entry = {
  readonly index: LogIndex;
  readonly term: Term;
  readonly kind: EntryKind;
  /** Empty for the entry with which a leader opens its term. */
  readonly data: Uint8Array;
};

export type HardState = {
  readonly term: Term;
  /** Replica voted for in `term`; 0 for none. */
  readonly vote: ReplicaId;
  readonly commit: LogIndex;
};

/** Membership. `outgoing` is non-empty only during a joint change (thesis section 4.3). */
export type Configuration = {
  readonly voters: readonly ReplicaId[];
  readonly outgoing: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
  /** Learners that become learners only when the joint configuration is left. */
  readonly learnersNext: readonly ReplicaId[];
  readonly autoLeave: boolean;
};

/** The log's head after compaction: everything up to and with `index` is in the engine. */
export type LogStart = {
  readonly index: LogIndex;
  readonly term: Term;
};

/** Tag for a linearizable read, unique per attempt and replica incarnation. */
export type ReadToken = number;

/** Every message names its group, sender, receiver and the sender's term. */
type Envelope = {
  readonly group: GroupId;
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly term: Term;
};

export type Message = Envelope &
  (
    | {
        readonly kind: "preVote" | "vote";
        readonly lastIndex: LogIndex;
        readonly lastTerm: Term;
        /** The campaign ignores leases: it follows a leadership transfer. */
        readonly forced: boolean;
      }
    | { readonly kind: "preVoteReply" | "voteReply"; readonly granted: boolean }
    | {
        readonly kind: "append";
        readonly previousIndex: LogIndex;
        readonly previousTerm: Term;
        readonly entries: readonly Entry[];
        readonly commit: LogIndex;
      }
    | {
        readonly kind: "appendReply";
        /** Accepted: the last index that is now durable and matches. Rejected: `previousIndex`. */
        readonly index: LogIndex;
        readonly rejected: boolean;
        /** Rejected only: the follower's best guess of where the logs still agree. */
        readonly hintIndex: LogIndex;
        readonly hintTerm: Term;
      }
    | {
        readonly kind: "heartbeat" | "heartbeatReply";
        readonly commit: LogIndex;
        /** Highest read round that this heartbeat confirms; 0 for none. */
        readonly readRound: number;
      }
    | {
        readonly kind: "readIndex" | "readIndexReply";
        readonly token: ReadToken;
        readonly index: LogIndex;
      }
    | {
        readonly kind: "snapshot";
        readonly snapshotIndex: LogIndex;
        readonly snapshotTerm: Term;
        readonly configuration: Configuration;
      }
    | { readonly kind: "timeoutNow" }
  );

export type MessageKind = Message["kind"];

export const Role = {
  Follower: "follower",
  PreCandidate: "preCandidate",
  Candidate: "candidate",
  Leader: "leader",
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** What a batch of the log must report when it is durable; see `Raft.appended`. */
export type AppendTicket = {
  /** Last index of the batch; 0 when the batch had no entries. */
  readonly index: LogIndex;
  /** Term of the entry at `index`. */
  readonly logTerm: Term;
  /** Term of the core when the batch was issued. */
  readonly issueTerm: Term;
};

export type ReadState = { readonly token: ReadToken; readonly index: LogIndex };

/**
 * The duties of the owner, in this order:
 *
 * 1. send `messagesNow` at any time;
 * 2. write `truncateFrom`, `entries` and `hardState` as one batch behind all earlier batches;
 * 3. when that batch is durable: call `appended(ticket)`, then send `messagesAfterAppend`;
 * 4. apply `committed` in order, then call `applied(last index)`. They are durable already;
 * 5. serve each of `reads` once the applied index has reached its index.
 *
 * A Ready without `hardState`, `entries` and `truncateFrom` needs no write; `messagesAfterAppend`
 * then still waits for every earlier batch.
 */
export type Ready = {
  /** Present when term, vote or commit changed, or entries are written (durability rule 5). */
  readonly hardState: HardState | undefined;
  /** Drop the log from this index on before writing `entries`; undefined for none. */
  readonly truncateFrom: LogIndex | undefined;
  readonly entries: readonly Entry[];
  /** False when only the commit index changed: it may be written, and need not be synced. */
  readonly mustSync: boolean;
  readonly ticket: AppendTicket;
  readonly messagesNow: readonly Message[];
  readonly messagesAfterAppend: readonly Message[];
  readonly committed: readonly Entry[];
  readonly reads: readonly ReadState[];
  /** Reads that this replica can no longer confirm (it lost leadership): ask again elsewhere. */
  readonly droppedReads: readonly ReadToken[];
};

export type ProposeResult =
  | { readonly kind: "accepted"; readonly index: LogIndex; readonly term: Term }
  /** `leader` is 0 when unknown. Nothing was done. */
  | { readonly kind: "notLeader"; readonly leader: ReplicaId }
  /** Too many bytes are uncommitted. Nothing was done. */
  | { readonly kind: "full" };

export type RaftStatus = {
  readonly role: Role;
  readonly term: Term;
  readonly vote: ReplicaId;
  /** 0 when unknown. */
  readonly leader: ReplicaId;
  readonly commit: LogIndex;
  readonly applied: LogIndex;
  readonly lastIndex: LogIndex;
  /** Last index known durable on this replica. */
  readonly durableIndex: LogIndex;
  readonly logStart: LogStart;
  readonly configuration: Configuration;
};
