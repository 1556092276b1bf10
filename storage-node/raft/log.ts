/**
 * The in-memory Raft log: every entry since compaction, with marks for what has become of them.
 *
 *     start ≤ applied ≤ handed ≤ min(commit, durable)
 *     durable ≤ issued ≤ last            commit ≤ last
 *
 * While a snapshot is being installed `applied` lies below `start`, and nothing is handed out.
 *
 * - `issued`: handed to the owner for writing; what lies behind it is new.
 * - `durable`: known to be on this replica's disk **with the content the log has here**.
 * - `handed`: handed to the owner for applying. Never passes `durable`: after a crash the engine
 *   must not hold an effect whose entry the log has lost (durability rule 6).
 * - `applied`: reported back by the owner.
 *
 * Cutting a suffix moves `issued` and `durable` back to the cut, and remembers it until the next
 * batch, which writes the cut and the replacement together (durability rule 4). Nothing at or below
 * `commit` is ever cut.
 */
import { assert } from "#shared/assert.ts";
import type { LogIndex, Term } from "#shared/ids.ts";
import { type Entry, EntryKind, type LogStart } from "./types.ts";

/** Counted for each entry on top of its data, so that empty entries are bounded too. */
export const ENTRY_OVERHEAD_BYTES = 32;

export const NO_ENTRIES: readonly Entry[] = Object.freeze([]);

/** What an entry counts against every bound in bytes. */
export const entrySizeBytes = (entry: Entry): number => entry.data.length + ENTRY_OVERHEAD_BYTES;

export type RaftLogOptions = {
  readonly start: LogStart;
  /** Durable, consecutive, from `start.index + 1`. */
  readonly entries: readonly Entry[];
  readonly commit: LogIndex;
  /** Last entry whose effects the engine holds. */
  readonly applied: LogStart;
};

export class RaftLog {
  #start: LogStart;
  #entries: Entry[];
  #commit: LogIndex;
  #issued: LogIndex;
  #durable: LogIndex;
  #handed: LogIndex;
  #applied: LogIndex;
  #cutFrom: LogIndex | undefined;
  /** The log on disk does not reach what was applied, and has to be reset. */
  readonly resetAtOpen: boolean = false;

  /** @throws AssertionError when entries have holes, terms go back, or the marks do not fit. */
  constructor(options: RaftLogOptions) {
    const { start, entries, commit, applied } = options;
    assert(
      applied.index >= start.index,
      "entries between the applied index and the log are missing",
    );
    let previous: LogStart = start;
    for (const entry of entries) {
      assert(entry.index === previous.index + 1, `entry ${entry.index} follows ${previous.index}`);
      assert(entry.term >= previous.term, `term of entry ${entry.index} goes back`);
      previous = entry;
    }
    this.#start = start;
    this.#entries = entries.slice();
    if (this.termAt(applied.index) !== applied.term) {
      // The engine has taken over a snapshot that the log knows nothing of: none of it is needed.
      // Snapshots are only taken over beyond the commit index, which is on disk with the entries.
      assert(commit < applied.index, "committed entries behind the snapshot are missing");
      this.#start = applied;
      this.#entries = [];
      this.resetAtOpen = true;
    } else {
      assert(commit <= previous.index, "entries known to be committed are missing");
    }
    // The commit index on disk may lag (it is written only with entries), but what was applied or
    // compacted was committed.
    this.#commit = Math.max(commit, applied.index) as LogIndex;
    this.#issued = this.lastIndex;
    this.#durable = this.#issued;
    this.#handed = applied.index;
    this.#applied = applied.index;
  }

