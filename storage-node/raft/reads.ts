/**
 * The linearizable reads that a replica has taken and not yet answered. The protocol is in
 * read-index.ts; this is its data, apart so that every change of role can drop it.
 */
import type { LogIndex, ReplicaId } from "#shared/ids.ts";
import type { ReadState, ReadToken } from "./types.ts";

export type WaitingRead = { readonly token: ReadToken; readonly from: ReplicaId };

type Round = {
  readonly number: number;
  /** The commit index when the round was opened, after its reads had arrived. */
  readonly index: LogIndex;
  readonly reads: readonly WaitingRead[];
};

export type Reads = {
  /** Leader: number of the last round. Never falls while the object lives. */
  lastRound: number;
  /** Leader: reads that no round covers yet. */
  waiting: WaitingRead[];
  /** Leader: rounds not yet confirmed, oldest first. */
  rounds: Round[];
  /** Leader: reads in `waiting` and `rounds`. */
  pendingCount: number;
  /** Follower: forwarded reads, oldest first, with the tick at which they are given up. */
  readonly forwarded: Map<ReadToken, number>;
  ticks: number;
  /** For the next Ready. */
  confirmed: ReadState[];
  dropped: ReadToken[];
};

export function createReads(): Reads {
  return {
    lastRound: 0,
    waiting: [],
    rounds: [],
    pendingCount: 0,
    forwarded: new Map(),
    ticks: 0,
    confirmed: [],
    dropped: [],
  };
}

/**
 * Leadership, leader or term is lost: nothing that is pending can be confirmed here. Reads that
 * followers forwarded are not answered: they see the same change, or their reads time out.
 */
export function dropReads(reads: Reads, id: ReplicaId): void {
  if (reads.pendingCount > 0) {
    for (const round of reads.rounds) {
      for (const read of round.reads) if (read.from === id) reads.dropped.push(read.token);
    }
    for (const read of reads.waiting) if (read.from === id) reads.dropped.push(read.token);
    reads.rounds = [];
    reads.waiting = [];
    reads.pendingCount = 0;
  }
  for (const token of reads.forwarded.keys()) reads.dropped.push(token);
  reads.forwarded.clear();
}

/** What a heartbeat asks to be confirmed; 0 when no read waits for it. */
export const openRoundNumber = (reads: Reads): number =>
  reads.rounds.length === 0 ? 0 : reads.lastRound;
