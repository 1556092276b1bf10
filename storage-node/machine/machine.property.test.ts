/** The machine against a naive model, and against itself grouped, restarted and trimmed otherwise. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EntryBody } from "#proto/codec/messages.ts";
import type { Change } from "#shared/change.ts";
import type { GroupId, TenantId } from "#shared/ids.ts";
import {
  countersRowTenant,
  dataRowAddress,
  expiryRowAddress,
  expiryRowTimeMs,
  journalRowPosition,
  RowKind,
} from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { decodeCountersRow, type TenantCounters } from "./counters.ts";
import { decodeDataRow } from "./data-row.ts";
import { bucketOf } from "./dedupe.ts";
import { expiredKeys } from "./expiry.ts";
import { decodeJournalRow } from "./journal.ts";
import type { CommandOutcome } from "./machine.ts";
import { RowHeads } from "./row-heads.ts";
import { anyEntries, atOnce, Driver, Model, type ModelOutcome, nameOf } from "./testing.ts";

const RUNS = { numRuns: 150 };

/** Cuts `items` into groups whose sizes follow `sizes`, repeated. */
function grouped<T>(items: readonly T[], sizes: readonly number[]): T[][] {
  const groups: T[][] = [];
  for (let at = 0; at < items.length; ) {
    const size = sizes[groups.length % sizes.length]!;
    groups.push(items.slice(at, at + size));
    at += size;
  }
  return groups;
}

const anySizes = (): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 });

const comparable = (outcome: CommandOutcome): ModelOutcome =>
  outcome.kind === "failure"
    ? { kind: "failure", code: outcome.code }
    : { kind: "write", applied: outcome.applied, mutations: [...outcome.mutations] };

const plain = (change: Change): unknown => ({ ...change, key: [...change.key] });

function expectStoredRows(driver: Driver, model: Model): void {
  const stored = driver.rows(RowKind.Data).map(({ key, value }) => {
    const row = decodeDataRow(value);
    return { ...row, name: nameOf(dataRowAddress(key)), value: [...row.value] };
  });
  const expected = [...model.rows.values()].map((row) => {
    const { tenant: _, space: __, key: ___, ...rest } = row;
    return { ...rest, name: nameOf(row), value: [...row.value] };
  });
  const byRevision = (a: { revision: number }, b: { revision: number }) => a.revision - b.revision;
  expect(stored.sort(byRevision)).toEqual(expected.sort(byRevision));
}

function expectExpiryRows(driver: Driver, model: Model): void {
  const stored = driver
    .rows(RowKind.Expiry)
    .map(({ key }) => `${expiryRowTimeMs(key)} ${nameOf(expiryRowAddress(key))}`);
  const expiring = [...model.rows.values()].filter(({ expiresAtMs }) => expiresAtMs > 0);
  expect([...stored].sort()).toEqual(
    expiring.map((row) => `${row.expiresAtMs} ${nameOf(row)}`).sort(),
  );
  const earliestMs = Math.min(...expiring.map(({ expiresAtMs }) => expiresAtMs));
  expect(driver.machine.nextExpiryAtMs).toBeLessThanOrEqual(earliestMs);
}

function expectCounters(driver: Driver, model: Model): void {
  const expected = new Map<TenantId, TenantCounters>();
  for (const { tenant, key, value } of model.rows.values()) {
    const { objects, bytes } = expected.get(tenant) ?? { objects: 0, bytes: 0 };
    expected.set(tenant, { objects: objects + 1, bytes: bytes + key.length + value.length });
  }
  const rows = driver.rows(RowKind.Counters);
  const stored = rows.map(
    ({ key, value }) => [countersRowTenant(key), decodeCountersRow(value)] as const,
  );
  expect(new Map(stored)).toEqual(expected);
  expect(new Map(driver.machine.counters())).toEqual(expected);
}

function expectJournal(driver: Driver, model: Model): void {
  const { machine } = driver;
  const rows = driver.rows(RowKind.Journal);
  const changes: Change[] = [];
  for (const [i, { key, value }] of rows.entries()) {
    const row = decodeJournalRow(key, value);
    changes.push(...row.changes);
    const { revision, index } = journalRowPosition(key);
    if (row.changes.length > 0) expect(row.changes.at(-1)!.revision).toBe(revision);
    else expect(bucketOf(row.dedupeUntilMs)).toBeGreaterThanOrEqual(bucketOf(machine.logTimeMs));
    if (i === rows.length - 1) {
      expect({ revision, index }).toEqual({
        revision: machine.revision,
        index: machine.appliedIndex,
      });
      expect(row.logTimeMs).toBe(machine.logTimeMs);
    }
  }
  expect(changes.map(({ revision }) => revision)).toEqual(changes.map((_, i) => i + 1));
  expect(changes.map(plain)).toEqual(model.changes.map(plain));
}

