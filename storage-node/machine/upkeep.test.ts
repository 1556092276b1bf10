/** Expiry sweeps and journal trimming over a memory engine. */
import { describe, expect, it } from "vitest";
import type { EntryBody } from "#proto/codec/messages.ts";
import { journalRowPosition, RowKind } from "#storage-node/engine/layout.ts";
import { DEDUPE_BUCKET_MS } from "./dedupe.ts";
import { expiredKeys } from "./expiry.ts";
import { decodeJournalRow } from "./journal.ts";
import { RETENTION_DEFAULT, trimJournal } from "./journal-trim.ts";
import { atOnce, Driver, mutation, put, requestId, START_MS, system } from "./testing.ts";

const WINDOW_MS = 2 * DEDUPE_BUCKET_MS;

const putEntry = (logTimeMs: number, key: string, ttlMs = 0): EntryBody => ({
  logTimeMs,
  commands: [system(mutation(key, put("v", ttlMs)))],
});

describe("expiredKeys()", () => {
  const keysOf = (driver: Driver, nowMs: number, keysMax = 10): string[] =>
    atOnce(expiredKeys(driver.machine, driver.engine, nowMs, keysMax)).map(({ key, action }) => {
      expect(action.kind).toBe("expire");
      return Buffer.from(key).toString();
    });

  function threeKeys(): Driver {
    const driver = new Driver();
    driver.round([
      putEntry(START_MS, "late", 300),
      putEntry(START_MS, "early", 100),
      putEntry(START_MS, "middle", 200),
      putEntry(START_MS, "never"),
    ]);
    return driver;
  }

  it("finds keys from their time on, earliest first, at most as many as asked for", () => {
    const driver = threeKeys();
    expect(keysOf(driver, START_MS + 99)).toEqual([]);
    expect(keysOf(driver, START_MS + 200)).toEqual(["early", "middle"]);
    expect(keysOf(driver, START_MS + 200, 1)).toEqual(["early"]);
  });

  it("finds them again until they are removed: a proposal may be lost", () => {
    const driver = threeKeys();
    expect(keysOf(driver, START_MS + 100)).toEqual(["early"]);
    expect(driver.machine.nextExpiryAtMs).toBe(START_MS + 100);
    expect(keysOf(driver, START_MS + 100)).toEqual(["early"]);
  });

  it("makes nextExpiryAtMs exact once the key is removed", () => {
    const driver = threeKeys();
    const expire = system(mutation("early", { kind: "expire" }));
    driver.round([{ logTimeMs: START_MS + 100, commands: [expire] }]);
    expect(driver.machine.nextExpiryAtMs).toBe(START_MS + 100);
    expect(keysOf(driver, START_MS + 100)).toEqual([]);
    expect(driver.machine.nextExpiryAtMs).toBe(START_MS + 200);
  });

  it("does not lose an earlier expiry that is applied while it reads", () => {
    const driver = threeKeys();
    const { engine, machine } = driver;
    const source = {
      iterate: (options: Parameters<typeof engine.iterate>[0]) => {
        const iterator = engine.iterate(options);
        driver.round([putEntry(START_MS, "new", 150)]);
        return iterator;
      },
    };
    atOnce(expiredKeys(machine, source, START_MS + 100, 10));
    driver.round([
      { logTimeMs: START_MS + 100, commands: [system(mutation("early", { kind: "expire" }))] },
    ]);
    atOnce(expiredKeys(machine, engine, START_MS + 100, 10));
    expect(machine.nextExpiryAtMs).toBe(START_MS + 150);
  });
});

describe("trimJournal()", () => {
  const limits = {
    ...RETENTION_DEFAULT,
    ...{ revisionsKept: 5, revisionsPerLookMin: 1, rowsMax: 4 },
  };
  const revisions = (driver: Driver): number[] =>
    driver.rows(RowKind.Journal).map(({ key }) => journalRowPosition(key).revision);

  function twentyRevisions(): Driver {
    const driver = new Driver();
    for (let i = 0; i < 20; i++) driver.round([putEntry(START_MS, `key ${i}`)]);
    return driver;
  }

  it("keeps what lies within the dedupe window", () => {
    const driver = twentyRevisions();
    expect(atOnce(trimJournal(driver.machine, driver.engine, START_MS, limits))).toBe(0);
    expect(revisions(driver)).toHaveLength(20);
  });

  it("drops the oldest rows in steps and keeps as many revisions as it is told", () => {
    const driver = twentyRevisions();
    driver.round([putEntry(START_MS + WINDOW_MS, "last")]);
    const dropped: number[] = [];
    for (let i = 0; i < 5; i++) {
      dropped.push(atOnce(trimJournal(driver.machine, driver.engine, START_MS, limits)));
    }
    expect(dropped).toEqual([4, 4, 4, 4, 0]);
    expect(revisions(driver)).toEqual([17, 18, 19, 20, 21]);
    driver.restart();
    expect(driver.machine.revision).toBe(21);
    expect(driver.machine.appliedIndex).toBe(21);
  });

  it("looks only when enough revisions have come since", () => {
    const driver = twentyRevisions();
    driver.round([putEntry(START_MS + WINDOW_MS, "last")]);
    const noLook = { ...limits, revisionsPerLookMin: 17 };
    // After a start the age of the oldest row is not known: it is looked at once.
    driver.machine.journal.oldestTimeMs = START_MS;
    const engine = {
      iterate: () => {
        throw new Error("looked");
      },
      batch: () => driver.engine.batch(),
      write: () => {},
    };
    expect(trimJournal(driver.machine, engine, START_MS, noLook)).toBe(0);
    expect(() => trimJournal(driver.machine, engine, START_MS, limits)).toThrow("looked");
  });

  it("leaves the answers to retries whole", () => {
    const driver = twentyRevisions();
    const command = {
      requestId: requestId(1),
      deadlineMs: START_MS + 60_000,
      mutations: [mutation("once", put("v"))],
    };
    const answer = driver.one(START_MS, command);
    for (let i = 0; i < 20; i++) driver.round([putEntry(START_MS + WINDOW_MS, `later ${i}`)]);
    while (atOnce(trimJournal(driver.machine, driver.engine, START_MS, limits)) > 0);
    driver.restart();
    expect(driver.one(START_MS + WINDOW_MS, command)).toEqual(answer);
  });
});

describe("journal rows without changes", () => {
  it("do not pile up in a vshard that only answers conditions that fail", () => {
    const driver = new Driver();
    driver.round([putEntry(START_MS, "key")]);
    for (let i = 1; i <= 50; i++) {
      const command = {
        requestId: requestId(i),
        deadlineMs: START_MS + i * DEDUPE_BUCKET_MS,
        mutations: [mutation("key", put("v"), { mustBeAbsent: true })],
      };
      driver.one(START_MS + i * DEDUPE_BUCKET_MS, command);
    }
    const rows = driver.rows(RowKind.Journal);
    expect(rows.length).toBeLessThanOrEqual(3);
    // The one change of the vshard is still in its change log.
    expect(rows.flatMap(({ key, value }) => decodeJournalRow(key, value).changes)).toHaveLength(1);
  });
});
