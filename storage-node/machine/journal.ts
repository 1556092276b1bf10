/**
 * Journal rows: one per applied Raft entry, whether or not the entry changed anything.
 *
 * One row does the work of three kinds, because every further row in a batch costs more than the
 * bytes it holds. It is
 *
 * - the applied marker: the last row of a group tells applied index, term, log time and revision,
 *   and it is written in the same engine batch as the entry's effects, so the two cannot part;
 * - the change log (outbox): the changes of the entry, which have consecutive revisions. Those are
 *   not stored; they follow from the revision in the row's key, so a hole cannot be written;
 * - the dedupe table: the results of the entry's commands that carry a request id.
 *
 * Results of failed conditions and of deletes that found nothing are recorded like any other. A
 * client that was told "condition failed" acts on it; if a delayed copy of its request were applied
 * later, because by then the condition holds, the answer would have been a lie.
 */
import { type MutationResult, MutationStatus, type WriteResult } from "#proto/codec/messages.ts";
import { type Change, ChangeKind } from "#shared/change.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision, Space, TenantId, Term } from "#shared/ids.ts";
import { REQUEST_ID_SIZE_BYTES } from "#shared/limits.ts";
import { type JournalPosition, journalRowPosition } from "#storage-node/engine/layout.ts";
import { RowReader, RowWriter } from "./varint.ts";

const VERSION = 1;
const CREATED = 0x80;

/** Result of a command that carried a request id. */
export type RecordedResult = {
  /** 16 bytes. */
  readonly requestId: Uint8Array;
  readonly deadlineMs: number;
  readonly result: WriteResult;
};

export type JournalRow = {
  readonly term: Term;
  /** Log time of the entry, milliseconds. Never less than that of the row before. */
  readonly logTimeMs: number;
  /**
   * The latest deadline of any request id recorded up to this row, and at least `logTimeMs`. Never
   * less than that of the row before: once it has passed, so has every deadline up to this row.
   */
  readonly dedupeUntilMs: number;
  /** In order; the last has the revision in the row's key. */
  readonly changes: readonly Change[];
  readonly results: readonly RecordedResult[];
};

/** Kept between calls, to save its buffer; empty whenever no call runs. */
const writer = new RowWriter();

/** Where the changes of an entry, and its log time, are left for whoever wants to pass them on. */
export type ChangesSink = { changes: readonly Change[] | undefined; logTimeMs: number };

/** What the change log shows of a row. */
export type JournalChanges = Pick<JournalRow, "logTimeMs" | "changes">;

/** A fresh buffer; keys and request ids are copied into it. */
export function encodeJournalRow(row: JournalRow): Uint8Array {
  writer.byte(VERSION);
  writer.varint(row.term);
  writer.varint(row.logTimeMs);
  writer.varint(row.dedupeUntilMs - row.logTimeMs);
  writer.varint(row.changes.length);
  for (const change of row.changes) {
    writer.byte(change.kind);
    writer.varint(change.tenant);
    writer.byte(change.space);
    writer.varint(change.key.length);
    writer.bytes(change.key);
    writer.varint(change.previousRevision);
    writer.varint(change.valueSizeBytes);
    writer.varint(change.expiresAtMs);
  }
  writer.varint(row.results.length);
  for (const { requestId, deadlineMs, result } of row.results) {
    writer.bytes(requestId);
    writer.varint(deadlineMs);
    writer.byte(result.applied ? 1 : 0);
    writer.varint(result.mutations.length);
    for (const mutation of result.mutations) {
      writer.byte(mutation.status | (mutation.created ? CREATED : 0));
      writer.varint(mutation.revision);
    }
  }
  return writer.take();
}

