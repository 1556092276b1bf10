/**
 * Reads a range of rows in portions. With an engine that answers at once this is a plain loop that
 * never yields, so nothing else can happen between two portions.
 */
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, IterateOptions, Row } from "#storage-node/engine/engine.ts";

/** What the machine's helpers read from: an engine, or a snapshot of one. */
export type RowSource = Pick<Engine, "iterate">;

/** Hands rows to `take`, in order, until it answers false or there are none left. */
export function readRows(
  source: RowSource,
  options: IterateOptions,
  rowsPerRead: number,
  take: (row: Row) => boolean,
): MaybePromise<void> {
  const iterator = source.iterate(options);
  /** Whether there may be more to read. */
  const takeAll = (rows: readonly Row[]): boolean => rows.length > 0 && rows.every(take);
  const read = (): MaybePromise<void> => {
    for (;;) {
      const rows = iterator.next(rowsPerRead);
      if (isPromise(rows)) return rows.then((found) => (takeAll(found) ? read() : undefined));
      if (!takeAll(rows)) return;
    }
  };
  let reading: MaybePromise<void>;
  try {
    reading = read();
  } catch (error) {
    // The error of the read is the one to report.
    const closed = iterator.close();
    if (isPromise(closed)) closed.catch(() => {});
    throw error;
  }
  return isPromise(reading) ? reading.finally(() => iterator.close()) : iterator.close();
}
