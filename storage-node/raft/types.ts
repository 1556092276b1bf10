/**
 * The words of the Raft core: entries, messages, Ready. No code.
 *
 * The core is a pure state machine: `tick`, `step`, `propose`, `readIndex` change its state, `ready`
 * says what its owner has to do, and `appended` and `applied` report back what was done.
 * Entries and their data are immutable from the moment they enter the core, and may be shared by
 * log, messages and apply without a copy.
 */
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";

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

/**
 * Membership. `outgoing` is non-empty only during a joint change (thesis section 4.3), which the
 * leader ends by itself as soon as it has applied it.
 */
export type Configuration = {
  readonly voters: readonly ReplicaId[];
  readonly outgoing: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
  /** Learners that become learners only when the joint configuration is left. */
  readonly learnersNext: readonly ReplicaId[];
  /** The highest id that any member ever had. A new member has a higher one: none is ever reused. */
  readonly highestId: ReplicaId;
};

/** What one replica is to become. One that is no member yet can become voter or learner. */
export type MemberChange = {
  readonly replica: ReplicaId;
  readonly to: "voter" | "learner" | "removed";
};

/** The log's head after compaction: everything up to and with `index` is in the engine. */
export type LogStart = {
  readonly index: LogIndex;
  readonly term: Term;
};

/** Tag for a linearizable read, unique per attempt and replica incarnation. */
export type ReadToken = number;

/**
 * Every message names its group, sender, receiver and the sender's term. One exception: a `preVote`
 * and a granted `preVoteReply` carry the term in which the campaign would be held, which nobody has
 * entered yet.
 */
type Envelope = {
  readonly group: GroupId;
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly term: Term;
};

/**
 * What the sender knows as committed, with that entry's term. A receiver whose log holds this very
 * entry learns of the commit; that is how a change of membership becomes known when its leader is gone.
 */
type KnownCommit = {
  readonly commit: LogIndex;
  readonly commitTerm: Term;
};

export type Message = Envelope &
  (
    | (KnownCommit & {
        readonly kind: "preVote" | "vote";
        readonly lastIndex: LogIndex;
        readonly lastTerm: Term;
        /** The campaign ignores leases: it follows a leadership transfer. */
        readonly forced: boolean;
      })
    | (KnownCommit & { readonly kind: "preVoteReply" | "voteReply"; readonly granted: boolean })
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
        /** In a heartbeat not above what the follower acknowledged; in a reply the follower's own. */
        readonly commit: LogIndex;
        /** Highest read round that the reply to this heartbeat confirms; 0 for none. Echoed. */
        readonly readRound: number;
      }
    | {
        /** A follower forwards a read to its leader, which answers with the index to wait for. */
        readonly kind: "readIndex" | "readIndexReply";
        /** The follower's own token; the leader only echoes it. */
        readonly token: ReadToken;
        /** 0 in a request. 0 in a reply: the read was refused, ask again. */
        readonly index: LogIndex;
      }
    | {
        /**
         * Made by `Raft.offerSnapshot`. The state itself travels beside it, and the receiver's owner
         * hands the message to its core only once it has the state complete, verified and on disk.
         */
        readonly kind: "snapshot";
        readonly snapshotIndex: LogIndex;
        readonly snapshotTerm: Term;
        readonly configuration: Configuration;
      }
    /** The leader hands its office over: campaign at once. */
    | { readonly kind: "timeoutNow" }
  );

