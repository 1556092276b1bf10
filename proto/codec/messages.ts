/**
 * The hot messages of `proto/minikv/v1` as plain objects, for the hand-written codec and for all
 * code on the write and read path. Field for field as in the .proto files; 64-bit numbers are safe
 * integers. Byte fields are views: whoever keeps one beyond the call copies it.
 */
import type { Revision, Space, TenantId, VshardId } from "#shared/ids.ts";

export type Condition = {
  readonly mustBeAbsent: boolean;
  readonly mustExist: boolean;
  readonly revisionIs: readonly number[];
  readonly revisionIsNot: readonly number[];
};

export type PutAction = {
  readonly kind: "put";
  readonly value: Uint8Array;
  readonly contentType: string;
  /** 0 for no expiry. */
  readonly ttlMs: number;
  /** Where `encoding` is not 0: the size of what the client stored. */
  readonly logicalSizeBytes?: number;
  /** What a gateway has made of the value; absent or 0 for nothing. */
  readonly encoding?: number;
};

/** Other bytes for the same value: neither a change nor a new revision. */
export type ResealAction = {
  readonly kind: "reseal";
  readonly value: Uint8Array;
  readonly logicalSizeBytes: number;
  readonly encoding: number;
  /** This and the next as of the revision that the condition names. */
  readonly contentType: string;
  readonly modifiedAtMs: number;
};

export type MutationAction =
  | PutAction
  | ResealAction
  | { readonly kind: "delete" }
  | { readonly kind: "expire" };

export type Mutation = {
  readonly tenant: TenantId;
  readonly space: Space;
  readonly key: Uint8Array;
  readonly condition: Condition | undefined;
  readonly action: MutationAction;
};

export type Command = {
  /** 16 bytes; empty for commands of the system. */
  readonly requestId: Uint8Array;
  readonly deadlineMs: number;
  readonly mutations: readonly Mutation[];
  /** Each mutation stands for itself; otherwise all are applied, or none is. */
  readonly independent?: boolean;
};

export type EntryBody = {
  readonly logTimeMs: number;
  readonly commands: readonly Command[];
};

export type Get = {
  readonly kind: "get";
  readonly tenant: TenantId;
  readonly space: Space;
  readonly key: Uint8Array;
  /** 0 for a linearizable read. */
  readonly maxStalenessMs: number;
  readonly metadataOnly: boolean;
};

/** A step through the keys of a space in one vshard. */
export type Scan = {
  readonly kind: "scan";
  readonly tenant: TenantId;
  readonly space: Space;
  /** Inclusive; empty: from the first key. */
  readonly start: Uint8Array;
  /** Exclusive; empty: to the last key. */
  readonly end: Uint8Array;
  readonly reverse: boolean;
  readonly rowsMax: number;
  readonly valueBytesMax: number;
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  /** 0 for a linearizable read. */
  readonly maxStalenessMs: number;
};

/** Operations that change nothing. */
export type Read = Get | Scan;

export type OperationBody =
  | Get
  | Scan
  | { readonly kind: "write"; readonly command: Command }
  | { readonly kind: "cancel" };

export type Operation = {
  readonly callId: number;
  readonly vshard: VshardId;
  readonly deadlineMs: number;
  /** 25 bytes, or empty when not traced. */
  readonly traceContext: Uint8Array;
  readonly body: OperationBody;
};

export type GetResult = {
  readonly kind: "get";
  readonly found: boolean;
  readonly revision: Revision;
  readonly value: Uint8Array;
  readonly contentType: string;
  readonly expiresAtMs: number;
  readonly modifiedAtMs: number;
  /** Of what the client stored. */
  readonly valueSizeBytes: number;
  /** As in `PutAction`. */
  readonly encoding?: number;
};

/** Values of `MutationStatus` in storage.proto. */
export const MutationStatus = { Applied: 1, ConditionFailed: 2, NotFound: 3, Skipped: 4 } as const;
export type MutationStatus = (typeof MutationStatus)[keyof typeof MutationStatus];

export type MutationResult = {
  readonly status: MutationStatus;
  readonly revision: Revision;
  readonly created: boolean;
};

export type WriteResult = {
  readonly kind: "write";
  readonly applied: boolean;
  readonly mutations: readonly MutationResult[];
};

export type ScanRow = {
  readonly key: Uint8Array;
  readonly revision: Revision;
  /** Empty when it was omitted. */
  readonly value: Uint8Array;
  readonly valueOmitted: boolean;
  readonly contentType: string;
  readonly expiresAtMs: number;
  readonly modifiedAtMs: number;
  readonly valueSizeBytes: number;
  readonly encoding?: number;
};

export type ScanResult = {
  readonly kind: "scan";
  readonly rows: readonly ScanRow[];
  /** Keys found, when only counted. */
  readonly count: number;
  /** New start of the range, or new end in reverse; empty when the range is done. */
  readonly next: Uint8Array;
};

export type Failure = {
  readonly kind: "failure";
  /** `wire` number of the error table. */
  readonly code: number;
  readonly detail: string;
  readonly notApplied: boolean;
  /** 0 when unknown. */
  readonly leaderNodeId: number;
};

export type ResultBody = GetResult | WriteResult | ScanResult | Failure;

export type Result = { readonly callId: number; readonly body: ResultBody };

export type Hello = {
  readonly protocolVersion: number;
  readonly clusterId: string;
  readonly nodeId: number;
  readonly softwareVersion: string;
  readonly windowOperations: number;
  readonly windowBytes: number;
};

export type OperateRequest = {
  readonly hello: Hello | undefined;
  readonly operations: readonly Operation[];
};

export type OperateResponse = {
  readonly hello: Hello | undefined;
  readonly results: readonly Result[];
};

/** Takes the answer to one operation. */
export type Reply = ((body: ResultBody) => void) & {
  /** Whether anybody waits for it; absent when that is not known. Work that takes long may be left undone. */
  readonly isWanted?: () => boolean;
};

/** Takes one operation and answers it exactly once, now or later; a `cancel` gets no answer. */
export interface OperationHandler {
  operate(operation: Operation, reply: Reply): void;
}
