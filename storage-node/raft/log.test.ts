import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { LogIndex, Term } from "#shared/ids.ts";
import { ENTRY_OVERHEAD_BYTES, entrySizeBytes, RaftLog } from "./log.ts";
import { type Entry, EntryKind } from "./types.ts";

const at = (index: number): LogIndex => index as LogIndex;
const inTerm = (term: number): Term => term as Term;

/** Entries of the given terms, from `first` on. */
const entriesOf = (terms: readonly number[], first = 1, data = EMPTY_BYTES): Entry[] =>
  terms.map((term, i) => ({
    index: at(first + i),
    term: inTerm(term),
    kind: EntryKind.Normal,
    data,
  }));

const logOf = (terms: readonly number[], commit = 0, applied = 0): RaftLog =>
  new RaftLog({
    start: { index: at(0), term: inTerm(0) },
    entries: entriesOf(terms),
    commit: at(commit),
    applied: { index: at(applied), term: inTerm(terms[applied - 1] ?? 0) },
  });

const termsOf = (log: RaftLog): (number | undefined)[] =>
  Array.from({ length: log.lastIndex }, (_, i) => log.termAt(at(i + 1)));

describe("RaftLog construction", () => {
  it("takes entries as durable, and what was applied as committed", () => {
    const log = logOf([1, 1, 2], 1, 2);
    expect(log.durableIndex).toBe(3);
    expect(log.hasUnissued).toBe(false);
    expect(log.commit).toBe(2);
    expect(log.lastTerm).toBe(2);
  });

  it("refuses holes, terms that go back, and marks beyond the log", () => {
    const start = { index: at(4), term: inTerm(2) };
    const open = (entries: readonly Entry[], commit: number, applied: number) => () =>
      new RaftLog({
        start,
        entries,
        commit: at(commit),
        applied: { index: at(applied), term: inTerm(2) },
      });
    expect(open(entriesOf([2], 6), 4, 4)).toThrow("follows");
    expect(open(entriesOf([1], 5), 4, 4)).toThrow("goes back");
    expect(open(entriesOf([2], 5), 6, 4)).toThrow("missing");
    expect(open(entriesOf([2], 5), 4, 3)).toThrow("missing");
    expect(open(entriesOf([2], 5), 5, 5)).not.toThrow();
  });

  it("starts over behind what was applied when it does not hold that entry", () => {
    const open = (applied: { index: number; term: number }, commit = 1) =>
      new RaftLog({
        start: { index: at(0), term: inTerm(0) },
        entries: entriesOf([1, 1, 2]),
        commit: at(commit),
        applied: { index: at(applied.index), term: inTerm(applied.term) },
      });
    for (const applied of [
      { index: 7, term: 2 },
      { index: 3, term: 3 },
    ]) {
      const log = open(applied);
      expect(log.resetAtOpen).toBe(true);
      expect(log.start).toEqual(applied);
      expect([log.lastIndex, log.commit, log.appliedIndex]).toEqual(Array(3).fill(applied.index));
      expect(log.hasUnissued).toBe(false);
    }
    expect(open({ index: 3, term: 2 }).resetAtOpen).toBe(false);
    expect(() => open({ index: 2, term: 2 }, 3)).toThrow("behind the snapshot are missing");
  });
});

