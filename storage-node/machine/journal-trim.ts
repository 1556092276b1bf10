/**
 * Drops journal rows that neither the change log nor the dedupe window needs.
 *
 * Each replica trims for itself: how far its change log reaches back is no part of the replicated
 * state, as long as the dedupe window is whole. Rows go from the oldest on, so the change log stays
 * without holes. The deletions are a batch of their own and may be lost; they are found again.
 */
import { CHANGE_LOG_REVISIONS_KEPT, JOURNAL_TRIM_ROWS_PER_STEP_MAX } from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { journalRowKey, journalRowPosition, RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { bucketOf } from "./dedupe.ts";
import { decodeJournalRow } from "./journal.ts";
import type { Machine } from "./machine.ts";
import { readRows } from "./read-rows.ts";

const ROWS_PER_READ = 256;
/** Revisions beyond those kept at which a look is worth a read. */
const REVISIONS_PER_LOOK_MIN = 1_024;

export type JournalTrimLimits = {
  /** Revisions that the change log keeps at least. */
  readonly revisionsKept: number;
  readonly revisionsPerLookMin: number;
  readonly rowsMax: number;
};

const LIMITS: JournalTrimLimits = {
  revisionsKept: CHANGE_LOG_REVISIONS_KEPT,
  revisionsPerLookMin: REVISIONS_PER_LOOK_MIN,
  rowsMax: JOURNAL_TRIM_ROWS_PER_STEP_MAX,
};

/**
 * Deletes up to `rowsMax` rows and answers how many; as many as that means there may be more. Kept
 * are the last `revisionsKept` revisions, and every row within the dedupe window, which always
 * includes the last row. Not twice at a time for the same machine.
 */
export function trimJournal(
  machine: Machine,
  engine: Pick<Engine, "iterate" | "batch" | "write">,
  limits: JournalTrimLimits = LIMITS,
): MaybePromise<number> {
  const { group, logTimeMs, revision, journalStart } = machine;
  const revisionMax = revision - limits.revisionsKept;
  if (revisionMax - journalStart.revision < limits.revisionsPerLookMin) return 0;
  const batch = engine.batch();
  let start = journalStart;
  // Starting where the last call ended skips what the engine keeps of rows that were deleted.
  const range = {
    start: journalRowKey(group, start),
    end: rowsOf(RowKind.Journal, group).end,
  };
  const read = readRows(engine, range, ROWS_PER_READ, ({ key, value }) => {
    start = journalRowPosition(key);
    if (start.revision > revisionMax || batch.count >= limits.rowsMax) return false;
    const { dedupeUntilMs } = decodeJournalRow(key, value);
    if (bucketOf(dedupeUntilMs) >= bucketOf(logTimeMs)) return false;
    batch.delete(key);
    return true;
  });
  const write = (): MaybePromise<number> => {
    const { count } = batch;
    const done = (): number => {
      machine.journalTrimmed(start);
      return count;
    };
    if (count === 0) return done();
    const written = engine.write(batch);
    return isPromise(written) ? written.then(done) : done();
  };
  return isPromise(read) ? read.then(write) : write();
}
