/**
 * Finds keys whose time has come.
 *
 * It only finds them: keys are removed through the log, by expire mutations that the leader
 * proposes, so that all replicas remove them at the same entry. Until then reads and conditions
 * treat them as absent.
 */
import type { Mutation } from "#proto/codec/messages.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import {
  expiryRowAddress,
  expiryRowsStart,
  expiryRowTimeMs,
  RowKind,
  rowsOf,
} from "#storage-node/engine/layout.ts";
import type { Machine } from "./machine.ts";
import { type RowSource, readRows } from "./read-rows.ts";

/**
 * Up to `keysMax` expire mutations for keys that have expired at `nowMs`, earliest first; the leader
 * puts them into a command with neither request id nor deadline. Keys may alias engine memory that
 * belongs to the caller. Also makes `machine.nextExpiryAtMs` exact.
 *
 * Call it only when every batch of this machine has been written, and not twice at a time: a row
 * that is applied but not yet in the engine would be missed.
 */
export function expiredKeys(
  machine: Machine,
  source: RowSource,
  nowMs: number,
  keysMax: number,
): MaybePromise<readonly Mutation[]> {
  const { group, nextExpiryAtMs } = machine;
  const found: Mutation[] = [];
  if (nextExpiryAtMs > nowMs) return found;
  let earliestMs = Number.POSITIVE_INFINITY;
  machine.expiryScanBegins();
  // Nothing expires before `nextExpiryAtMs`: starting there skips what the engine keeps of rows
  // that were deleted.
  const range = {
    start: expiryRowsStart(group, nextExpiryAtMs),
    end: rowsOf(RowKind.Expiry, group).end,
    keysOnly: true,
  };
  const read = readRows(source, range, keysMax, ({ key }) => {
    const expiresAtMs = expiryRowTimeMs(key);
    // Keys found now count as the earliest until they are removed: the proposal may be lost.
    earliestMs = Math.min(earliestMs, expiresAtMs);
    if (expiresAtMs > nowMs || found.length >= keysMax) return false;
    found.push({ ...expiryRowAddress(key), condition: undefined, action: { kind: "expire" } });
    return true;
  });
  const done = (): readonly Mutation[] => {
    machine.expiryScanEnds(earliestMs);
    return found;
  };
  return isPromise(read) ? read.then(done) : done();
}
