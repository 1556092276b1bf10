/** How far a change log reaches back: bounds of age and size, and counting what was there before. */
import { beforeEach, describe, expect, it } from "vitest";
import type { LogIndex, Revision } from "#shared/ids.ts";
import type { EngineIterator } from "#storage-node/engine/engine.ts";
import { journalRowPosition, RowKind } from "#storage-node/engine/layout.ts";
import { ForwardingEngine } from "#storage-node/engine/testing.ts";
import { DEDUPE_BUCKET_MS } from "./dedupe.ts";
import { JournalExtent } from "./journal-extent.ts";
import { measureJournal, RETENTION_DEFAULT, trimJournal } from "./journal-trim.ts";
import { atOnce, Driver, mutation, put, requestId, START_MS, system } from "./testing.ts";

const MINUTE_MS = 60_000;

/** An engine whose rows nobody may look through. */
class BlindEngine extends ForwardingEngine {
  override iterate(): EngineIterator {
    return expect.fail("looked");
  }
}

let driver: Driver;
const putAt = (logTimeMs: number): void => {
  driver.one(logTimeMs, system(mutation("key", put("v"))));
};
const revisions = (): number[] =>
  driver.rows(RowKind.Journal).map(({ key }) => journalRowPosition(key).revision);
const trim = (nowMs: number, limits = {}): number =>
  atOnce(trimJournal(driver.machine, driver.engine, nowMs, { ...RETENTION_DEFAULT, ...limits }));
/** Bytes of rows with changes. */
const bytes = (): number =>
  driver.rows(RowKind.Journal).reduce((sum, { key, value }) => sum + key.length + value.length, 0);

beforeEach(() => {
  driver = new Driver();
});

describe("trimJournal() by age", () => {
  const ageMsMax = 10 * MINUTE_MS;

  it("drops rows that are older than allowed, but never the last one", () => {
    for (let minute = 0; minute < 5; minute++) putAt(START_MS + minute * MINUTE_MS);
    expect(trim(START_MS + ageMsMax, { ageMsMax })).toBe(0);
    expect(trim(START_MS + ageMsMax + 2.5 * MINUTE_MS, { ageMsMax })).toBe(3);
    expect(revisions()).toEqual([4, 5]);
    expect(trim(START_MS + 100 * ageMsMax, { ageMsMax })).toBe(1);
    expect(revisions()).toEqual([5]);
    driver.restart();
    expect(driver.machine.revision).toBe(5);
  });

  it("goes by log time now, not by that of the last entry, and keeps the dedupe window", () => {
    const command = {
      ...system(mutation("key", put("v"))),
      requestId: requestId(1),
      deadlineMs: START_MS + 4 * DEDUPE_BUCKET_MS,
    };
    const answer = driver.one(START_MS, command);
    putAt(START_MS + DEDUPE_BUCKET_MS);
    // Both rows are too old for the change log, and by the last entry's time a retry may come.
    expect(trim(START_MS + 10 * ageMsMax, { ageMsMax })).toBe(0);
    driver.restart();
    expect(driver.one(START_MS + 2 * DEDUPE_BUCKET_MS, command)).toEqual(answer);
  });

  it("looks again only when the oldest row may be too old", () => {
    putAt(START_MS);
    putAt(START_MS + MINUTE_MS);
    trim(START_MS, { ageMsMax });
    expect(driver.machine.journal.oldestTimeMs).toBe(START_MS);
    const blind = new BlindEngine(driver.engine);
    const limits = { ...RETENTION_DEFAULT, ageMsMax };
    expect(trimJournal(driver.machine, blind, START_MS + ageMsMax, limits)).toBe(0);
  });

  it("does not look again before the next entry at what the dedupe window holds, or at nothing", () => {
    const limits = { ...RETENTION_DEFAULT, ageMsMax };
    const blind = new BlindEngine(driver.engine);
    // Nothing there.
    expect(trim(START_MS, { ageMsMax })).toBe(0);
    expect(trimJournal(driver.machine, blind, START_MS + ageMsMax, limits)).toBe(0);
    putAt(START_MS);
    const lateMs = START_MS + 2 * ageMsMax;
    expect(trim(lateMs, { ageMsMax })).toBe(0);
    expect(trimJournal(driver.machine, blind, lateMs + ageMsMax, limits)).toBe(0);
    putAt(lateMs);
    expect(trim(lateMs, { ageMsMax })).toBe(1);
    // The row that is left is young: only its age keeps it.
    expect(trim(lateMs, { ageMsMax })).toBe(0);
    putAt(lateMs + DEDUPE_BUCKET_MS);
    expect(trim(lateMs + 2 * ageMsMax, { ageMsMax })).toBe(1);
  });

  it("drops a row that grew too old while nothing was applied", () => {
    putAt(START_MS);
    putAt(START_MS + DEDUPE_BUCKET_MS);
    expect(trim(START_MS + DEDUPE_BUCKET_MS, { ageMsMax })).toBe(0);
    expect(trim(START_MS + 2 * ageMsMax, { ageMsMax })).toBe(1);
  });
});

