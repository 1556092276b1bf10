/**
 * What a storage node's result means for the request. All throw KvError INTERNAL when the result does
 * not fit the request.
 */
import {
  type MutationResult,
  MutationStatus,
  type PutAction,
  type ScanResult,
  type WriteResult,
} from "#proto/codec/messages.ts";
import { KvError } from "#shared/errors.ts";
import type { AnyResult } from "./call.ts";
import type { DeleteOutcome, PutInput, PutOutcome, ResealOutcome, StoredValue } from "./storage.ts";

function misfit(): KvError {
  return new KvError("INTERNAL", "the storage node's result does not fit the request");
}

export function toStoredValue(result: AnyResult): StoredValue | undefined {
  if (result.kind !== "get") throw misfit();
  return result.found ? result : undefined;
}

export function toWriteResult(result: AnyResult, mutationCount: number): WriteResult {
  if (result.kind !== "write" || result.mutations.length !== mutationCount) throw misfit();
  return result;
}

export function toScanResult(result: AnyResult): ScanResult {
  if (result.kind !== "scan") throw misfit();
  return result;
}

/** The result of a command's only mutation. */
export function onlyMutation(result: AnyResult): MutationResult {
  return toWriteResult(result, 1).mutations[0]!;
}

export function putOutcomeOf({ status, revision, created }: MutationResult): PutOutcome {
  if (status === MutationStatus.Applied) return { kind: "stored", revision, created };
  if (status === MutationStatus.ConditionFailed) return { kind: "conditionFailed", revision };
  throw misfit();
}

export function resealOutcomeOf({ status }: MutationResult): ResealOutcome {
  return { kind: status === MutationStatus.Applied ? "resealed" : "superseded" };
}

/** What a put makes of its value's bytes. */
export function putActionOf(input: PutInput): PutAction {
  const { value, contentType, ttlMs, logicalSizeBytes = 0, encoding = 0 } = input;
  return { kind: "put", value, contentType, ttlMs, logicalSizeBytes, encoding };
}

export function deleteOutcomeOf({ status, revision }: MutationResult): DeleteOutcome {
  if (status === MutationStatus.Applied) return { kind: "deleted", revision };
  if (status === MutationStatus.NotFound) return { kind: "notFound" };
  if (status === MutationStatus.ConditionFailed) return { kind: "conditionFailed", revision };
  throw misfit();
}
