/**
 * What has to be done to a group from time to time: expired keys, and old journal rows.
 *
 * Both only find work; the owner does it. Expired keys are removed through the log, as expire
 * mutations that the leader proposes, so that all replicas remove them at the same entry. Journal
 * rows are trimmed by each replica for itself: how far its change log reaches back is no part of the
 * replicated state, as long as the dedupe window is whole.
 */
import type { Mutation } from "#proto/codec/messages.ts";
import { CHANGE_LOG_REVISIONS_KEPT, JOURNAL_TRIM_REVISIONS_MIN } from "#shared/limits.ts";
import {
  expiryRowAddress,
  expiryRowsStart,
  expiryRowTimeMs,
  journalRowPosition,
  RowKind,
  rowsOf,
} from "#storage-node/engine/layout.ts";
import { bucketOf } from "./dedupe.ts";
import { decodeJournalRow } from "./journal.ts";
import { type RowSource, readRows } from "./load.ts";
import type { Machine } from "./machine.ts";

/**
 * Up to `keysMax` expire mutations for keys that have expired at `nowMs`, earliest first; the leader
 * puts them into a command without request id and deadline. Also makes `nextExpiryAtMs` exact.
 *
 * Call it only when every batch of this machine has been written, and not twice at a time: a row
 * that is applied but not yet in the engine would be missed.
 */
export async function findExpired(
  machine: Machine,
  source: RowSource,
  nowMs: number,
  keysMax: number,
): Promise<readonly Mutation[]> {
  const { group, nextExpiryAtMs } = machine;
  const found: Mutation[] = [];
  if (nextExpiryAtMs > nowMs) return found;
  // Nothing expires before `nextExpiryAtMs`: starting there skips what the engine keeps of rows
  // that were deleted.
  const { end } = rowsOf(RowKind.Expiry, group);
  const range = { start: expiryRowsStart(group, nextExpiryAtMs), end, keysOnly: true };
  let earliestMs = Number.POSITIVE_INFINITY;
  machine.expiryScanBegins();
  await readRows(
    source,
    range,
    ({ key }) => {
      const expiresAtMs = expiryRowTimeMs(key);
      // Rows found now stay the earliest until they are removed: the proposal may be lost.
      earliestMs = Math.min(earliestMs, expiresAtMs);
      if (expiresAtMs > nowMs || found.length >= keysMax) return false;
      found.push({ ...expiryRowAddress(key), condition: undefined, action: { kind: "expire" } });
      return true;
    },
    keysMax,
  );
  machine.expiryScanEnds(earliestMs);
  return found;
}

/**
 * Finds the journal rows of one group that may go. Kept are the last `revisionsKept` revisions and
 * everything within the dedupe window, which includes the last row. Rows go from the oldest on, so
 * the change log stays without holes.
 */
export class JournalTrim {
  readonly #machine: Machine;
  readonly #revisionsKept: number;
  readonly #revisionsMin: number;
  /** Rows before it are gone. */
  #start: Uint8Array;
  /** Revision of the first row that was kept when last looked. */
  #oldestRevision = 0;

  constructor(
    machine: Machine,
    options: { readonly revisionsKept?: number; readonly revisionsMin?: number } = {},
  ) {
    this.#machine = machine;
    this.#revisionsKept = options.revisionsKept ?? CHANGE_LOG_REVISIONS_KEPT;
    this.#revisionsMin = options.revisionsMin ?? JOURNAL_TRIM_REVISIONS_MIN;
    this.#start = rowsOf(RowKind.Journal, machine.group).start;
  }

  /** Whether looking is worth a read: enough revisions have piled up since the last time. */
  get due(): boolean {
    const excess = this.#machine.revision - this.#revisionsKept - this.#oldestRevision;
    return excess >= this.#revisionsMin;
  }

  /**
   * Keys of up to `rowsMax` rows, which the caller must delete before it asks again. Fewer than
   * `rowsMax` means that no more may go for now.
   */
  async next(source: RowSource, rowsMax: number): Promise<readonly Uint8Array[]> {
    const { group, logTimeMs } = this.#machine;
    const revisionMax = this.#machine.revision - this.#revisionsKept;
    const range = { start: this.#start, end: rowsOf(RowKind.Journal, group).end };
    const keys: Uint8Array[] = [];
    await readRows(
      source,
      range,
      ({ key, value }) => {
        const { revision } = journalRowPosition(key);
        this.#start = key;
        this.#oldestRevision = revision;
        if (revision > revisionMax || keys.length >= rowsMax) return false;
        const { dedupeUntilMs } = decodeJournalRow(key, value);
        if (bucketOf(dedupeUntilMs) >= bucketOf(logTimeMs)) return false;
        keys.push(key);
        return true;
      },
      rowsMax,
    );
    return keys;
  }
}
