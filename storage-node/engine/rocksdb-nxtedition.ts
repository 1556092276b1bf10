/**
 * RocksDB 9.7 through `@nxtedition/rocksdb`: the engine of production on linux-x64 and darwin-arm64.
 *
 * One key space (the default column family), bloom filters of 10 bits a key, no compression. Values
 * may already be compressed, and without it rocksdb-native can open the same directory.
 *
 * Reads and writes run on the calling thread: a batch of 192 rows of 300 bytes takes 0.35 ms, a read
 * of one key 5 µs. RocksDB may hold a write back when compaction cannot keep up, and a read that
 * misses all caches waits for the disk; the binding offers no way to write elsewhere.
 *
 * Invariant, on which memory safety rests: no native function is called with a handle of a closed
 * database or cursor. `#database` is cleared before the close begins, every method asks for it, and
 * the close waits for whatever runs on another thread.
 */
import { mkdir } from "node:fs/promises";
import { assert } from "#shared/assert.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import {
  ENGINE_BATCH_BUFFER_KEPT_BYTES_MAX,
  ENGINE_CACHE_SIZE_BYTES_DEFAULT,
  ENGINE_CACHE_SIZE_BYTES_MAX,
  ENGINE_CACHE_SIZE_BYTES_MIN,
} from "#shared/limits.ts";
import type {
  Engine,
  EngineBatch,
  EngineIterator,
  EngineSnapshot,
  EngineStats,
  IterateOptions,
} from "./engine.ts";
import { toEngineError } from "./engine-error.ts";
import { closedError } from "./guards.ts";
import { nativeKey } from "./native-key.ts";
import type {
  BatchHandle,
  DatabaseHandle,
  NativeValues,
  OpenOptions,
  RocksDbBinding,
} from "./rocksdb-binding.ts";
import { type Closable, RocksDbIterator, RocksDbSnapshot } from "./rocksdb-cursor.ts";
import type { RocksDbOptions } from "./rocksdb-options.ts";
import { Running } from "./running.ts";
import { syncLogFiles } from "./sync-log-files.ts";

const SYNC = { sync: true } as const;

/** RocksDB properties by their name in `stats().details`. */
const PROPERTIES = {
  tableFilesBytes: utf8("rocksdb.total-sst-files-size"),
  memtablesBytes: utf8("rocksdb.size-all-mem-tables"),
  blockCacheBytes: utf8("rocksdb.block-cache-usage"),
  tableReadersBytes: utf8("rocksdb.estimate-table-readers-mem"),
  keysEstimate: utf8("rocksdb.estimate-num-keys"),
  levelZeroFiles: utf8("rocksdb.num-files-at-level0"),
  compactionPendingBytes: utf8("rocksdb.estimate-pending-compaction-bytes"),
  writeStopped: utf8("rocksdb.is-write-stopped"),
  writeRateDelayedBytesPerSecond: utf8("rocksdb.actual-delayed-write-rate"),
  backgroundErrors: utf8("rocksdb.background-errors"),
} as const;

/**
 * @throws KvError UNAVAILABLE when the directory is in use, DATA_CORRUPT when its files are damaged,
 *   STORAGE_FULL
 */
