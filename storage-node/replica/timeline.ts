/**
 * Where the time of a log entry goes: kept for every entry that is proposed here, read by whoever measures
 * (traces, histograms, the log of slow operations).
 *
 * Times are those of an entry, not of its operations: under load one entry holds hundreds, and a clock
 * read for each would cost more than the rest of its way. All are monotonic milliseconds, and 0 for what
 * has not happened.
 */
import type { GroupId } from "#shared/ids.ts";
import type { CarriedTrace } from "#storage-node/transport/transport.ts";
import type { ProposedEntry } from "./waiting.ts";

export type EntryTimeline = {
  /** When the first of its operations came. */
  receivedMs: number;
  /** Handed to Raft, which sends it to the others, and in the same turn to the log. */
  proposedMs: number;
  /** On this node's disk. */
  syncedMs: number;
  /** On the disks of a quorum, as far as this node has heard. */
  committedMs: number;
  /** Its outcome is known, and its operations are answered; of another leader's entry: the engine has its effects. */
  appliedMs: number;
};

/** An entry of another leader's whose trace has come along. */
export type FollowedEntry = CarriedTrace & Omit<EntryTimeline, "proposedMs">;

/** Told of entries, and never asked to wait: it runs in the middle of a pass. */
export interface EntryObserver {
  /** An entry with traced operations was proposed; nothing of it has left this node. */
  proposed?(group: GroupId, entry: ProposedEntry): void;
  /** An entry that was proposed here was applied, and its operations were answered: all times are set. */
  answered?(group: GroupId, entry: ProposedEntry): void;
  /** An entry of another node's was applied here whose trace had come along. */
  followed?(entry: FollowedEntry): void;
}
