/**
 * What a leader knows of one other replica, and how it sends to it.
 *
 *     probe ──accepted──▶ replicate          probe: one append at a time, `next` is a guess
 *     probe ◀──rejected── replicate          replicate: pipelined, `next` runs ahead of the answers
 *     any ──log compacted below next──▶ snapshot ──match reaches the log──▶ replicate
 *                                       snapshot ──its commit does, or sending ended──▶ probe
 *
 * `match` only grows while one leader lives: it is what the follower has acknowledged as durable,
 * so an old, duplicated or reordered reply can never move it back (nor `next` to or below it).
 *
 * The window of unanswered appends is bounded by count and bytes. A message lost in flight would
 * hold its place for ever; therefore a heartbeat reply lifts `paused` once, and the leader sends an
 * empty append behind everything it has sent. A follower that misses something rejects it, which
 * returns to probe and empties the window.
 */
import type { LogIndex, ReplicaId } from "#shared/ids.ts";
import { ProgressState } from "./types.ts";

export type ProgressOptions = {
  readonly id: ReplicaId;
  readonly next: LogIndex;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
};

export class Progress {
  readonly id: ReplicaId;
  readonly inflight: Inflight;
  state: ProgressState = ProgressState.Probe;
  match = 0 as LogIndex;
  next: LogIndex;
  /** Index of the snapshot that was offered, 0 for none; in snapshot state only. */
  pendingSnapshot = 0 as LogIndex;
  /** Answered since the leader's last quorum check. */
  recentlyActive = false;
  /** The same, between the two quorum checks before: for those who look at it at any moment. */
  activeBefore = false;
  /** Highest commit index that the replica has reported. */
  commit = 0 as LogIndex;
  /** Highest commit index that an append has carried. */
  commitSent = 0 as LogIndex;
  /** Highest read round that the replica has confirmed. */
  readRoundConfirmed = 0;
  /** Heartbeats in whose place appends went, since the last one. */
  heartbeatsSaved = 0;
  /** Highest read round that it was asked to confirm, now and when heartbeats were last due. */
  readRoundAsked = 0;
  #readRoundAskedBefore = 0;
  /** Entries were sent since heartbeats were last due. */
  #appended = false;
  /** What had been sent when heartbeats were last due, and the time before. */
  #sentAtLast = 0;
  #sentAtLastButOne = 0;
  #paused = false;

  constructor(options: ProgressOptions) {
    this.id = options.id;
    this.next = options.next;
    this.inflight = new Inflight(options.inflightMessagesMax, options.inflightBytesMax);
  }

  /** No append may be sent now. */
  get paused(): boolean {
    return this.#paused || this.state === ProgressState.Snapshot;
  }

  becomeProbe(): void {
    const snapshot = this.state === ProgressState.Snapshot ? this.pendingSnapshot : 0;
    this.#reset(ProgressState.Probe);
    this.next = (Math.max(this.match, snapshot) + 1) as LogIndex;
    this.commitSent = Math.min(this.commitSent, this.next - 1) as LogIndex;
  }

  becomeReplicate(): void {
    this.#reset(ProgressState.Replicate);
    this.next = (this.match + 1) as LogIndex;
  }

  /** The log no longer holds what the replica needs next. */
  becomeSnapshot(): void {
    this.#reset(ProgressState.Snapshot);
  }

  /** A snapshot was sent or not: probing shows what the replica has; after a failure, not at once. */
  snapshotEnded(received: boolean): void {
    if (this.state !== ProgressState.Snapshot) return;
    if (!received) this.pendingSnapshot = 0 as LogIndex;
    this.becomeProbe();
    this.pause();
  }

  /** Entries up to `index` turn out to be there, so appends can go on without the snapshot. */
  resumeBehind(index: LogIndex): void {
    this.becomeProbe();
    this.next = Math.max(this.next, index + 1) as LogIndex;
  }

