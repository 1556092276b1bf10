/**
 * The one door to storage, as the gateway sees it. Implemented by `client.ts` over channels to
 * storage nodes.
 *
 * Expected outcomes are values; everything else is a `KvError`, on writes with its `outcome`.
 */
import type { Condition } from "#proto/codec/messages.ts";
import type { Revision, TenantId } from "#shared/ids.ts";
import type { Cancellation } from "./cancellation.ts";

export type CallOptions = {
  /** Wall clock, milliseconds since the Unix epoch, after which the caller gives up. */
  readonly deadlineMs: number;
  /** Of the caller. It may go on to its next call only when this one has ended. */
  readonly cancellation?: Cancellation;
  /** 25 bytes (trace id, span id, flags), or absent. */
  readonly traceContext?: Uint8Array;
};

export type KeyRef = { readonly tenant: TenantId; readonly key: Uint8Array };

export type StoredValue = {
  readonly revision: Revision;
  readonly value: Uint8Array;
  readonly contentType: string;
  /** 0 for never. Milliseconds since the Unix epoch. */
  readonly expiresAtMs: number;
  readonly modifiedAtMs: number;
  /** Also known when the value itself was not asked for. */
  readonly valueSizeBytes: number;
};

export type GetOptions = CallOptions & {
  /** 0 or absent: linearizable. */
  readonly maxStalenessMs?: number;
  readonly metadataOnly?: boolean;
};

export type PutInput = {
  readonly value: Uint8Array;
  readonly contentType: string;
  /** 0 for no expiry. */
  readonly ttlMs: number;
  readonly condition?: Condition;
};

export type PutOutcome =
  | { readonly kind: "stored"; readonly revision: Revision; readonly created: boolean }
  /** `revision` is the current one, 0 if the key does not exist. */
  | { readonly kind: "conditionFailed"; readonly revision: Revision };

export type DeleteOutcome =
  | { readonly kind: "deleted"; readonly revision: Revision }
  | { readonly kind: "notFound" }
  | { readonly kind: "conditionFailed"; readonly revision: Revision };

export interface Storage {
  /** Undefined when the key does not exist or has expired. */
  get(key: KeyRef, options: GetOptions): Promise<StoredValue | undefined>;
  put(key: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome>;
  delete(
    key: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome>;
  /** Whether requests can be served now; the reason when not. */
  readiness(): { readonly ready: boolean; readonly reason: string };
  /** Refuses new calls, waits for those in flight at most `timeoutMs`, and closes. */
  close(timeoutMs: number): Promise<void>;
}
