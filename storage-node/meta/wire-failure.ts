/** Failures of the cluster service, as messages. */
import { create } from "@bufbuild/protobuf";
import { type Failure, FailureSchema } from "#proto/gen/minikv/v1/storage_pb.ts";
import { ERRORS, KvError } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";

/** `leader` is a hint for those who were at the wrong node; 0 for none. */
export function failureMessage(error: unknown, leader: NodeId): Failure {
  const known = error instanceof KvError;
  return create(FailureSchema, {
    code: ERRORS[known ? error.code : "INTERNAL"].wire,
    detail: error instanceof Error ? error.message : String(error),
    // Both are decided before anything is proposed.
    notApplied: known && (error.code === "NOT_LEADER" || error.code === "INVALID_ARGUMENT"),
    leaderNodeId: leader,
  });
}
