/**
 * The native functions of `@nxtedition/rocksdb` 12.2.12, typed as far as the adapter uses them.
 *
 * The package's classes are passed over on purpose: they add an abstract-level layer whose batches
 * and iterators stay attached to the database until closed through it, and callbacks and option
 * objects per call. The functions below are what those classes call. The exact version is pinned;
 * the conformance suite is what a new version has to pass.
 *
 * None of these functions checks its handles: a call on a closed database, iterator or batch ends
 * the process. Only `rocksdb-nxtedition.ts` and `rocksdb-cursor.ts` may call them.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

declare const handle: unique symbol;
export type DatabaseHandle = { readonly [handle]: "database" };
export type BatchHandle = { readonly [handle]: "batch" };
export type IteratorHandle = { readonly [handle]: "iterator" };

/** Bytes; a field left out has the default of the binding, which is not always RocksDB's. */
export type ColumnOptions = {
  readonly compression: boolean;
  readonly cacheSize: number;
  readonly cacheIndexAndFilterBlocks?: boolean;
};

export type OpenOptions = ColumnOptions & {
  readonly createIfMissing: boolean;
  readonly walCompression: boolean;
  readonly columns: { readonly default: ColumnOptions };
};

export type NativeIterateOptions = {
  readonly reverse: boolean;
  readonly values: boolean;
  readonly gte: Uint8Array | undefined;
  readonly lt: Uint8Array | undefined;
  readonly highWaterMarkBytes: number;
  readonly fillCache: boolean;
  readonly keyEncoding: "buffer";
  readonly valueEncoding: "buffer";
};

/** Keys at even places, values (undefined when not asked for) at odd ones. */
export type NativeRows = {
  readonly rows: readonly (Uint8Array | undefined)[];
  readonly finished: boolean;
};

/** undefined: no such key; null: given up, for a limit or a time that the adapter never sets. */
export type NativeValues = readonly (Uint8Array | undefined | null)[];

export interface RocksDbBinding {
  db_init(directory: string): DatabaseHandle;
  db_open(
    database: DatabaseHandle,
    options: OpenOptions,
    callback: (error: Error | null) => void,
  ): void;
  db_close(database: DatabaseHandle, callback: (error: Error | null) => void): void;
  db_get_many_sync(
    database: DatabaseHandle,
    keys: readonly Uint8Array[],
    options: undefined,
  ): NativeValues;
  db_get_property(database: DatabaseHandle, name: Uint8Array): string;
  iterator_init(database: DatabaseHandle, options: NativeIterateOptions): IteratorHandle;
  iterator_seek(iterator: IteratorHandle, target: Uint8Array): void;
  iterator_nextv_sync(iterator: IteratorHandle, maxRows: number): NativeRows;
  iterator_close(iterator: IteratorHandle): void;
  batch_init(): BatchHandle;
  batch_put(batch: BatchHandle, key: Uint8Array, value: Uint8Array, options: undefined): void;
  batch_del(batch: BatchHandle, key: Uint8Array, options: undefined): void;
  batch_clear(batch: BatchHandle): void;
  batch_write(
    database: DatabaseHandle,
    batch: BatchHandle,
    options: { readonly sync: true } | undefined,
  ): void;
}

export type LoadedBinding =
  | { readonly kind: "loaded"; readonly binding: RocksDbBinding }
  | { readonly kind: "unsupported"; readonly reason: string; readonly cause?: unknown };

/** `unsupported` where the package has no binary that runs on this machine. */
export function loadRocksDbBinding(): LoadedBinding {
  // Trap: the Linux binary is built for AVX2, and on a processor without it the load does not
  // throw, it kills the process.
  if (process.platform === "linux" && process.arch === "x64" && !hasAvx2()) {
    return { kind: "unsupported", reason: "@nxtedition/rocksdb needs a processor with AVX2" };
  }
  try {
    const require = createRequire(import.meta.url);
    const binding = require("@nxtedition/rocksdb/binding.js") as RocksDbBinding;
    return { kind: "loaded", binding };
  } catch (cause) {
    return { kind: "unsupported", reason: "@nxtedition/rocksdb does not load here", cause };
  }
}

function hasAvx2(): boolean {
  try {
    return /^flags\s*:.*\bavx2\b/m.test(readFileSync("/proc/cpuinfo", "latin1"));
  } catch {
    return false;
  }
}
