/** Failures as they travel from storage to gateways, and the codec of their message. */
import { ERRORS, type ErrorCode } from "#shared/errors.ts";
import type { Failure } from "./messages.ts";
import {
  LENGTH_DELIMITED,
  numberFieldSize,
  type Reader,
  stringFieldSize,
  VARINT,
  type Writer,
} from "./wire.ts";

const FAILURE_CODE = (1 << 3) | VARINT;
const FAILURE_DETAIL = (2 << 3) | LENGTH_DELIMITED;
const FAILURE_NOT_APPLIED = (3 << 3) | VARINT;
const FAILURE_LEADER = (4 << 3) | VARINT;

/**
 * `notApplied` promises that this copy of the command was not applied and never will be. When in
 * doubt it must be false: the gateway then resolves the outcome by a retry under the same request
 * id, or reports it as unknown.
 */
export function failureOf(
  code: ErrorCode,
  detail: string,
  options: { readonly notApplied: boolean; readonly leaderNodeId?: number },
): Failure {
  return {
    kind: "failure",
    code: ERRORS[code].wire,
    detail,
    notApplied: options.notApplied,
    leaderNodeId: options.leaderNodeId ?? 0,
  };
}

/** Content size of the message. */
export function failureSize(failure: Failure): number {
  return (
    numberFieldSize(failure.code) +
    stringFieldSize(failure.detail) +
    (failure.notApplied ? 2 : 0) +
    numberFieldSize(failure.leaderNodeId)
  );
}

export function writeFailure(failure: Failure, writer: Writer): void {
  writer.numberField(FAILURE_CODE, failure.code);
  writer.stringField(FAILURE_DETAIL, failure.detail);
  writer.boolField(FAILURE_NOT_APPLIED, failure.notApplied);
  writer.numberField(FAILURE_LEADER, failure.leaderNodeId);
}

export function readFailure(reader: Reader): Failure {
  const outerEnd = reader.enter();
  let code = 0;
  let detail = "";
  let notApplied = false;
  let leaderNodeId = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === FAILURE_CODE) code = reader.uint32();
    else if (tag === FAILURE_DETAIL) detail = reader.string();
    else if (tag === FAILURE_NOT_APPLIED) notApplied = reader.bool();
    else if (tag === FAILURE_LEADER) leaderNodeId = reader.uint32();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return { kind: "failure", code, detail, notApplied, leaderNodeId };
}