  get start(): LogStart {
    return this.#start;
  }
  get lastIndex(): LogIndex {
    return (this.#start.index + this.#entries.length) as LogIndex;
  }
  get lastTerm(): Term {
    const last = this.#entries.at(-1);
    return last === undefined ? this.#start.term : last.term;
  }
  get commit(): LogIndex {
    return this.#commit;
  }
  get durableIndex(): LogIndex {
    return this.#durable;
  }
  get issuedIndex(): LogIndex {
    return this.#issued;
  }
  get appliedIndex(): LogIndex {
    return this.#applied;
  }
  get hasUnissued(): boolean {
    return this.lastIndex > this.#issued;
  }
  /** The engine does not hold yet what lies before the log's start. */
  get installing(): boolean {
    return this.#applied < this.#start.index;
  }
  get hasUnhandedCommitted(): boolean {
    return this.#handed < this.#commit && this.#handed < this.#durable && !this.installing;
  }

  /** Term at `index`; undefined below the start (compacted) and beyond the end. */
  termAt(index: LogIndex): Term | undefined {
    if (index === this.#start.index) return this.#start.term;
    return this.#entries[index - this.#start.index - 1]?.term;
  }

  /** Raft's comparison of logs: later last term first, then length (paper, section 5.4.1). */
  isUpToDate(lastIndex: LogIndex, lastTerm: Term): boolean {
    const own = this.lastTerm;
    return lastTerm > own || (lastTerm === own && lastIndex >= this.lastIndex);
  }

  /**
   * The highest index ≤ `index` whose entry here has a term ≤ `term`: where two logs may still
   * agree, if the other's entry at `index` is of `term`. Stops at the start, below which terms are
   * unknown; an `index` outside the log is returned as far as the log reaches.
   */
  lastIndexWithTermUpTo(index: LogIndex, term: Term): LogIndex {
    let at = Math.min(index, this.lastIndex);
    while (at > this.#start.index && this.#entries[at - this.#start.index - 1]!.term > term) at--;
    return at as LogIndex;
  }

  /** Entries from `from` on, as many as fit in `sizeBytesMax`, at least one if there is one. */
  slice(from: LogIndex, sizeBytesMax: number, to: LogIndex = this.lastIndex): readonly Entry[] {
    if (from > to) return NO_ENTRIES;
    const begin = from - this.#start.index - 1;
    const endMax = to - this.#start.index;
    assert(begin >= 0 && endMax <= this.#entries.length, `slice ${from}..${to} outside the log`);
    let end = begin + 1;
    let sizeBytes = entrySizeBytes(this.#entries[begin]!);
    while (end < endMax) {
      sizeBytes += entrySizeBytes(this.#entries[end]!);
      if (sizeBytes > sizeBytesMax) break;
      end++;
    }
    return this.#entries.slice(begin, end);
  }

  /** Bytes of the entries behind `after` up to and with `to`. */
  sizeBytesBetween(after: LogIndex, to: LogIndex): number {
    let sizeBytes = 0;
    for (let at = after - this.#start.index; at < to - this.#start.index; at++) {
      sizeBytes += entrySizeBytes(this.#entries[at]!);
    }
    return sizeBytes;
  }

  /** A committed change of membership waits to be applied. */
  hasUnappliedConfiguration(): boolean {
    return this.lastConfigurationIn(this.#applied, this.#commit) !== undefined;
  }

  /** The last change of membership behind `after` up to and with `to`. */
  lastConfigurationIn(after: LogIndex, to: LogIndex): Entry | undefined {
    const begin = Math.max(after - this.#start.index, 0);
    for (let at = to - this.#start.index - 1; at >= begin; at--) {
      const entry = this.#entries[at]!;
      if (entry.kind === EntryKind.Configuration) return entry;
    }
    return undefined;
  }

  /** Adds the leader's own next entry. */
  append(entry: Entry): void {
    assert(entry.index === this.lastIndex + 1, "a leader only appends at the end of its log");
    assert(entry.term >= this.lastTerm, "terms never go back within a log");
    this.#entries.push(entry);
  }

  /**
   * Takes in what a leader sent behind a matching entry. Entries that are here already stay
   * untouched: a delayed or duplicated append, shorter than what has come since, must not cut off
   * entries that this replica has acknowledged. Only a real conflict of terms cuts.
   */
  merge(entries: readonly Entry[]): void {
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!;
      // Committed entries are the same in every log that may send to us (leader completeness).
      if (entry.index <= this.#commit) continue;
      const known = this.termAt(entry.index);
      if (known === entry.term) continue;
      if (known !== undefined) this.#cut(entry.index);
      this.#pushAll(entries, i);
      return;
    }
  }

  #pushAll(entries: readonly Entry[], begin: number): void {
    for (let i = begin; i < entries.length; i++) this.append(entries[i]!);
  }

  #cut(from: LogIndex): void {
    assert(from > this.#commit, `entry ${from} is committed and may not be cut`);
    this.#entries.length = from - this.#start.index - 1;
    const last = this.lastIndex;
    if (this.#issued <= last) return;
    // The disk holds, or will hold, entries that are no longer ours.
    this.#issued = last;
    this.#durable = Math.min(this.#durable, last) as LogIndex;
    this.#cutFrom = Math.min(this.#cutFrom ?? from, from) as LogIndex;
  }

  /**
   * Starts over behind a snapshot. What the log held is given up as a whole: below the snapshot it is
   * not needed, and above it nothing is known to agree with the leader's log.
   *
   * `durable` may name the snapshot at once, before anything is on disk: the entry is committed, so
   * nobody waits for this replica to hold it; what is promised (replies, votes) waits for the batch.
   */
  restore(start: LogStart): void {
    assert(start.index > this.#commit, "a snapshot never replaces what is known to be committed");
    this.#start = start;
    this.#entries = [];
    this.#cutFrom = undefined;
    this.#commit = start.index;
    this.#issued = start.index;
    this.#durable = start.index;
    this.#handed = start.index;
  }

  /** Hands out everything not yet written, with the cut that must precede it. */
  takeUnissued(): {
    readonly truncateFrom: LogIndex | undefined;
    readonly entries: readonly Entry[];
  } {
    const truncateFrom = this.#cutFrom;
    const entries = this.hasUnissued
      ? this.#entries.slice(this.#issued - this.#start.index)
      : NO_ENTRIES;
    assert(truncateFrom === undefined || entries.length > 0, "a cut is always followed by entries");
    this.#cutFrom = undefined;
    this.#issued = this.lastIndex;
    return { truncateFrom, entries };
  }

  /**
   * The disk holds the log up to `index`, where the entry has `term`. The caller has ruled out that
   * the report is older than a cut (see `appended` in ready.ts).
   */
  markDurable(index: LogIndex, term: Term): void {
    if (index > this.#issued || this.termAt(index) !== term) return;
    if (index > this.#durable) this.#durable = index;
  }

  /** Moves the commit index forward; a lower one is ignored. */
  commitTo(index: LogIndex): boolean {
    if (index <= this.#commit) return false;
    assert(index <= this.lastIndex, `commit ${index} is beyond the log's end ${this.lastIndex}`);
    this.#commit = index;
    return true;
  }

  /** Hands out what is committed and durable, in order, at least one entry if there is one. */
  takeCommitted(sizeBytesMax: number): readonly Entry[] {
    if (!this.hasUnhandedCommitted) return NO_ENTRIES;
    const to = Math.min(this.#commit, this.#durable) as LogIndex;
    const entries = this.slice((this.#handed + 1) as LogIndex, sizeBytesMax, to);
    this.#handed = entries.at(-1)!.index;
    return entries;
  }

  applied(index: LogIndex): void {
    assert(index <= this.#handed, `applied ${index}, but only ${this.#handed} was handed out`);
    if (index > this.#applied) this.#applied = index;
  }

  /**
   * How far the log may be compacted: as little beyond `floor` as keeps the applied entries behind
   * the answer within `sizeBytesMax`. What is not applied and durable is never given up.
   */
  compactionIndex(floor: LogIndex, sizeBytesMax: number): LogIndex {
    const start = this.#start.index;
    let index = Math.min(this.#applied, this.#durable);
    let sizeBytes = 0;
    while (index > start && index > floor) {
      sizeBytes += entrySizeBytes(this.#entries[index - start - 1]!);
      if (sizeBytes > sizeBytesMax) break;
      index--;
    }
    return Math.max(index, start) as LogIndex;
  }

  /** Drops entries up to and with `index`; keeps that entry's term to check appends against. */
  compact(index: LogIndex): void {
    if (index <= this.#start.index) return;
    assert(index <= this.#applied, `compact ${index} is beyond the applied ${this.#applied}`);
    assert(index <= this.#durable, `compact ${index} is beyond the durable ${this.#durable}`);
    const term = this.termAt(index)!;
    this.#entries.splice(0, index - this.#start.index);
    this.#start = { index, term };
  }
}
