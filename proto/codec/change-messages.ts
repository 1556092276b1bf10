/**
 * The messages of `proto/minikv/v1/changes.proto` as the code has them. Their codec is `changes.ts`.
 */
import type { Change } from "#shared/change.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import type { Failure, Hello } from "./messages.ts";

/** As stored: what `encoding` says has been made of it. */
export type ChangedValue = {
  readonly value: Uint8Array;
  readonly encoding: number;
  readonly contentType: string;
};

export type ChangeRecord = Change & {
  /** Log time of the change, milliseconds since the Unix epoch. */
  readonly timeMs: number;
  /** Empty for a change outside of transactions. */
  readonly transactionId: Uint8Array;
  /** Only of a small value, and only while the change is fresh: what is read from the log has none. */
  readonly value: ChangedValue | undefined;
  /** 25 bytes of the write that made the change, or empty. Only while the change is fresh. */
  readonly traceContext: Uint8Array;
};

/** Consecutive changes of one vshard: their revisions go up by 1 from `previousRevision + 1`. */
export type ChangeBatch = {
  readonly vshard: VshardId;
  readonly previousRevision: Revision;
  readonly changes: readonly ChangeRecord[];
};

export type ReadChanges = {
  readonly callId: number;
  readonly vshard: VshardId;
  readonly afterRevision: Revision;
  readonly headOnly: boolean;
  readonly bytesMax: number;
};

export type FollowChanges = {
  readonly vshard: VshardId;
  readonly afterRevision: Revision;
  readonly fromHead: boolean;
};

export type ChangesRequest = {
  readonly hello: Hello | undefined;
  readonly reads: readonly ReadChanges[];
  readonly follows: readonly FollowChanges[];
  readonly unfollow: readonly VshardId[];
};

export type ReadChangesResult = {
  readonly callId: number;
  readonly failure: Failure | undefined;
  readonly batch: ChangeBatch | undefined;
  readonly headRevision: Revision;
  readonly oldestRevision: Revision;
};

export type FollowEnded = {
  readonly vshard: VshardId;
  readonly failure: Failure;
  readonly oldestRevision: Revision;
};

export type ChangesResponse = {
  readonly hello: Hello | undefined;
  readonly results: readonly ReadChangesResult[];
  readonly batches: readonly ChangeBatch[];
  readonly ended: readonly FollowEnded[];
};

/** Of each vshard that a node leads, the newest revision. */
export type ChangeHeads = {
  readonly nodeId: number;
  readonly heads: readonly { readonly vshard: VshardId; readonly revision: Revision }[];
};
