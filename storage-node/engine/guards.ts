/**
 * Checks that every engine shares, so that misuse fails in the same way on all of them.
 */
import { assert } from "#shared/assert.ts";
import { compareBytes } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { ENGINE_ITERATE_ROWS_MAX } from "#shared/limits.ts";
import type { EngineRange } from "./engine.ts";

/** What a call on a closed engine, iterator or snapshot throws. */
export function closedError(what: "engine" | "iterator" | "snapshot"): KvError {
  return new KvError("UNAVAILABLE", `the ${what} is closed`);
}

export function assertMaxRows(maxRows: number): void {
  assert(
    Number.isInteger(maxRows) && maxRows >= 1 && maxRows <= ENGINE_ITERATE_ROWS_MAX,
    "an iterator reads 1 to 10,000 rows at a time",
  );
}

/** Whether no key can lie in the range. */
export function isEmptyRange({ start, end }: EngineRange): boolean {
  if (end === undefined) return false;
  return end.length === 0 || (start !== undefined && compareBytes(start, end) >= 0);
}
