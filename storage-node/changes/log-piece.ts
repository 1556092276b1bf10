/**
 * Reads a piece of a vshard's change log: the changes behind a revision, from the journal rows.
 *
 * A row has the changes of one entry, and its key the revision of the last of them. So the first row from
 * `(after + 1, 0)` on is found by its key, and it is the one that must hold change `after + 1`: rows without
 * changes aside, keys and numbers of changes leave no room for another. If it begins later, what was asked
 * for has been trimmed, and where it begins is where the log begins: rows go from the oldest on. A row
 * without changes says the same of the revision in its key. All of that is seen in one view of the engine, so
 * no trimming meanwhile can leave a gap in what is read.
 */
import type { ChangeRecord } from "#proto/codec/change-messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { GroupId, LogIndex, Revision } from "#shared/ids.ts";
import { CHANGE_STEP_MS_MAX, CHANGE_STEP_ROWS_MAX } from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Row } from "#storage-node/engine/engine.ts";
import { journalRowKey, journalRowPosition, RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { decodeJournalChanges, oldestRevision } from "#storage-node/machine/journal.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import { type RowSource, readRows } from "#storage-node/machine/read-rows.ts";

/** Rows of one call of the engine, which does not yield. */
const ROWS_PER_READ = 128;
/** The clock is asked once in so many rows. */
const ROWS_PER_CLOCK = 32;
/** What a change costs beside its key, roughly. */
export const CHANGE_OVERHEAD_BYTES = 48;

export type LogPiece =
  | {
      readonly kind: "changes";
      /** The first is `afterRevision + 1`; empty when there is none. */
      readonly changes: readonly ChangeRecord[];
      readonly sizeBytes: number;
    }
  /** The log begins behind `afterRevision + 1`. */
  | { readonly kind: "compacted"; readonly oldestRevision: Revision };

export type PieceAsked = {
  readonly group: GroupId;
  readonly afterRevision: Revision;
  /** The engine holds all changes up to this one. */
  readonly headRevision: Revision;
  readonly bytesMax: number;
};

/** @throws KvError DATA_CORRUPT for a row that is damaged, or when rows do not follow on one another */
export function readLogPiece(
  source: RowSource,
  clock: Pick<Clock, "monotonicMs">,
  asked: PieceAsked,
): MaybePromise<LogPiece> {
  const piece = new Piece(asked, clock);
  const start = { revision: (asked.afterRevision + 1) as Revision, index: 0 as LogIndex };
  const range = {
    start: journalRowKey(asked.group, start),
    end: rowsOf(RowKind.Journal, asked.group).end,
  };
  const reading = readRows(source, range, ROWS_PER_READ, piece.take);
  return isPromise(reading) ? reading.then(() => piece.result()) : piece.result();
}

/**
 * The oldest change that the log still has, or the one behind `headRevision` when it has none.
 *
 * @param headRevision the engine holds all changes up to this one; the machine may be ahead of that
 */
export function oldestInLog(
  source: RowSource,
  { group, journal }: Pick<Machine, "group" | "journal">,
  headRevision: Revision,
): MaybePromise<Revision> {
  let oldest = (headRevision + 1) as Revision;
  const range = {
    start: journalRowKey(group, journal.start),
    end: rowsOf(RowKind.Journal, group).end,
  };
  const reading = readRows(source, range, 1, ({ key, value }) => {
    // Without changes it says that the next one is the oldest: see the head of this module.
    oldest = oldestRevision(journalRowPosition(key), decodeJournalChanges(key, value));
    return false;
  });
  return isPromise(reading) ? reading.then(() => oldest) : oldest;
}

class Piece {
  readonly #asked: PieceAsked;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #untilMs: number;
  readonly #changes: ChangeRecord[] = [];
  #sizeBytes = 0;
  #rows = 0;
  /** Up to where rows were seen. */
  #seen: Revision;
  #compacted: Revision | undefined;

  constructor(asked: PieceAsked, clock: Pick<Clock, "monotonicMs">) {
    this.#asked = asked;
    this.#clock = clock;
    this.#untilMs = clock.monotonicMs() + CHANGE_STEP_MS_MAX;
    this.#seen = asked.afterRevision;
  }

  /** False when the piece ends with this row. The first one has a change in any case. */
  readonly take = ({ key, value }: Row): boolean => {
    const { logTimeMs, changes } = decodeJournalChanges(key, value);
    const position = journalRowPosition(key);
    const first = oldestRevision(position, { changes });
    if (first > this.#seen + 1) {
      if (this.#rows > 0) {
        throw new KvError(
          "DATA_CORRUPT",
          `the change log ends at ${this.#seen}, and goes on at ${first}`,
        );
      }
      this.#compacted = first;
      return false;
    }
    this.#rows++;
    for (const change of changes) {
      if (change.revision <= this.#seen) continue;
      this.#seen = change.revision;
      this.#changes.push({
        ...change,
        timeMs: logTimeMs,
        transactionId: EMPTY_BYTES,
        value: undefined,
        traceContext: EMPTY_BYTES,
      });
      this.#sizeBytes += CHANGE_OVERHEAD_BYTES + change.key.length;
      if (this.#sizeBytes >= this.#asked.bytesMax) return false;
    }
    if (this.#rows >= CHANGE_STEP_ROWS_MAX) return false;
    return this.#rows % ROWS_PER_CLOCK !== 0 || this.#clock.monotonicMs() < this.#untilMs;
  };

  result(): LogPiece {
    const { afterRevision, headRevision } = this.#asked;
    if (this.#compacted !== undefined) {
      return { kind: "compacted", oldestRevision: this.#compacted };
    }
    // No row at all where there must have been one: all that have changes are gone.
    if (this.#changes.length === 0 && afterRevision < headRevision) {
      return { kind: "compacted", oldestRevision: (headRevision + 1) as Revision };
    }
    return { kind: "changes", changes: this.#changes, sizeBytes: this.#sizeBytes };
  }
}