export async function openRocksDbNxtedition(
  binding: RocksDbBinding,
  options: RocksDbOptions,
): Promise<Engine> {
  const { directory, cacheSizeBytes = ENGINE_CACHE_SIZE_BYTES_DEFAULT } = options;
  assert(
    cacheSizeBytes >= ENGINE_CACHE_SIZE_BYTES_MIN && cacheSizeBytes <= ENGINE_CACHE_SIZE_BYTES_MAX,
    "the cache has 1 MiB to 4,095 MiB",
  );
  try {
    await mkdir(directory, { recursive: true });
    const database = binding.db_init(directory);
    await new Promise<void>((resolve, reject) => {
      binding.db_open(database, openOptions(cacheSizeBytes), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    return new RocksDbEngine(binding, database, directory);
  } catch (error) {
    throw toEngineError(error, `open the engine in ${directory}`);
  }
}

function openOptions(cacheSizeBytes: number): OpenOptions {
  return {
    createIfMissing: true,
    // Traps. Compression is on by default, for log files too. `walTotalSizeLimit` and
    // `decouplePartitionedFilters` set another field than they name, and `compaction: "level"`
    // stalls writes and compresses: none of them is given. The column family has to be named at
    // every open, and its options stand in `columns`; those outside serve only the database, so the
    // cache there is switched off or it would be a second one.
    walCompression: false,
    compression: false,
    cacheSize: 0,
    columns: {
      default: {
        compression: false,
        cacheSize: cacheSizeBytes,
        // Without this, indexes and filters grow with the data outside of the cache's bound.
        cacheIndexAndFilterBlocks: true,
      },
    },
  };
}

class RocksDbEngine implements Engine {
  readonly name = "rocksdb (@nxtedition/rocksdb)";
  readonly #binding: RocksDbBinding;
  readonly #directory: string;
  readonly #cursors = new Set<Closable>();
  readonly #running = new Running();
  readonly #singleKey: Uint8Array[] = [];
  readonly #marker: BatchHandle;
  #database: DatabaseHandle | undefined;
  #closing: Promise<void> | undefined;

  constructor(binding: RocksDbBinding, database: DatabaseHandle, directory: string) {
    this.#binding = binding;
    this.#database = database;
    this.#directory = directory;
    this.#marker = binding.batch_init();
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#singleKey[0] = nativeKey(key);
    return this.#getMany(this.#openDatabase(), this.#singleKey)[0];
  }

  getMany(keys: readonly Uint8Array[]): readonly (Uint8Array | undefined)[] {
    return this.#getMany(this.#openDatabase(), keys.some(isEmpty) ? keys.map(nativeKey) : keys);
  }

  iterate(options: IterateOptions): EngineIterator {
    return new RocksDbIterator(this.#binding, this.#openDatabase(), options, this.#cursors);
  }

  batch(): EngineBatch {
    this.#openDatabase();
    return new RocksDbBatch(this.#binding);
  }

  write(batch: EngineBatch): void {
    const database = this.#openDatabase();
    assert(batch instanceof RocksDbBatch, "a batch is written to the kind of engine that made it");
    if (batch.count === 0) return;
    try {
      this.#binding.batch_write(database, batch.handle, undefined);
    } catch (error) {
      throw toEngineError(error, "write to the engine");
    }
  }

  /**
   * The barrier is an empty batch written with `sync`, for which RocksDB syncs all live log files and
   * their directory. It runs on this thread (20–30 ms with 30 MB unsynced), so the files are synced
   * from other threads first; what remains for the barrier was written meanwhile (1–5 ms).
   *
   * Trap: `put(key, value, {sync: true})` of the package does not sync; `batch_write` does.
   */
  flush(): Promise<void> {
    const database = this.#openDatabase();
    return this.#running.track(this.#flush(database));
  }

  snapshot(): EngineSnapshot {
    return new RocksDbSnapshot(this.#binding, this.#openDatabase(), this.#cursors);
  }

  /** `sizeBytes` counts table files and, for the logs, the memtables that they repeat. */
  stats(): EngineStats {
    const database = this.#openDatabase();
    const details: Record<string, number> = { cursors: this.#cursors.size };
    for (const [name, property] of Object.entries(PROPERTIES)) {
      // Trap: a property that RocksDB does not know reads as the empty text.
      details[name] = Number(this.#binding.db_get_property(database, property));
    }
    const sizeBytes = details.tableFilesBytes! + details.memtablesBytes!;
    return { sizeBytes, details };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const database = this.#openDatabase();
    this.#database = undefined;
    for (const cursor of this.#cursors) cursor.close();
    // Trap: closing under a running read or flush ends the process.
    await this.#running.settled();
    await new Promise<void>((resolve, reject) => {
      // On another thread; it syncs the logs, from which the next opening fills the memtables.
      this.#binding.db_close(database, (error) =>
        error === null ? resolve() : reject(toEngineError(error, "close the engine")),
      );
    });
  }

  #openDatabase(): DatabaseHandle {
    if (this.#database === undefined) throw closedError("engine");
    return this.#database;
  }

  async #flush(database: DatabaseHandle): Promise<void> {
    try {
      await syncLogFiles(this.#directory);
      this.#binding.batch_write(database, this.#marker, SYNC);
    } catch (error) {
      throw toEngineError(error, "flush the engine");
    }
  }

  /**
   * Trap: the binding's asynchronous read throws into the void when it meets a damaged block, and
   * never calls back. 512 keys take 1.6 ms here when they are cached.
   */
  #getMany(
    database: DatabaseHandle,
    keys: readonly Uint8Array[],
  ): readonly (Uint8Array | undefined)[] {
    try {
      return checkValues(this.#binding.db_get_many_sync(database, keys, undefined));
    } catch (error) {
      throw toEngineError(error, "read from the engine");
    }
  }
}

/** A native batch: `put` copies both buffers at once. */
class RocksDbBatch implements EngineBatch {
  readonly #binding: RocksDbBinding;
  #handle: BatchHandle;
  #count = 0;
  #sizeBytes = 0;

  constructor(binding: RocksDbBinding) {
    this.#binding = binding;
    this.#handle = binding.batch_init();
  }

  get handle(): BatchHandle {
    return this.#handle;
  }

  get count(): number {
    return this.#count;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  put(key: Uint8Array, value: Uint8Array): void {
    // `undefined` for the options saves the binding from looking up properties in an object.
    this.#binding.batch_put(this.#handle, nativeKey(key), value, undefined);
    this.#count++;
    this.#sizeBytes += key.length + value.length;
  }

  delete(key: Uint8Array): void {
    this.#binding.batch_del(this.#handle, nativeKey(key), undefined);
    this.#count++;
    this.#sizeBytes += key.length;
  }

  clear(): void {
    // The native buffer keeps its capacity, which one huge batch would otherwise leave behind.
    if (this.#sizeBytes > ENGINE_BATCH_BUFFER_KEPT_BYTES_MAX) {
      this.#handle = this.#binding.batch_init();
    } else {
      this.#binding.batch_clear(this.#handle);
    }
    this.#count = 0;
    this.#sizeBytes = 0;
  }
}

const isEmpty = (key: Uint8Array): boolean => key.length === 0;

/** The list itself: the binding makes a new one for each call. */
function checkValues(values: NativeValues): readonly (Uint8Array | undefined)[] {
  for (const value of values) {
    // Trap: null is no value and no absence, the binding has given up on the key.
    if (value === null) throw new KvError("INTERNAL", "the engine left a key unread");
  }
  return values as readonly (Uint8Array | undefined)[];
}