describe("Machine", () => {
  it("answers and stores what the model does, whatever the history", () => {
    fc.assert(
      fc.property(anyEntries(), anySizes(), (entries, sizes) => {
        const driver = new Driver();
        const model = new Model();
        for (const group of grouped(entries, sizes)) {
          const outcomes = driver.round(group);
          const expected = group.map((body) => (body ? model.apply(body) : []));
          expect(outcomes.map((entry) => entry.map(comparable))).toEqual(expected);
        }
        expect(driver.machine.revision).toBe(model.changes.length);
        expectStoredRows(driver, model);
        expectExpiryRows(driver, model);
        expectCounters(driver, model);
        expectJournal(driver, model);
      }),
      RUNS,
    );
  });

  it("leaves the same bytes, however the entries are grouped into rounds", () => {
    fc.assert(
      fc.property(anyEntries(), anySizes(), anySizes(), (entries, sizesA, sizesB) => {
        const run = (groups: (EntryBody | undefined)[][]) => {
          const driver = new Driver();
          const outcomes = groups.flatMap((group) => [...driver.round(group)]);
          return { rows: driver.dump(), outcomes };
        };
        expect(run(grouped(entries, sizesA))).toEqual(run(grouped(entries, sizesB)));
      }),
      RUNS,
    );
  });

  it("leaves the same bytes with the heads of rows kept, also those of machines before it", () => {
    fc.assert(
      fc.property(anyEntries(), anyEntries(), anySizes(), (entries, others, sizes) => {
        const run = (heads?: RowHeads) => {
          // Another group with the same keys, and one whose rows are destroyed and begin anew.
          const engine = openMemory();
          const drivers = [1, 2].map((group) => new Driver(engine, group as GroupId, heads));
          const gone = new Driver(openMemory(), 1 as GroupId, heads);
          for (const one of others) gone.round([one]);
          const outcomes = grouped(entries, sizes).flatMap((round) =>
            drivers.flatMap((driver) => [...driver.round(round)]),
          );
          return { rows: drivers[0]!.dump(), outcomes };
        };
        expect(run(new RowHeads())).toEqual(run());
      }),
      RUNS,
    );
  });

  it("goes on as if nothing had happened after a restart at any point", () => {
    fc.assert(
      fc.property(anyEntries(), anySizes(), fc.nat(), (entries, sizes, restartSeed) => {
        const steady = new Driver();
        const restarted = new Driver();
        for (const [i, group] of grouped(entries, sizes).entries()) {
          if (((restartSeed >>> (i % 31)) & 1) === 1) restarted.restart();
          expect(restarted.round(group)).toEqual(steady.round(group));
          expect(restarted.machine.dedupeSize).toBe(steady.machine.dedupeSize);
        }
        expect(restarted.dump()).toEqual(steady.dump());
      }),
      RUNS,
    );
  });

  it("has no expired key left after sweeps, and nothing else is lost", () => {
    fc.assert(
      fc.property(anyEntries(), fc.integer({ min: 1, max: 3 }), (entries, keysMax) => {
        const driver = new Driver();
        driver.round(entries);
        const nowMs = driver.machine.logTimeMs + 10_000;
        const alive = driver.rows(RowKind.Data).filter(({ value }) => {
          const { expiresAtMs } = decodeDataRow(value);
          return expiresAtMs === 0 || expiresAtMs > nowMs;
        });
        const sweepsMax = driver.rows(RowKind.Expiry).length;
        for (let sweeps = 0; ; sweeps++) {
          expect(sweeps).toBeLessThanOrEqual(sweepsMax);
          const mutations = atOnce(expiredKeys(driver.machine, driver.engine, nowMs, keysMax));
          if (mutations.length === 0) break;
          expect(mutations.length).toBeLessThanOrEqual(keysMax);
          const command = { requestId: new Uint8Array(0), deadlineMs: 0, mutations };
          driver.round([{ logTimeMs: nowMs, commands: [command] }]);
        }
        expect(driver.rows(RowKind.Data)).toEqual(alive);
        const times = driver.rows(RowKind.Expiry).map(({ key }) => expiryRowTimeMs(key));
        expect(driver.machine.nextExpiryAtMs).toBeGreaterThan(nowMs);
        expect(driver.machine.nextExpiryAtMs).toBeLessThanOrEqual(Math.min(...times));
        driver.restart();
        expect(driver.machine.nextExpiryAtMs).toBe(Math.min(...times));
      }),
      RUNS,
    );
  });
});