describe("trimJournal() by size", () => {
  it("drops the oldest rows until the rest is small enough", () => {
    for (let i = 0; i < 100; i++) putAt(START_MS + i * DEDUPE_BUCKET_MS);
    expect(driver.machine.journal.sizeBytes).toBe(bytes());
    const sizeBytesMax = Math.floor(bytes() / 2);
    const nowMs = START_MS + 100 * DEDUPE_BUCKET_MS;
    const dropped = trim(nowMs, { sizeBytesMax });
    expect(bytes()).toBeLessThanOrEqual(sizeBytesMax);
    expect(revisions()[0]).toBe(dropped + 1);
    // No more than needed: one more row would have been too many.
    expect(bytes()).toBeGreaterThan(sizeBytesMax - bytes() / revisions().length - 1);
    expect(driver.machine.journal.sizeBytes).toBe(bytes());
    expect(trim(nowMs, { sizeBytesMax })).toBe(0);
  });

  it("counts what was there before a restart, in steps, also while it is trimmed", () => {
    for (let i = 0; i < 20; i++) putAt(START_MS + i * DEDUPE_BUCKET_MS);
    driver.restart();
    const { journal } = driver.machine;
    expect(journal.sizeBytes).toBe(0);
    for (let i = 20; i < 24; i++) putAt(START_MS + i * DEDUPE_BUCKET_MS);
    const measure = (): void => atOnce(measureJournal(driver.machine, driver.engine, 5));
    const nowMs = START_MS + 24 * DEDUPE_BUCKET_MS;
    measure();
    expect(journal.uncounted?.from.revision).toBe(6);
    // Seven rows go: five that are counted, and two that are not.
    expect(trim(nowMs, { revisionsKept: 17, revisionsPerLookMin: 1 })).toBe(7);
    expect(journal.uncounted?.from.revision).toBe(8);
    for (let steps = 0; steps < 3; steps++) measure();
    expect(journal.uncounted).toBe(undefined);
    expect(journal.sizeBytes).toBe(bytes());
    measure();
    expect(journal.sizeBytes).toBe(bytes());
  });

  it("does not count rows without changes, which apply deletes", () => {
    putAt(START_MS);
    const before = driver.machine.journal.sizeBytes;
    driver.round([undefined, undefined]);
    expect(driver.machine.journal.sizeBytes).toBe(before);
    driver.restart();
    atOnce(measureJournal(driver.machine, driver.engine));
    expect(driver.machine.journal.sizeBytes).toBe(before);
  });
});

describe("JournalExtent", () => {
  it("has nothing to count when all that was there is gone", () => {
    const at = (index: number) => ({ revision: index as Revision, index: index as LogIndex });
    const extent = new JournalExtent(at(9));
    expect([extent.isCounted(at(9)), extent.isCounted(at(10))]).toEqual([false, true]);
    extent.trimmed(at(10), START_MS, 0);
    expect(extent.uncounted).toBe(undefined);
    expect(new JournalExtent(at(0)).uncounted).toBe(undefined);
  });
});