  #reset(state: ProgressState): void {
    this.state = state;
    this.#paused = false;
    this.pendingSnapshot = 0 as LogIndex;
    this.inflight.clear();
  }

  /** An append with `count` entries up to `lastIndex` has been sent. */
  sent(count: number, lastIndex: LogIndex, sizeBytes: number): void {
    if (this.state === ProgressState.Replicate) {
      if (count > 0) {
        this.next = (lastIndex + 1) as LogIndex;
        this.inflight.add(lastIndex, sizeBytes);
        this.#appended = true;
      }
      this.#paused = this.inflight.full;
    } else {
      this.#paused = true;
    }
  }

  /** Nothing is sent until the replica shows that it is there. */
  pause(): void {
    this.#paused = true;
  }

  /** Heartbeats are due. Whether entries have gone to the replica since they last were. */
  heartbeatDue(): boolean {
    const appended = this.#appended;
    this.#appended = false;
    this.#sentAtLastButOne = this.#sentAtLast;
    this.#sentAtLast = this.next - 1;
    this.#readRoundAskedBefore = this.readRoundAsked;
    return appended;
  }

  /** It has answered heartbeats lately, and the read rounds that it was asked for before the last one. */
  get prompt(): boolean {
    const active = this.recentlyActive || this.activeBefore;
    return active && this.readRoundConfirmed >= this.#readRoundAskedBefore;
  }

  /** What was sent more than one heartbeat ago is not acknowledged: it, or the answer, may be lost. */
  get overdue(): boolean {
    return this.match < Math.min(this.#sentAtLastButOne, this.next - 1);
  }

  /** A heartbeat was answered: the replica is there, so something may be sent again. */
  heartbeatAnswered(): void {
    this.#paused = false;
    this.#readRoundAskedBefore = 0;
  }

  /** The replica holds the log up to `index`, durably. False for news that is old. */
  accepted(index: LogIndex): boolean {
    const probing = this.state === ProgressState.Probe;
    if (index < this.match || (index === this.match && !probing)) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1) as LogIndex;
    if (probing) {
      this.becomeReplicate();
    } else if (this.state === ProgressState.Replicate) {
      this.inflight.freeThrough(index);
      this.#paused = false;
    }
    return true;
  }

  /**
   * The replica has no matching entry at `rejected`; the logs may agree up to `guess`. False when
   * the rejection is old: it is below `match`, or answers another probe than the last one.
   */
  rejected(rejected: LogIndex, guess: LogIndex): boolean {
    if (rejected <= this.match || this.state === ProgressState.Snapshot) return false;
    if (this.state === ProgressState.Replicate) {
      this.becomeProbe();
      return true;
    }
    if (rejected !== this.next - 1) return false;
    this.next = Math.max(Math.min(rejected, guess + 1), this.match + 1) as LogIndex;
    this.commitSent = Math.min(this.commitSent, this.next - 1) as LogIndex;
    this.#paused = false;
    return true;
  }
}

/**
 * Appends in flight, oldest first: last index and size of each, in a ring that grows up to its
 * bound. The bound in bytes is soft by one message.
 */
export class Inflight {
  readonly #messagesMax: number;
  readonly #bytesMax: number;
  #lastIndexes: LogIndex[] = [];
  #sizesBytes: number[] = [];
  #head = 0;
  #count = 0;
  #bytes = 0;

  constructor(messagesMax: number, bytesMax: number) {
    this.#messagesMax = messagesMax;
    this.#bytesMax = bytesMax;
  }

  get count(): number {
    return this.#count;
  }
  get bytes(): number {
    return this.#bytes;
  }
  get full(): boolean {
    return this.#count >= this.#messagesMax || this.#bytes >= this.#bytesMax;
  }

  add(lastIndex: LogIndex, sizeBytes: number): void {
    if (this.#count === this.#lastIndexes.length) this.#grow();
    const at = (this.#head + this.#count) % this.#lastIndexes.length;
    this.#lastIndexes[at] = lastIndex;
    this.#sizesBytes[at] = sizeBytes;
    this.#count++;
    this.#bytes += sizeBytes;
  }

  #grow(): void {
    const size = Math.max(8, 2 * this.#lastIndexes.length);
    const lastIndexes = new Array<LogIndex>(size).fill(0 as LogIndex);
    const sizesBytes = new Array<number>(size).fill(0);
    for (let i = 0; i < this.#count; i++) {
      const at = (this.#head + i) % this.#lastIndexes.length;
      lastIndexes[i] = this.#lastIndexes[at]!;
      sizesBytes[i] = this.#sizesBytes[at]!;
    }
    this.#lastIndexes = lastIndexes;
    this.#sizesBytes = sizesBytes;
    this.#head = 0;
  }

  /** Forgets messages whose last index is ≤ `index`. */
  freeThrough(index: LogIndex): void {
    while (this.#count > 0 && this.#lastIndexes[this.#head]! <= index) {
      this.#bytes -= this.#sizesBytes[this.#head]!;
      this.#head = (this.#head + 1) % this.#lastIndexes.length;
      this.#count--;
    }
  }

  clear(): void {
    this.#head = 0;
    this.#count = 0;
    this.#bytes = 0;
  }
}
