/** Failures of the cluster service, as messages. */
import { create } from "@bufbuild/protobuf";
import { type Failure, FailureSchema } from "#proto/gen/minikv/v1/storage_pb.ts";
import { ERRORS, type ErrorCode, KvError } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";

/** Decided before anything is proposed, unless the error says otherwise. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  "NOT_LEADER",
  "INVALID_ARGUMENT",
  "CLUSTER_CONFLICT",
]);

function isNotApplied(error: KvError): boolean {
  if (error.outcome !== undefined) return error.outcome === "not_applied";
  return REFUSALS.has(error.code);
}

/** `leader` is a hint for those who were at the wrong node; 0 for none. */
export function failureMessage(error: unknown, leader: NodeId): Failure {
  const known = error instanceof KvError;
  return create(FailureSchema, {
    code: ERRORS[known ? error.code : "INTERNAL"].wire,
    detail: error instanceof Error ? error.message : String(error),
    notApplied: known && isNotApplied(error),
    leaderNodeId: leader,
  });
}
