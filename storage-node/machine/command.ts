/**
 * Which commands are refused, and whether conditions hold. Pure functions of the command and of the
 * state before it.
 *
 * Only what the row formats cannot hold is refused here. The limits that clients meet (key and value
 * size, time to live) are checked where requests enter, and deliberately not again: they may change
 * from version to version, and replicas that run different versions must still agree on every entry.
 */
import type { Command, Condition, Failure } from "#proto/codec/messages.ts";
import { latin1 } from "#shared/bytes.ts";
import { ERRORS } from "#shared/errors.ts";
import { DEADLINE_MS_MAX, REQUEST_ID_SIZE_BYTES } from "#shared/limits.ts";
import type { StoredHead } from "./data-row.ts";

/** Why a command cannot be applied at any time; undefined if it can. */
export function malformed(command: Command): string | undefined {
  const { requestId, mutations } = command;
  if (requestId.length !== 0 && requestId.length !== REQUEST_ID_SIZE_BYTES) {
    return `a request id has ${REQUEST_ID_SIZE_BYTES} bytes`;
  }
  if (mutations.length === 0) return "a command has at least one mutation";
  for (const { tenant, space } of mutations) {
    if (!(tenant >= 0 && tenant <= 0xffff_ffff && space >= 0 && space <= 0xff)) {
      return "tenant or space is out of range";
    }
  }
  return mutations.length > 1 && command.independent !== true ? repeatedKey(command) : undefined;
}

function repeatedKey(command: Command): string | undefined {
  const seen = new Set<string>();
  for (const { tenant, space, key } of command.mutations) {
    const name = `${tenant} ${space} ${latin1(key)}`;
    if (seen.has(name)) return "a command names each key at most once";
    seen.add(name);
  }
  return undefined;
}

/** The answer to a command that must not be applied at this log time; undefined if it may. */
export function refusalOf(command: Command, logTimeMs: number): Failure | undefined {
  const problem = malformed(command);
  if (problem !== undefined) return failure(ERRORS.INVALID_ARGUMENT.wire, problem);
  const { deadlineMs, requestId, mutations } = command;
  // Commands of the system may have no deadline. A command with a request id always has one.
  if (deadlineMs < logTimeMs && (deadlineMs !== 0 || requestId.length !== 0)) {
    // Its record, if an earlier copy was applied, may be gone: see `dedupe.ts`.
    return failure(ERRORS.DEADLINE_EXCEEDED.wire, "the deadline passed before the write's turn");
  }
  if (requestId.length !== 0 && deadlineMs > logTimeMs + DEADLINE_MS_MAX) {
    // Refused and not shortened: a copy that comes later would be shortened to a later deadline, and
    // applied when the record of the first is gone. Refusing keeps the window's memory bounded.
    return failure(
      ERRORS.UNAVAILABLE.wire,
      `the deadline is more than ${DEADLINE_MS_MAX} ms away: do the clocks of the nodes agree?`,
    );
  }
  for (const { action } of mutations) {
    if (action.kind === "put" && !Number.isSafeInteger(logTimeMs + action.ttlMs)) {
      return failure(ERRORS.INVALID_ARGUMENT.wire, "time to live is out of range");
    }
  }
  return undefined;
}

function failure(code: number, detail: string): Failure {
  return { kind: "failure", code, detail, notApplied: true, leaderNodeId: 0 };
}

/** Whether `condition` holds for a key; `row` is undefined when the key is absent or expired. */
export function conditionHolds(
  condition: Condition | undefined,
  row: StoredHead | undefined,
): boolean {
  if (condition === undefined) return true;
  const { mustBeAbsent, mustExist, revisionIs, revisionIsNot } = condition;
  if (row === undefined) return !mustExist && revisionIs.length === 0;
  if (mustBeAbsent) return false;
  if (revisionIs.length > 0 && !revisionIs.includes(row.revision)) return false;
  return !revisionIsNot.includes(row.revision);
}
