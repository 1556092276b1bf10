/**
 * Rows of the directory in the meta group, and changes of them as commands. Pure functions.
 *
 * `Space.Directory` of the system tenant, beside the rows of the cluster map. A row has a name and a value;
 * what they mean is the gateways' business. No client reaches this space: the meta group is no vshard, and
 * the rules of the Operate stream know neither this tenant nor this space.
 */
import type { Condition, Mutation } from "#proto/codec/messages.ts";
import type {
  ChangeDirectoryRequest,
  DirectoryMutation,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { Space, SYSTEM_TENANT } from "#shared/ids.ts";
import {
  CLOCK_SKEW_MS_MAX,
  DEADLINE_MS_MAX,
  DIRECTORY_MUTATIONS_MAX,
  DIRECTORY_NAME_SIZE_BYTES_MAX,
  DIRECTORY_VALUE_SIZE_BYTES_MAX,
  REQUEST_ID_SIZE_BYTES,
} from "#shared/limits.ts";

export type DirectoryValue = { readonly value: Uint8Array; readonly revision: number };

const NAME_PATTERN = /^[\x20-\x7e]+$/;

/** What a row counts against the bytes that the directory may have. */
export const rowSizeBytes = (name: string, value: Uint8Array): number => name.length + value.length;

/** Why a request is refused before anything is done for it; undefined when it may go on. */
export function changeFault(request: ChangeDirectoryRequest, nowMs: number): string | undefined {
  const { requestId, mutations, deadlineMs } = request;
  if (requestId.length !== REQUEST_ID_SIZE_BYTES) {
    return `a request id has ${REQUEST_ID_SIZE_BYTES} bytes`;
  }
  if (mutations.length < 1 || mutations.length > DIRECTORY_MUTATIONS_MAX) {
    return `a change of the directory has 1 to ${DIRECTORY_MUTATIONS_MAX} rows`;
  }
  // Without one it would never be given up where no quorum takes it, nor what it claims of the directory.
  if (deadlineMs === 0n) return "a change has a deadline";
  // The result is kept until then, for repetitions: it must not be kept for ever.
  if (deadlineMs > BigInt(Math.ceil(nowMs) + DEADLINE_MS_MAX + CLOCK_SKEW_MS_MAX)) {
    return "the deadline is too far ahead: do the clocks of gateway and storage agree?";
  }
  const names = new Set<string>();
  for (const mutation of mutations) {
    const fault = mutationFault(mutation);
    if (fault !== undefined) return fault;
    names.add(mutation.name);
  }
  return names.size === mutations.length ? undefined : "a change names each row once";
}

function mutationFault({ name, value, expectedRevision }: DirectoryMutation): string | undefined {
  if (name.length > DIRECTORY_NAME_SIZE_BYTES_MAX || !NAME_PATTERN.test(name)) {
    return `a row's name has 1 to ${DIRECTORY_NAME_SIZE_BYTES_MAX} printable ASCII characters`;
  }
  if (value !== undefined && value.length > DIRECTORY_VALUE_SIZE_BYTES_MAX) {
    return `the value of a row has at most ${DIRECTORY_VALUE_SIZE_BYTES_MAX} bytes`;
  }
  const isRevision = (expectedRevision ?? 0n) <= BigInt(Number.MAX_SAFE_INTEGER);
  return isRevision ? undefined : "a revision is below 2^53";
}

/** The mutations of one command that changes all of the rows or none. The request has no fault. */
export const directoryMutations = (request: ChangeDirectoryRequest): readonly Mutation[] =>
  request.mutations.map(({ name, value, expectedRevision }) => ({
    tenant: SYSTEM_TENANT,
    space: Space.Directory,
    key: utf8(name),
    condition: expectedRevision === undefined ? undefined : conditionOf(Number(expectedRevision)),
    action:
      value === undefined ? { kind: "delete" } : { kind: "put", value, contentType: "", ttlMs: 0 },
  }));

const conditionOf = (revision: number): Condition => ({
  mustBeAbsent: revision === 0,
  mustExist: false,
  revisionIs: revision === 0 ? [] : [revision],
  revisionIsNot: [],
});
