/** Pieces of a change log against a model of it, with trims wherever they can come in between. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GroupId, Revision } from "#shared/ids.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, IterateOptions } from "#storage-node/engine/engine.ts";
import { journalRowPosition, RowKind } from "#storage-node/engine/layout.ts";
import { DEDUPE_BUCKET_MS } from "#storage-node/machine/dedupe.ts";
import { decodeJournalRow, oldestRevision } from "#storage-node/machine/journal.ts";
import { RETENTION_DEFAULT, trimJournal } from "#storage-node/machine/journal-trim.ts";
import {
  atOnce,
  Driver,
  GROUP,
  mutation,
  put,
  START_MS,
  system,
} from "#storage-node/machine/testing.ts";
import { type LogPiece, oldestInLog, readLogPiece } from "./log-piece.ts";

const CLOCK = { monotonicMs: () => 0 };

class Log {
  readonly driver = new Driver();
  #nowMs = START_MS;

  /** An entry with so many changes. Key of revision n is `n`. */
  apply(changes: number): void {
    this.#nowMs += DEDUPE_BUCKET_MS;
    const { revision } = this.driver.machine;
    const mutations = Array.from({ length: changes }, (_, i) =>
      mutation(String(revision + 1 + i), put("v")),
    );
    const body = { logTimeMs: this.#nowMs, commands: changes === 0 ? [] : [system(...mutations)] };
    this.driver.round([body]);
  }

  trim(revisionsKept: number, rowsMax = 2): void {
    const limits = { ...RETENTION_DEFAULT, revisionsKept, rowsMax, revisionsPerLookMin: 0 };
    const { machine, engine } = this.driver;
    atOnce(trimJournal(machine, engine, this.#nowMs, limits));
  }

  get head(): Revision {
    return this.driver.machine.revision;
  }

  /** As the rows say, all of them. */
  get oldest(): number {
    for (const { key, value } of this.driver.rows(RowKind.Journal)) {
      const row = decodeJournalRow(key, value);
      if (row.changes.length > 0) return oldestRevision(journalRowPosition(key), row);
    }
    return this.head + 1;
  }

  read(after: number, bytesMax = 1 << 20, source: Source = this.driver.engine): LogPiece {
    return atOnce(this.begin(after, bytesMax, source));
  }

  begin(after: number, bytesMax: number, source: Source): MaybePromise<LogPiece> {
    const asked = { group: GROUP, afterRevision: after as Revision, headRevision: this.head };
    return readLogPiece(source, CLOCK, { ...asked, bytesMax });
  }
}

type Source = Pick<Engine, "iterate">;

const revisionsOf = (piece: LogPiece): number[] | undefined =>
  piece.kind === "compacted" ? undefined : piece.changes.map(({ revision }) => revision);

const range = (from: number, to: number): number[] =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

/** The same engine, that runs `between` before each read of rows. */
const interrupted = (engine: Engine, between: () => void): Source => ({
  iterate: (options: IterateOptions) => {
    const iterator = engine.iterate(options);
    return {
      next: () => {
        between();
        // One at a time, so that there is a trim between any two.
        return iterator.next(1);
      },
      close: () => iterator.close(),
    };
  },
});

describe("readLogPiece()", () => {
  it("finds exactly what the log has behind any revision, and knows what it has not", () => {
    const step = fc.oneof(
      fc.record({ changes: fc.nat({ max: 4 }) }),
      fc.record({ kept: fc.nat({ max: 12 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
        const log = new Log();
        for (const one of steps) {
          if ("changes" in one) log.apply(one.changes);
          else log.trim(one.kept);
          const { head, oldest } = log;
          expect(atOnce(oldestInLog(log.driver.engine, log.driver.machine, head))).toBe(oldest);
          for (let after = 0; after <= head + 2; after++) {
            const piece = log.read(after);
            if (after + 1 >= oldest) expect(revisionsOf(piece)).toEqual(range(after + 1, head));
            else expect(piece).toEqual({ kind: "compacted", oldestRevision: oldest });
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it("leaves no gap and repeats nothing, wherever trims come in between", () => {
    const shape = fc.record({
      entries: fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 25 }),
      kept: fc.nat({ max: 30 }),
      bytesMax: fc.constantFrom(1, 60, 200, 1 << 20),
      trimmed: fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }),
    });
    fc.assert(
      fc.property(shape, ({ entries, kept, bytesMax, trimmed }) => {
        const log = new Log();
        for (const changes of entries) log.apply(changes);
        let reads = 0;
        const source = interrupted(log.driver.engine, () => {
          if (trimmed[reads++ % trimmed.length]) log.trim(kept, 1);
        });
        let position = 0;
        for (let pieces = 0; position < log.head; pieces++) {
          expect(pieces).toBeLessThan(200);
          const before = log.oldest;
          const piece = log.read(position, bytesMax, source);
          if (piece.kind === "compacted") {
            expect(piece.oldestRevision).toBeGreaterThan(position + 1);
            expect(piece.oldestRevision).toBeGreaterThanOrEqual(before);
            position = piece.oldestRevision - 1;
          } else {
            const revisions = revisionsOf(piece)!;
            expect(revisions.length).toBeGreaterThan(0);
            expect(revisions).toEqual(range(position + 1, position + revisions.length));
            expect(piece.changes.map(({ key }) => Buffer.from(key).toString())).toEqual(
              revisions.map(String),
            );
            position += revisions.length;
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it("ends within a row that is too large, and goes on there", () => {
    const log = new Log();
    log.apply(10);
    const piece = log.read(4, 120);
    expect(revisionsOf(piece)).toEqual([5, 6, 7]);
    expect(piece.kind === "changes" && piece.sizeBytes).toBeGreaterThanOrEqual(120);
    expect(revisionsOf(log.read(7))).toEqual([8, 9, 10]);
  });

  it("ends when it takes long, with the rows that it has", () => {
    const log = new Log();
    for (let i = 0; i < 200; i++) log.apply(1);
    let nowMs = 0;
    const clock = { monotonicMs: () => nowMs++ };
    const asked = { group: GROUP, afterRevision: 0 as Revision, headRevision: log.head };
    const piece = atOnce(readLogPiece(log.driver.engine, clock, { ...asked, bytesMax: 1 << 20 }));
    expect(revisionsOf(piece)).toEqual(range(1, 64));
  });

  it("does not see other groups", () => {
    const log = new Log();
    log.apply(1);
    const other = new Driver(log.driver.engine, (GROUP + 1) as GroupId);
    other.one(START_MS, system(mutation("other", put("v"))));
    expect(revisionsOf(log.read(0))).toEqual([1]);
    expect(revisionsOf(log.read(1))).toEqual([]);
  });

  it("does not show a log that has a hole", () => {
    const log = new Log();
    for (let i = 0; i < 3; i++) log.apply(1);
    const batch = log.driver.engine.batch();
    batch.delete(log.driver.rows(RowKind.Journal)[1]!.key);
    atOnce(log.driver.engine.write(batch));
    expect(() => log.read(0)).toThrow(expect.objectContaining({ code: "DATA_CORRUPT" }));
  });
});
