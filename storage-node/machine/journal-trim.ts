/**
 * Drops journal rows that neither the change log nor the dedupe window needs.
 *
 * Each replica trims for itself: how far its change log reaches back is no part of the replicated
 * state, as long as the dedupe window is whole. Rows go from the oldest on, so the change log stays
 * without holes. The deletions are a batch of their own and may be lost; they are found again.
 */
import {
  CHANGE_LOG_AGE_MS_DEFAULT,
  CHANGE_LOG_REVISIONS_KEPT,
  CHANGE_LOG_REVISIONS_PER_LOOK,
  CHANGE_LOG_SIZE_BYTES_DEFAULT,
  JOURNAL_TRIM_ROWS_PER_STEP_MAX,
} from "#shared/limits.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, Row } from "#storage-node/engine/engine.ts";
import { journalRowKey, journalRowPosition, RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { bucketOf } from "./dedupe.ts";
import { decodeJournalHead } from "./journal.ts";
import type { JournalExtent } from "./journal-extent.ts";
import type { Machine } from "./machine.ts";
import { readRows } from "./read-rows.ts";

const ROWS_PER_READ = 256;
/** A look is worth a read when so large a part of what is kept has grown too large or too old. */
const LOOK_FRACTION = 1 / 64;

/** A change goes with the first of these bounds that it passes. */
export type ChangeLogRetention = {
  /** Revisions of a vshard, counted from the newest. */
  readonly revisionsKept: number;
  /** By log time. */
  readonly ageMsMax: number;
  /** Of rows with changes, keys included. */
  readonly sizeBytesMax: number;
};

export const RETENTION_DEFAULT: ChangeLogRetention = {
  revisionsKept: CHANGE_LOG_REVISIONS_KEPT,
  ageMsMax: CHANGE_LOG_AGE_MS_DEFAULT,
  sizeBytesMax: CHANGE_LOG_SIZE_BYTES_DEFAULT,
};

export type TrimLimits = ChangeLogRetention & {
  readonly revisionsPerLookMin: number;
  readonly rowsMax: number;
};

const PACE = {
  revisionsPerLookMin: CHANGE_LOG_REVISIONS_PER_LOOK,
  rowsMax: JOURNAL_TRIM_ROWS_PER_STEP_MAX,
};

/**
 * Deletes up to `rowsMax` rows and answers how many; as many as that means there may be more. Kept are what
 * `limits` allow, and every row within the dedupe window, which always includes the last row: the mark of
 * what is applied. Not twice at a time for the same machine.
 *
 * @param nowMs log time now, which may be later than that of the last entry
 */
export function trimJournal(
  machine: Machine,
  engine: Pick<Engine, "iterate" | "batch" | "write">,
  nowMs: number,
  retention: ChangeLogRetention & Partial<TrimLimits> = RETENTION_DEFAULT,
): MaybePromise<number> {
  const limits = { ...PACE, ...retention };
  const { group, logTimeMs, revision, journal, appliedIndex } = machine;
  if (journal.heldAtIndex === appliedIndex) return 0;
  const isDue =
    revision - limits.revisionsKept - journal.start.revision >= limits.revisionsPerLookMin ||
    nowMs - journal.oldestTimeMs > limits.ageMsMax * (1 + LOOK_FRACTION) ||
    journal.sizeBytes > limits.sizeBytesMax * (1 + LOOK_FRACTION);
  if (!isDue) return 0;
  const batch = engine.batch();
  let { start, oldestTimeMs } = journal;
  let trimmedBytes = 0;
  let held = true;
  // Starting where the last call ended skips what the engine keeps of rows that were deleted.
  const range = {
    start: journalRowKey(group, start),
    end: rowsOf(RowKind.Journal, group).end,
  };
  const read = readRows(engine, range, ROWS_PER_READ, (row) => {
    const head = decodeJournalHead(row.value);
    start = journalRowPosition(row.key);
    oldestTimeMs = head.logTimeMs;
    const isSurplus =
      start.revision <= revision - limits.revisionsKept ||
      nowMs - head.logTimeMs > limits.ageMsMax ||
      journal.sizeBytes - trimmedBytes > limits.sizeBytesMax;
    held = isSurplus && batch.count < limits.rowsMax;
    if (!held || bucketOf(head.dedupeUntilMs) >= bucketOf(logTimeMs)) return false;
    batch.delete(row.key);
    if (journal.isCounted(start)) trimmedBytes += countedBytes(row);
    return true;
  });
  const write = (): MaybePromise<number> => {
    const { count } = batch;
    const done = (): number => {
      if (held) journal.heldAtIndex = appliedIndex;
      journal.trimmed(start, oldestTimeMs, trimmedBytes);
      return count;
    };
    if (count === 0) return done();
    const written = engine.write(batch);
    return isPromise(written) ? written.then(done) : done();
  };
  return isPromise(read) ? read.then(write) : write();
}

/**
 * Counts up to `rowsMax` of the rows that were there when the machine was loaded. Not while `trimJournal`
 * runs for the same machine.
 */
export function measureJournal(
  machine: Machine,
  engine: Pick<Engine, "iterate">,
  rowsMax = JOURNAL_TRIM_ROWS_PER_STEP_MAX,
): MaybePromise<void> {
  const { group, journal } = machine;
  const { uncounted } = journal;
  if (uncounted === undefined) return;
  const range = {
    start: journalRowKey(group, uncounted.from),
    end: rowsOf(RowKind.Journal, group).end,
  };
  let rows = 0;
  let sizeBytes = 0;
  let next: JournalExtent["start"] | undefined;
  const read = readRows(engine, range, ROWS_PER_READ, (row) => {
    const position = journalRowPosition(row.key);
    if (position.index > uncounted.to.index) return false;
    if (rows >= rowsMax) {
      next = position;
      return false;
    }
    rows++;
    sizeBytes += countedBytes(row);
    return true;
  });
  const done = (): void => journal.rowsCounted(sizeBytes, next);
  return isPromise(read) ? read.then(done) : done();
}

function countedBytes({ key, value }: Row): number {
  return decodeJournalHead(value).changeCount === 0 ? 0 : key.length + value.length;
}
