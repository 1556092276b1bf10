/**
 * The one door to storage, as the gateway sees it. Implemented by `client.ts` over channels to
 * storage nodes.
 *
 * Expected outcomes are values; everything else is a `KvError`, on writes with its `outcome`.
 */
import type { Condition } from "#proto/codec/messages.ts";
import type { KvError } from "#shared/errors.ts";
import type { Revision, TenantId, VshardId } from "#shared/ids.ts";
import type { RequestTrace } from "#shared/tracing.ts";
import type { Cancellation } from "./cancellation.ts";

export type CallOptions = {
  /** Wall clock, milliseconds since the Unix epoch, after which the caller gives up. */
  readonly deadlineMs: number;
  /** Of the caller. It may go on to its next call only when this one has ended. */
  readonly cancellation?: Cancellation;
  /** Of the request, when it is traced. */
  readonly trace?: RequestTrace;
};

export type KeyRef = { readonly tenant: TenantId; readonly key: Uint8Array };

export type StoredValue = {
  readonly revision: Revision;
  readonly value: Uint8Array;
  readonly contentType: string;
  /** 0 for never. Milliseconds since the Unix epoch. */
  readonly expiresAtMs: number;
  readonly modifiedAtMs: number;
  /** Of what the client stored. Also known when the value itself was not asked for. */
  readonly valueSizeBytes: number;
  /** What the codec has made of `value`; absent or 0 for nothing. Routes see plain values only. */
  readonly encoding?: number;
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
  /** Set by the codec alone: `value` is not what the client stored, which had this size. */
  readonly logicalSizeBytes?: number;
  readonly encoding?: number;
};

/** Other bytes for a stored value. Content type and time of change are repeated as they were read. */
export type ResealInput = {
  readonly revision: Revision;
  readonly value: Uint8Array;
  readonly logicalSizeBytes: number;
  readonly encoding: number;
  readonly contentType: string;
  readonly modifiedAtMs: number;
};

/** `superseded`: the key has another value now, or none. */
export type ResealOutcome = { readonly kind: "resealed" } | { readonly kind: "superseded" };

export type PutOutcome =
  | { readonly kind: "stored"; readonly revision: Revision; readonly created: boolean }
  /** `revision` is the current one, 0 if the key does not exist. */
  | { readonly kind: "conditionFailed"; readonly revision: Revision };

export type DeleteOutcome =
  | { readonly kind: "deleted"; readonly revision: Revision }
  | { readonly kind: "notFound" }
  | { readonly kind: "conditionFailed"; readonly revision: Revision };

export type BatchOperation =
  | { readonly kind: "get"; readonly key: Uint8Array }
  | ({ readonly kind: "put"; readonly key: Uint8Array } & PutInput)
  | { readonly kind: "delete"; readonly key: Uint8Array; readonly condition?: Condition };

export type BatchOptions = GetOptions & {
  /**
   * Asked for each value that has arrived, before it is kept. Refused, the read fails with the error
   * that it returns.
   */
  readonly admitValue: (sizeBytes: number) => KvError | undefined;
};

/** What became of one operation of a batch: as of the operation alone. */
export type BatchOutcome =
  | PutOutcome
  | DeleteOutcome
  | { readonly kind: "found"; readonly stored: StoredValue }
  | { readonly kind: "absent" }
  | { readonly kind: "failed"; readonly error: KvError };

export type ScanQuery = {
  readonly tenant: TenantId;
  /** Inclusive; empty: from the first key. */
  readonly start: Uint8Array;
  /** Exclusive; empty: to the last key. */
  readonly end: Uint8Array;
  /** The only vshard that has keys of the range, where that is known. */
  readonly vshard?: VshardId | undefined;
};

export type RowsQuery = ScanQuery & {
  readonly reverse: boolean;
  /** Values are then empty. */
  readonly keysOnly: boolean;
  /** Rows are kept from page to page, for a reader that means to read to the end. */
  readonly isStream: boolean;
};

export type ScannedRow = StoredValue & { readonly key: Uint8Array };

export type ScanPage = {
  /** In byte order of their keys over all vshards, or in reverse. */
  readonly rows: readonly ScannedRow[];
  /** The last key that was looked at, where a later scan may go on; its row may be gone meanwhile. */
  readonly lastKey: Uint8Array | undefined;
  /** False: the range was read to its end. True: most probably there are further keys. */
  readonly hasMore: boolean;
};

/** At least one row, if there is any, whatever its size. */
export type PageLimits = { readonly rowsMax: number; readonly bytesMax: number };

/**
 * A way through a range of keys. Each read of a vshard is linearizable, or as stale as the options
 * allow; vshards are read at different times, and so are pages.
 */
export interface Scan {
  /** One page at a time. After a failure the scan is of no use any more. */
  nextPage(limits: PageLimits, options: GetOptions): Promise<ScanPage>;
}

/** Rows that stand for something that may happen once, in a space that no client reaches. */
export interface ClaimStorage {
  /**
   * Creates the row, which expires by itself. False when it was there already: of all that try, over all gateways, one
   * gets true.
   */
  claim(key: KeyRef, ttlMs: number, options: CallOptions): Promise<boolean>;
}

/** The storage itself, and nothing around it. */
export interface ResealableStorage extends Storage, ClaimStorage {
  /**
   * Replaces the bytes of a value that has still the revision of `input`. Revision, expiry and all that
   * clients see stay as they are.
   */
  reseal(key: KeyRef, input: ResealInput, options: CallOptions): Promise<ResealOutcome>;
}

export interface Storage {
  /** Undefined when the key does not exist or has expired. */
  get(key: KeyRef, options: GetOptions): Promise<StoredValue | undefined>;
  put(key: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome>;
  delete(
    key: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome>;
  /**
   * Carries out the operations and answers each, in their order. Not atomic: each stands for itself.
   * Those on one key take effect in their order.
   *
   * @throws KvError only when none of them was begun; `not_applied` then holds for all.
   */
  batch(
    tenant: TenantId,
    operations: readonly BatchOperation[],
    options: BatchOptions,
  ): Promise<readonly BatchOutcome[]>;
  scan(query: RowsQuery): Scan;
  /** Keys in the range. */
  count(query: ScanQuery, options: GetOptions): Promise<number>;
  /** Whether requests can be served now; the reason when not. */
  readiness(): { readonly ready: boolean; readonly reason: string };
  /** Refuses new calls, waits for those in flight at most `timeoutMs`, and closes. */
  close(timeoutMs: number): Promise<void>;
}
