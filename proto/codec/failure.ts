/** Failures as they travel from storage to gateways. */
import { ERRORS, type ErrorCode } from "#shared/errors.ts";
import type { Failure } from "./messages.ts";

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
