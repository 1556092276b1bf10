/**
 * The classes of `rocksdb-native` 3.18.1, typed as far as the adapter uses them; the package has no
 * types of its own.
 */
import { createRequire } from "node:module";
import { KvError } from "#shared/errors.ts";

export interface NativeDatabase extends NativeSession {
  ready(): Promise<void>;
  /** Writes the memtable to a synced table file. */
  flush(): Promise<void>;
  snapshot(): NativeSession;
  write(options: { readonly capacity: number }): NativeWriteBatch;
  getProperty(name: string): Promise<string>;
}

export interface NativeSession {
  read(options: { readonly capacity: number; readonly autoDestroy: boolean }): NativeReadBatch;
  iterator(
    range: { readonly gte?: Uint8Array; readonly lt?: Uint8Array },
    options: { readonly reverse: boolean; readonly values: boolean; readonly capacity: number },
  ): NativeIterator;
  close(): Promise<void>;
}

export interface NativeReadBatch {
  get(key: Uint8Array): Promise<Uint8Array | null>;
  flush(): Promise<void>;
}

export interface NativeWriteBatch {
  tryPut(key: Uint8Array, value: Uint8Array): void;
  tryDelete(key: Uint8Array): void;
  flush(): Promise<void>;
  destroy(): void;
}

export type NativeRow = { readonly key: Uint8Array; readonly value: Uint8Array | null };

/** A readable stream of rows. */
export interface NativeIterator extends AsyncIterable<NativeRow> {
  readonly destroyed: boolean;
  destroy(): void;
  once(event: "close", listener: () => void): void;
}

export type NativeDatabaseClass = new (
  directory: string,
  options: { readonly maxBackgroundJobs: number; readonly maxOpenFiles: number },
) => NativeDatabase;

/** @throws KvError UNAVAILABLE where the package has no binary for the machine */
export function loadNativeBinding(): NativeDatabaseClass {
  try {
    const require = createRequire(import.meta.url);
    return require("rocksdb-native") as NativeDatabaseClass;
  } catch (cause) {
    throw new KvError("UNAVAILABLE", "no RocksDB binding loads here; use another engine", {
      cause,
    });
  }
}