describe("RaftLog.merge()", () => {
  it("keeps matching entries and what lies behind them", () => {
    const log = logOf([1, 1, 2, 2]);
    log.merge(entriesOf([1, 2], 2));
    expect(termsOf(log)).toEqual([1, 1, 2, 2]);
    expect(log.takeUnissued()).toEqual({ truncateFrom: undefined, entries: [] });
    expect(log.durableIndex).toBe(4);
  });

  it("cuts at the first conflict, and hands out cut and replacement together, once", () => {
    const log = logOf([1, 1, 2, 2]);
    log.merge(entriesOf([1, 3, 3], 2));
    expect(termsOf(log)).toEqual([1, 1, 3, 3]);
    expect(log.durableIndex).toBe(2);
    expect(log.takeUnissued()).toEqual({ truncateFrom: 3, entries: entriesOf([3, 3], 3) });
    expect(log.takeUnissued()).toEqual({ truncateFrom: undefined, entries: [] });
  });

  it("remembers the lowest of several cuts", () => {
    const log = logOf([1, 1, 1, 1]);
    log.merge(entriesOf([2, 2], 3));
    log.merge(entriesOf([3], 2));
    log.merge(entriesOf([3, 3], 3));
    expect(log.takeUnissued()).toEqual({ truncateFrom: 2, entries: entriesOf([3, 3, 3], 2) });
  });

  it("needs no cut on disk for entries that were never issued", () => {
    const log = logOf([1]);
    log.merge(entriesOf([2, 2], 2));
    log.merge(entriesOf([3], 2));
    expect(log.takeUnissued()).toEqual({ truncateFrom: undefined, entries: entriesOf([3], 2) });
  });

  it("refuses to cut what is committed, and skips it in what is sent", () => {
    const log = logOf([1, 1, 1], 2);
    log.merge(entriesOf([1, 1, 4], 1));
    expect(termsOf(log)).toEqual([1, 1, 4]);
    expect(() => log.append(entriesOf([4], 9)[0]!)).toThrow("end of its log");
  });

  it("leaves the log equal to the leader's up to the message's end (property)", () => {
    const ascending = fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 8 }).map((steps) =>
      steps.map(
        (
          (sum) => (step: number) =>
            (sum += step)
        )(1),
      ),
    );
    fc.assert(
      fc.property(ascending, ascending, fc.nat(8), fc.nat(8), (own, leaders, from, count) => {
        // Log matching: an index and term name one entry, so equal terms mean equal prefixes.
        let shared = 0;
        while (shared < own.length && own[shared] === leaders[shared]) shared++;
        const later = leaders.map((term, i) => (i < shared ? term : term + 50));
        const previous = Math.min(from, shared);
        const sent = later.slice(previous, previous + count);
        const log = logOf(own);
        log.merge(entriesOf(sent, previous + 1));
        const end = previous + sent.length;
        expect(termsOf(log).slice(0, end)).toEqual(later.slice(0, end));
        const conflict = end > shared;
        expect(log.lastIndex).toBe(conflict ? end : own.length);
      }),
    );
  });
});

describe("RaftLog.markDurable()", () => {
  it("ignores an entry of another term, and one not issued", () => {
    const log = logOf([1]);
    log.append(entriesOf([2], 2)[0]!);
    log.markDurable(at(2), inTerm(2));
    expect(log.durableIndex).toBe(1);
    log.takeUnissued();
    log.markDurable(at(2), inTerm(1));
    expect(log.durableIndex).toBe(1);
    log.markDurable(at(2), inTerm(2));
    expect(log.durableIndex).toBe(2);
  });

  it("never moves back", () => {
    const log = logOf([1, 1, 1]);
    log.markDurable(at(2), inTerm(1));
    expect(log.durableIndex).toBe(3);
  });
});

describe("RaftLog.takeCommitted()", () => {
  it("hands out committed and durable entries once, in order", () => {
    const log = logOf([1, 1]);
    log.append(entriesOf([2], 3)[0]!);
    log.takeUnissued();
    log.commitTo(at(3));
    expect(log.takeCommitted(1 << 20).map((entry) => entry.index)).toEqual([1, 2]);
    expect(log.takeCommitted(1 << 20)).toEqual([]);
    log.markDurable(at(3), inTerm(2));
    expect(log.takeCommitted(1 << 20).map((entry) => entry.index)).toEqual([3]);
  });

  it("hands out at most the bytes asked for, and at least one entry", () => {
    const log = logOf([1, 1, 1], 3);
    expect(log.takeCommitted(2 * ENTRY_OVERHEAD_BYTES)).toHaveLength(2);
    expect(log.hasUnhandedCommitted).toBe(true);
    expect(log.takeCommitted(1)).toHaveLength(1);
    expect(log.hasUnhandedCommitted).toBe(false);
  });
});

describe("RaftLog marks", () => {
  it("commitTo() refuses what is beyond the log and ignores what is old", () => {
    const log = logOf([1, 1], 1);
    expect(log.commitTo(at(1))).toBe(false);
    expect(log.commitTo(at(2))).toBe(true);
    expect(() => log.commitTo(at(3))).toThrow("beyond");
  });

  it("applied() refuses what was never handed out", () => {
    const log = logOf([1, 1], 2);
    expect(() => log.applied(at(1))).toThrow("handed out");
  });

  it("compact() keeps the term at the start, and refuses what is not applied", () => {
    const log = logOf([1, 2, 2], 3, 2);
    expect(() => log.compact(at(3))).toThrow("applied");
    log.compact(at(2));
    expect(log.start).toEqual({ index: 2, term: 2 });
    expect(log.termAt(at(1))).toBeUndefined();
    expect(log.termAt(at(2))).toBe(2);
    expect(log.termAt(at(4))).toBeUndefined();
    expect(log.lastIndex).toBe(3);
    log.compact(at(1));
    expect(log.start.index).toBe(2);
  });
});

