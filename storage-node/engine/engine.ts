/**
 * The storage engine's contract: an ordered map from bytes to bytes with atomic batches.
 *
 * Applied state lives here. Writes are atomic and ordered, but **not durable** until `flush()`
 * resolves: after a power loss the engine holds a prefix of the batches written, and the Raft log
 * replays the rest. A killed process loses nothing that `write` returned.
 *
 * Keys order by unsigned bytes. Buffers passed in may be reused once the call has returned (`put`,
 * `delete` copy or consume at once) unless noted; buffers returned belong to the caller, which must
 * not change them. After `close()` every method throws.
 *
 * Answers are `MaybePromise`: an engine that can answer at once does, and callers await only
 * promises (`isPromise`).
 */
import type { MaybePromise } from "#shared/maybe-promise.ts";

export type EngineRange = {
  /** Inclusive. Absent: from the first key. */
  readonly start?: Uint8Array;
  /** Exclusive. Absent: to the last key. */
  readonly end?: Uint8Array;
};

export type IterateOptions = EngineRange & {
  readonly reverse?: boolean;
  /** Values are then empty. */
  readonly keysOnly?: boolean;
};

export type Row = { readonly key: Uint8Array; readonly value: Uint8Array };

/** A cursor over a view of the engine that does not change after its creation. */
export interface EngineIterator {
  /**
   * Up to `maxRows` (1–10,000) further rows; an empty array at the end, and ever after. Fewer rows do
   * not mean the end: a call also stops beyond ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX bytes. One call at
   * a time.
   */
  next(maxRows: number): MaybePromise<readonly Row[]>;
  /** Must be called, also after an error. Idempotent. */
  close(): MaybePromise<void>;
}

/** Collects changes for one atomic write. Later changes of a key win. Reusable after `clear`. */
export interface EngineBatch {
  /** Both buffers must stay unchanged until the batch is written or cleared. */
  put(key: Uint8Array, value: Uint8Array): void;
  delete(key: Uint8Array): void;
  clear(): void;
  readonly count: number;
  readonly sizeBytes: number;
}

/** A view that stays as it was when it was taken. Must be closed. */
export interface EngineSnapshot {
  get(key: Uint8Array): MaybePromise<Uint8Array | undefined>;
  iterate(options: IterateOptions): EngineIterator;
  close(): MaybePromise<void>;
}

export type EngineStats = {
  /** Bytes on disk, as far as the engine knows. */
  readonly sizeBytes: number;
  /** Engine-specific figures, for `/metrics` and support. */
  readonly details: Readonly<Record<string, number>>;
};

export interface Engine {
  readonly name: string;
  get(key: Uint8Array): MaybePromise<Uint8Array | undefined>;
  /** Same order as `keys`. */
  getMany(keys: readonly Uint8Array[]): MaybePromise<readonly (Uint8Array | undefined)[]>;
  iterate(options: IterateOptions): EngineIterator;
  batch(): EngineBatch;
  /** Applies the whole batch or nothing. Not durable before `flush`. */
  write(batch: EngineBatch): MaybePromise<void>;
  /**
   * Resolves when all batches written before the call survive a power loss. Takes tens of
   * milliseconds, a few of them on the calling thread: for log compaction, not for each write.
   */
  flush(): Promise<void>;
  snapshot(): EngineSnapshot;
  stats(): EngineStats;
  /** Waits for what runs, flushes, closes. Idempotent. */
  close(): Promise<void>;
}