/** Decodes one row; byte fields are views. @throws KvError DATA_CORRUPT */
export function decodeJournalRow(rowKey: Uint8Array, value: Uint8Array): JournalRow {
  const revision = revisionOf(rowKey);
  const reader = new RowReader(value);
  if (reader.byte() !== VERSION) throw corrupt("version");
  const term = reader.varint() as Term;
  const logTimeMs = reader.varint();
  const dedupeUntilMs = logTimeMs + reader.varint();
  if (dedupeUntilMs > Number.MAX_SAFE_INTEGER) throw corrupt("deadline");
  const changes = readChanges(reader, revision);
  const results: RecordedResult[] = [];
  for (let left = reader.varint(); left > 0; left--) results.push(readResult(reader));
  reader.end();
  return { term, logTimeMs, dedupeUntilMs, changes, results };
}

/** What trimming has to know of a row. @throws KvError DATA_CORRUPT */
export function decodeJournalHead(value: Uint8Array): {
  readonly logTimeMs: number;
  readonly dedupeUntilMs: number;
  readonly changeCount: number;
} {
  const reader = new RowReader(value);
  if (reader.byte() !== VERSION) throw corrupt("version");
  reader.varint();
  const logTimeMs = reader.varint();
  const dedupeUntilMs = logTimeMs + reader.varint();
  return { logTimeMs, dedupeUntilMs, changeCount: reader.varint() };
}

/** The first half of a row: who reads the change log has no use for results. @throws KvError DATA_CORRUPT */
export function decodeJournalChanges(rowKey: Uint8Array, value: Uint8Array): JournalChanges {
  const revision = revisionOf(rowKey);
  const reader = new RowReader(value);
  if (reader.byte() !== VERSION) throw corrupt("version");
  reader.varint();
  const logTimeMs = reader.varint();
  reader.varint();
  return { logTimeMs, changes: readChanges(reader, revision) };
}

/** A key that is damaged has no position. */
function revisionOf(rowKey: Uint8Array): Revision {
  try {
    return journalRowPosition(rowKey).revision;
  } catch {
    throw corrupt("position");
  }
}

function readChanges(reader: RowReader, lastRevision: Revision): readonly Change[] {
  const count = reader.varint();
  if (count > lastRevision) throw corrupt("change count");
  const changes: Change[] = [];
  for (let left = count; left > 0; left--) {
    const kind = reader.byte();
    if (kind !== ChangeKind.Put && kind !== ChangeKind.Delete && kind !== ChangeKind.Expire) {
      throw corrupt("change kind");
    }
    const tenant = reader.varint() as TenantId;
    const space = reader.byte() as Space;
    const key = reader.bytes(reader.varint());
    changes.push({
      kind,
      revision: (lastRevision - left + 1) as Revision,
      previousRevision: reader.varint() as Revision,
      tenant,
      space,
      key,
      valueSizeBytes: reader.varint(),
      expiresAtMs: reader.varint(),
    });
  }
  return changes;
}

function readResult(reader: RowReader): RecordedResult {
  const requestId = reader.bytes(REQUEST_ID_SIZE_BYTES);
  const deadlineMs = reader.varint();
  const applied = reader.byte() === 1;
  const mutations: MutationResult[] = [];
  for (let left = reader.varint(); left > 0; left--) {
    const flags = reader.byte();
    const status = (flags & ~CREATED) as MutationStatus;
    if (status < MutationStatus.Applied || status > MutationStatus.Skipped) {
      throw corrupt("mutation status");
    }
    mutations.push({
      status,
      revision: reader.varint() as Revision,
      created: (flags & CREATED) !== 0,
    });
  }
  return { requestId, deadlineMs, result: { kind: "write", applied, mutations } };
}

const corrupt = (what: string): KvError =>
  new KvError("DATA_CORRUPT", `journal row has an unknown ${what}`);

/** The oldest revision that a change log whose first row is this one still holds. */
export function oldestRevision(
  position: JournalPosition,
  row: Pick<JournalRow, "changes">,
): Revision {
  return (position.revision - row.changes.length + 1) as Revision;
}