describe("RaftLog questions", () => {
  it("isUpToDate() compares last terms first, then lengths", () => {
    const log = logOf([1, 2, 2]);
    expect(log.isUpToDate(at(1), inTerm(3))).toBe(true);
    expect(log.isUpToDate(at(9), inTerm(1))).toBe(false);
    expect(log.isUpToDate(at(3), inTerm(2))).toBe(true);
    expect(log.isUpToDate(at(2), inTerm(2))).toBe(false);
  });

  it("lastIndexWithTermUpTo() skips later terms and stops at the start", () => {
    const log = logOf([1, 1, 3, 3, 5], 2, 2);
    expect(log.lastIndexWithTermUpTo(at(5), inTerm(4))).toBe(4);
    expect(log.lastIndexWithTermUpTo(at(4), inTerm(2))).toBe(2);
    expect(log.lastIndexWithTermUpTo(at(99), inTerm(9))).toBe(5);
    log.compact(at(2));
    expect(log.lastIndexWithTermUpTo(at(4), inTerm(0))).toBe(2);
    expect(log.lastIndexWithTermUpTo(at(1), inTerm(0))).toBe(1);
  });

  it("slice() fits bytes, but always gives one entry", () => {
    const log = new RaftLog({
      start: { index: at(0), term: inTerm(0) },
      entries: entriesOf([1, 1, 1], 1, new Uint8Array(100)),
      commit: at(0),
      applied: { index: at(0), term: inTerm(0) },
    });
    const size = entrySizeBytes(entriesOf([1], 1, new Uint8Array(100))[0]!);
    expect(log.slice(at(1), 2 * size)).toHaveLength(2);
    expect(log.slice(at(1), 2 * size - 1)).toHaveLength(1);
    expect(log.slice(at(3), 1)).toHaveLength(1);
    expect(log.slice(at(4), 1000)).toHaveLength(0);
    expect(log.sizeBytesBetween(at(1), at(3))).toBe(2 * size);
  });

  it("hasUnappliedConfiguration() looks between applied and commit only", () => {
    const entries = entriesOf([1, 1, 1]).map((entry) =>
      entry.index === 2 ? { ...entry, kind: EntryKind.Configuration } : entry,
    );
    const open = (commit: number, applied: number): boolean =>
      new RaftLog({
        start: { index: at(0), term: inTerm(0) },
        entries,
        commit: at(commit),
        applied: { index: at(applied), term: inTerm(applied === 0 ? 0 : 1) },
      }).hasUnappliedConfiguration();
    expect(open(1, 0)).toBe(false);
    expect(open(2, 1)).toBe(true);
    expect(open(3, 2)).toBe(false);
  });
});

describe("RaftLog.restore()", () => {
  const restored = (): RaftLog => {
    const log = logOf([1, 1, 1], 1, 1);
    log.restore({ index: at(10), term: inTerm(3) });
    return log;
  };

  it("drops everything, and hands nothing out until the engine has followed", () => {
    const log = restored();
    expect([log.lastIndex, log.lastTerm, log.commit]).toEqual([10, 3, 10]);
    expect([log.appliedIndex, log.installing]).toEqual([1, true]);
    log.merge(entriesOf([3], 11));
    log.commitTo(at(11));
    log.takeUnissued();
    log.markDurable(at(11), inTerm(3));
    expect(log.hasUnhandedCommitted).toBe(false);
    expect(log.compactionIndex(at(0), 0)).toBe(10);
    log.applied(at(10));
    expect(log.installing).toBe(false);
    expect(log.takeCommitted(1000).map(({ index }) => index)).toEqual([11]);
  });

  it("forgets a cut: the reset comes before the entries", () => {
    const log = logOf([1, 1, 1], 1, 1);
    log.merge(entriesOf([2], 2));
    log.restore({ index: at(10), term: inTerm(3) });
    log.merge(entriesOf([3], 11));
    expect(log.takeUnissued()).toMatchObject({ truncateFrom: undefined, entries: [{ index: 11 }] });
  });

  it("never replaces what is committed", () => {
    expect(() => logOf([1, 1], 2).restore({ index: at(2), term: inTerm(2) })).toThrow("never");
  });
});

describe("RaftLog.compactionIndex()", () => {
  it("keeps what lies behind the floor, up to a bound in bytes", () => {
    const log = logOf([1, 1, 1, 1, 1], 5, 4);
    const size = entrySizeBytes(entriesOf([1])[0]!);
    expect(log.compactionIndex(at(2), 10 * size)).toBe(2);
    expect(log.compactionIndex(at(2), size)).toBe(3);
    expect(log.compactionIndex(at(2), 0)).toBe(4);
    expect(log.compactionIndex(at(9), 10 * size)).toBe(4);
    expect(log.compactionIndex(at(0), 10 * size)).toBe(0);
  });
});