export const Role = {
  Follower: "follower",
  PreCandidate: "preCandidate",
  Candidate: "candidate",
  Leader: "leader",
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** What a batch of the log must report when it is durable; see `Raft.appended`. */
export type AppendTicket = {
  /**
   * Last index that is on disk once this batch and all earlier ones are; 0 when that is known
   * already. A batch without entries can carry an index: it then vouches for earlier batches whose
   * own tickets became stale through a change of term.
   */
  readonly index: LogIndex;
  /** Term of the entry at `index`; 0 when `index` is 0. */
  readonly logTerm: Term;
  /** Term of the core when the batch was issued; 0 for a Ready that needs no write. */
  readonly issueTerm: Term;
  /** The commit index that the batch holds; 0 for a Ready that needs no write. */
  readonly commit: LogIndex;
};

export type ReadState = { readonly token: ReadToken; readonly index: LogIndex };

/**
 * The log is to be emptied and to go on behind `start`.
 *
 * `install`: the engine must first take over the snapshot received for `start`, durably and as a
 * whole, which replaces everything it holds of the group. Otherwise the engine holds that state
 * already: the process ended between taking it over and this write.
 */
export type LogReset = {
  readonly start: LogStart;
  /** Of the group as of `start`. */
  readonly configuration: Configuration;
  readonly install: boolean;
};

/**
 * The duties of the owner, in this order:
 *
 * 1. send `messagesNow` at any time;
 * 2. `reset.install`: let the engine take over the received snapshot; nothing handed out earlier may
 *    be applied any more;
 * 3. write `reset`, `truncateFrom`, `entries` and `hardState` as one batch behind all earlier batches;
 * 4. when that batch is durable: call `appended(ticket)`, then send `messagesAfterAppend`; after an
 *    installation call `applied(reset.start.index)`;
 * 5. apply `committed` in order, then call `applied(last index)`. They are durable already;
 * 6. serve each of `reads` once the applied index has reached its index;
 * 7. make a snapshot for each of `snapshotsDue`: see `Raft.offerSnapshot`.
 *
 * A Ready without `reset`, `hardState`, `entries` and `truncateFrom` (`mustSync` is false) needs no
 * write and no `appended`; its `messagesAfterAppend` still wait for every earlier batch.
 */
export type Ready = {
  readonly reset: LogReset | undefined;
  /**
   * Present when term or vote changed, entries are written (durability rule 5), or a change of
   * membership was committed. Any other commit index alone is never written: a restarted replica learns
   * it again from its leader, and an idle group writes nothing.
   */
  readonly hardState: HardState | undefined;
  /** Drop the log from this index on before writing `entries`; undefined for none. */
  readonly truncateFrom: LogIndex | undefined;
  readonly entries: readonly Entry[];
  /** There is something to write, and it must be synced before `appended`. */
  readonly mustSync: boolean;
  readonly ticket: AppendTicket;
  readonly messagesNow: readonly Message[];
  readonly messagesAfterAppend: readonly Message[];
  readonly committed: readonly Entry[];
  readonly reads: readonly ReadState[];
  /** Reads that this replica can no longer confirm (it lost leadership): ask again elsewhere. */
  readonly droppedReads: readonly ReadToken[];
  /** Members that need entries which this leader has compacted, each named once per need. */
  readonly snapshotsDue: readonly ReplicaId[];
};

export type ProposeResult =
  | { readonly kind: "accepted"; readonly index: LogIndex; readonly term: Term }
  /** `leader` is 0 when unknown. Nothing was done. */
  | { readonly kind: "notLeader"; readonly leader: ReplicaId }
  /** Too many bytes are uncommitted. Nothing was done. */
  | { readonly kind: "full" }
  /**
   * Leadership is being handed to `to`; 0: to whoever is elected, because this leader leaves the
   * group. Nothing was done: ask again, here or there.
   */
  | { readonly kind: "transferring"; readonly to: ReplicaId };

/** As `ProposeResult`, or a change that cannot be made now or at all; `reason` says why. */
export type ChangeResult =
  | Exclude<ProposeResult, { readonly kind: "full" }>
  | { readonly kind: "refused"; readonly reason: string };

export type TransferResult =
  | { readonly kind: "started" }
  | { readonly kind: "notLeader"; readonly leader: ReplicaId }
  | { readonly kind: "refused"; readonly reason: string };

/** The outcome follows in `Ready.reads` or `Ready.droppedReads`, unless the read was not taken. */
export type ReadIndexResult =
  | { readonly kind: "pending" }
  /** Neither leader nor follower of a known leader. Nothing was done. */
  | { readonly kind: "notLeader"; readonly leader: ReplicaId }
  /** Too many reads are waiting. Nothing was done. */
  | { readonly kind: "full" };

export type RaftOptions = {
  readonly group: GroupId;
  readonly id: ReplicaId;
  /** As of `applied`. */
  readonly configuration: Configuration;
  readonly hardState: HardState;
  readonly start: LogStart;
  /** Durable, consecutive, from `start.index + 1`. The core takes a copy of the array. */
  readonly entries: readonly Entry[];
  /**
   * The last entry whose effects the engine holds; at least `start`. If the log does not hold that
   * entry, the engine has taken over a snapshot and the process ended before the log was reset: the
   * log is dropped (`Ready.reset`). An owner that finds such a gap without having installed a
   * snapshot has lost entries, and must not open the replica.
   */
  readonly applied: LogStart;
  readonly random: Random;
  /**
   * Shared by all groups of a node, and raised by the owner before each pass over them: reads that
   * wait in several groups then ask under one round number, which one frame per node can carry. A
   * group that needs a further number in the same pass raises it itself. Absent: each counts alone.
   */
  readonly readRounds?: { current: number };
  /** Bounds, inclusive, of the randomised election timeout in ticks. */
  readonly electionTicks: { readonly min: number; readonly max: number };
  /** Ticks between heartbeats; below `electionTicks.min`. */
  readonly heartbeatTicks: number;
  /** Appends sent to one follower and not yet answered. */
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  /** Soft bound of the entries in one append: a single larger entry still travels. */
  readonly appendBytesMax: number;
  /** Proposed and not yet committed; a proposal that finds nothing uncommitted always passes. */
  readonly uncommittedBytesMax: number;
  /**
   * Messages that others make dispensable are not sent (replication.ts): followers learn of a commit
   * index up to two heartbeats later, and a lost append is noticed one heartbeat later. Default false.
   */
  readonly saveMessages?: boolean;
  /** Default true. */
  readonly preVote?: boolean;
  /** Default true. */
  readonly checkQuorum?: boolean;
};

/** How the leader sends to one follower; see the README's state diagram. */
export const ProgressState = {
  Probe: "probe",
  Replicate: "replicate",
  Snapshot: "snapshot",
} as const;
export type ProgressState = (typeof ProgressState)[keyof typeof ProgressState];

/** What a leader knows of one other replica. */
export type PeerStatus = {
  readonly id: ReplicaId;
  readonly state: ProgressState;
  /** Highest index known to be durable there and equal to the leader's log. */
  readonly match: LogIndex;
  readonly next: LogIndex;
  readonly inflightMessages: number;
  /** It has answered since the quorum check before the last one. */
  readonly recentlyActive: boolean;
  /**
   * The highest commit index that it has reported. A removed replica may be destroyed once a quorum of
   * the new configuration knows the change as committed; before that its vote may be needed.
   */
  readonly commit: LogIndex;
  /** Index of the snapshot that was offered to it; 0 for none. */
  readonly pendingSnapshot: LogIndex;
};

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
  /** To whom leadership is being handed; 0 for nobody. */
  readonly transferee: ReplicaId;
  /** Empty unless this replica leads. */
  readonly peers: readonly PeerStatus[];
};
