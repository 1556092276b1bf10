/**
 * Brings a machine back from the rows of its group, after a start or an installed snapshot.
 *
 * The last journal row tells where the group stands. The rows behind it are read backwards until
 * one whose `dedupeUntilMs` lies in an earlier bucket than the last log time: that value never
 * decreases along the journal, so every record further back is dead. What is loaded is exactly what
 * a machine that was never stopped would hold.
 */
import type { GroupId, LogIndex, Revision, TenantId, Term } from "#shared/ids.ts";
import { isPromise } from "#shared/maybe-promise.ts";
import type { Engine, EngineIterator, IterateOptions, Row } from "#storage-node/engine/engine.ts";
import {
  countersRowTenant,
  expiryRowTimeMs,
  journalRowPosition,
  RowKind,
  rowsOf,
} from "#storage-node/engine/layout.ts";
import { Counters, decodeCountersRow, type TenantCounters } from "./counters.ts";
import { bucketOf, DedupeWindow } from "./dedupe.ts";
import { decodeJournalRow } from "./journal.ts";
import { type BareRow, Machine, type MachineState } from "./machine.ts";

/** What the helpers of the machine read: an engine, or a snapshot of one. */
export type RowSource = Pick<Engine, "iterate">;

const ROWS_PER_READ = 512;

/** Reads rows in order until `take` answers false or there are none left. */
export async function readRows(
  source: RowSource,
  options: IterateOptions,
  take: (row: Row) => boolean,
  rowsPerRead = ROWS_PER_READ,
): Promise<void> {
  const iterator: EngineIterator = source.iterate(options);
  try {
    for (;;) {
      const answer = iterator.next(rowsPerRead);
      const rows = isPromise(answer) ? await answer : answer;
      if (rows.length === 0) return;
      for (const row of rows) if (!take(row)) return;
    }
  } finally {
    const closed = iterator.close();
    if (isPromise(closed)) await closed;
  }
}

/** The machine of `group` as its rows describe it; a fresh one if there are none. */
export async function loadMachine(group: GroupId, source: RowSource): Promise<Machine> {
  const state: MachineState = {
    group,
    appliedIndex: 0 as LogIndex,
    appliedTerm: 0 as Term,
    logTimeMs: 0,
    revision: 0 as Revision,
    dedupeUntilMs: 0,
    dedupe: new DedupeWindow(),
    bareRows: [],
    counters: await loadCounters(group, source),
    nextExpiryAtMs: await loadNextExpiry(group, source),
  };
  await loadJournal(state, source);
  return new Machine(state);
}

async function loadJournal(state: MachineState, source: RowSource): Promise<void> {
  const bareRowsNewestFirst: BareRow[] = [];
  const range = { ...rowsOf(RowKind.Journal, state.group), reverse: true };
  let oldestBucket = -1;
  // Most groups of an idle node have one row in the window; a large first read would be wasted.
  await readRows(
    source,
    range,
    ({ key, value }) => {
      const row = decodeJournalRow(key, value);
      if (oldestBucket < 0) {
        const { revision, index } = journalRowPosition(key);
        state.appliedIndex = index;
        state.revision = revision;
        state.appliedTerm = row.term;
        state.logTimeMs = row.logTimeMs;
        state.dedupeUntilMs = row.dedupeUntilMs;
        oldestBucket = bucketOf(row.logTimeMs);
      }
      if (bucketOf(row.dedupeUntilMs) < oldestBucket) return false;
      for (const { requestId, deadlineMs, result } of row.results) {
        if (bucketOf(deadlineMs) < oldestBucket) continue;
        state.dedupe.record(requestId, deadlineMs, result);
      }
      if (row.changes.length === 0) {
        bareRowsNewestFirst.push({ key, dedupeUntilMs: row.dedupeUntilMs });
      }
      return true;
    },
    64,
  );
  state.bareRows = bareRowsNewestFirst.reverse();
}

async function loadCounters(group: GroupId, source: RowSource): Promise<Counters> {
  const byTenant = new Map<TenantId, TenantCounters>();
  await readRows(source, rowsOf(RowKind.Counters, group), ({ key, value }) => {
    byTenant.set(countersRowTenant(key), decodeCountersRow(value));
    return true;
  });
  return new Counters(group, byTenant);
}

async function loadNextExpiry(group: GroupId, source: RowSource): Promise<number> {
  let nextMs = Number.POSITIVE_INFINITY;
  const range = { ...rowsOf(RowKind.Expiry, group), keysOnly: true };
  await readRows(
    source,
    range,
    ({ key }) => {
      nextMs = expiryRowTimeMs(key);
      return false;
    },
    1,
  );
  return nextMs;
}
