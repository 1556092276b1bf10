/**
 * Brings a machine back from the rows of its group, after a start or an installed snapshot.
 *
 * The last journal row tells where the group stands. The rows behind it are read backwards until
 * one whose `dedupeUntilMs` lies in an earlier bucket than the last log time: that value never
 * decreases along the journal, so every record further back is dead. What is loaded is exactly what
 * a machine that was never stopped would hold.
 */
import type { GroupId, LogIndex, Revision, TenantId, Term } from "#shared/ids.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Row } from "#storage-node/engine/engine.ts";
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
import { type RowSource, readRows } from "./read-rows.ts";

/** Journal rows per read. Most groups of an idle node have one row in the window. */
const JOURNAL_ROWS_PER_READ = 64;
const COUNTERS_ROWS_PER_READ = 256;

/** The machine of `group` as its rows describe it; a fresh one if there are none. */
export function loadMachine(group: GroupId, source: RowSource): MaybePromise<Machine> {
  const counters = new Map<TenantId, TenantCounters>();
  const state: MachineState = {
    group,
    appliedIndex: 0 as LogIndex,
    appliedTerm: 0 as Term,
    logTimeMs: 0,
    revision: 0 as Revision,
    dedupeUntilMs: 0,
    dedupe: new DedupeWindow(),
    bareRows: [],
    counters: new Counters(group, counters),
    nextExpiryAtMs: Number.POSITIVE_INFINITY,
  };
  const reads = [
    loadJournal(state, source),
    loadCounters(group, counters, source),
    loadNextExpiry(state, source),
  ];
  if (!reads.some(isPromise)) return new Machine(state);
  return Promise.all(reads).then(() => new Machine(state));
}

function loadJournal(state: MachineState, source: RowSource): MaybePromise<void> {
  const bareRowsNewestFirst: BareRow[] = [];
  let oldestBucket = -1;
  const take = ({ key, value }: Row): boolean => {
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
  };
  const range = { ...rowsOf(RowKind.Journal, state.group), reverse: true };
  const read = readRows(source, range, JOURNAL_ROWS_PER_READ, take);
  const done = (): void => {
    state.bareRows = bareRowsNewestFirst.reverse();
  };
  return isPromise(read) ? read.then(done) : done();
}

function loadCounters(
  group: GroupId,
  byTenant: Map<TenantId, TenantCounters>,
  source: RowSource,
): MaybePromise<void> {
  const range = rowsOf(RowKind.Counters, group);
  return readRows(source, range, COUNTERS_ROWS_PER_READ, ({ key, value }) => {
    byTenant.set(countersRowTenant(key), decodeCountersRow(value));
    return true;
  });
}

function loadNextExpiry(state: MachineState, source: RowSource): MaybePromise<void> {
  const range = { ...rowsOf(RowKind.Expiry, state.group), keysOnly: true };
  return readRows(source, range, 1, ({ key }) => {
    state.nextExpiryAtMs = expiryRowTimeMs(key);
    return false;
  });
}
