/**
 * What a replica knows of its journal as a whole: where it begins, how old that is, and how large it is.
 *
 * Each replica trims for itself, so this is no part of the replicated state. Rows that were there when the
 * machine was loaded are counted later, in steps (`measureJournal`); until then the size is a lower bound.
 * Rows without changes do not count: apply deletes them, and the dedupe window bounds them.
 */
import type { LogIndex, Revision } from "#shared/ids.ts";
import type { JournalPosition } from "#storage-node/engine/layout.ts";

export class JournalExtent {
  /** No journal row sorts before it, as far as trimming has looked. */
  start: JournalPosition = { revision: 0 as Revision, index: 0 as LogIndex };
  /** Log time of the first row; before it for one that has not been looked at. */
  oldestTimeMs = Number.NEGATIVE_INFINITY;
  /**
   * Of the last entry applied when a look found no row that the dedupe window lets go; -1 for none. What the
   * window holds changes with an entry only, so a look before the next one would find the same: without this an
   * idle replica read its journal each second.
   */
  heldAtIndex = -1;
  /** Of rows with changes, keys included, as far as they have been counted. */
  sizeBytes = 0;
  /** Rows from the first on and up to the second are not counted yet. */
  uncounted: { from: JournalPosition; readonly to: JournalPosition } | undefined;

  /** @param loaded position of the last row when the machine was loaded */
  constructor(loaded: JournalPosition) {
    if (loaded.index > 0) this.uncounted = { from: this.start, to: loaded };
  }

  rowAdded(sizeBytes: number): void {
    this.sizeBytes += sizeBytes;
  }

  rowsCounted(sizeBytes: number, next: JournalPosition | undefined): void {
    this.sizeBytes += sizeBytes;
    if (next === undefined) this.uncounted = undefined;
    else this.uncounted!.from = next;
  }

  isCounted({ index }: JournalPosition): boolean {
    if (this.uncounted === undefined) return true;
    const { from, to } = this.uncounted;
    // Along the journal neither revision nor index goes back, and indexes differ.
    return index < from.index || index > to.index;
  }

  /**
   * No row before `start` is left, which has this log time; `sizeBytes` of those that are gone had been
   * counted.
   */
  trimmed(start: JournalPosition, oldestTimeMs: number, sizeBytes: number): void {
    this.start = start;
    this.oldestTimeMs = oldestTimeMs;
    this.sizeBytes -= sizeBytes;
    if (this.uncounted === undefined) return;
    if (start.index > this.uncounted.to.index) this.uncounted = undefined;
    else if (start.index > this.uncounted.from.index) this.uncounted.from = start;
  }
}
