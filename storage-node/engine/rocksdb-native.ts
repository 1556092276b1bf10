/**
 * RocksDB 10.5 through `rocksdb-native`, for platforms without `@nxtedition/rocksdb`.
 *
 * Every call goes to another thread and costs promises per key, so it is slower; it opens the same
 * directories. One key space (the default column family), bloom filters of 10 bits a key.
 */
import { mkdir } from "node:fs/promises";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX } from "#shared/limits.ts";
import type {
  Engine,
  EngineBatch,
  EngineIterator,
  EngineSnapshot,
  EngineStats,
  IterateOptions,
  Row,
} from "./engine.ts";
import { toEngineError } from "./engine-error.ts";
import { assertMaxRows, closedError, isEmptyRange } from "./guards.ts";
import { ListBatch } from "./list-batch.ts";
import { nativeKey } from "./native-key.ts";
import {
  loadNativeBinding,
  type NativeDatabase,
  type NativeIterator,
  type NativeRow,
  type NativeSession,
} from "./rocksdb-native-binding.ts";
import type { RocksDbOptions } from "./rocksdb-options.ts";
import { Running } from "./running.ts";
import { WriteQueue } from "./write-queue.ts";

type Closable = { close(): Promise<void> };
type Values = readonly (Uint8Array | undefined)[];

/** Rows that the binding reads ahead in one trip to its thread. */
const READ_AHEAD_ROWS = 64;

/** RocksDB properties by their name in `stats().details`. */
const PROPERTIES = {
  tableFilesBytes: "rocksdb.total-sst-files-size",
  memtablesBytes: "rocksdb.size-all-mem-tables",
  blockCacheBytes: "rocksdb.block-cache-usage",
  keysEstimate: "rocksdb.estimate-num-keys",
  levelZeroFiles: "rocksdb.num-files-at-level0",
  writeStopped: "rocksdb.is-write-stopped",
  backgroundErrors: "rocksdb.background-errors",
} as const;

/**
 * The binding has no option for the size of its cache (RocksDB's default of 32 MiB), so
 * `cacheSizeBytes` has no effect here.
 *
 * @throws KvError UNAVAILABLE when the binding does not load or the directory is in use,
 *   DATA_CORRUPT when its files are damaged, STORAGE_FULL
 */
export async function openRocksDbNative({ directory }: RocksDbOptions): Promise<Engine> {
  try {
    const Database = loadNativeBinding();
    // The binding makes the last directory of the path only.
    await mkdir(directory, { recursive: true });
    const database = new Database(directory, { maxBackgroundJobs: 2, maxOpenFiles: -1 });
    await database.ready();
    const engine = new RocksDbNativeEngine(database);
    await engine.refreshStats();
    return engine;
  } catch (error) {
    throw toEngineError(error, `open the engine in ${directory}`);
  }
}

class RocksDbNativeEngine implements Engine {
  readonly name = "rocksdb (rocksdb-native)";
  readonly #database: NativeDatabase;
  readonly #writes: WriteQueue;
  readonly #cursors = new Set<Closable>();
  readonly #running = new Running();
  #details: Readonly<Record<string, number>> = {};
  #closing: Promise<void> | undefined;

  constructor(database: NativeDatabase) {
    this.#database = database;
    this.#writes = new WriteQueue((batch) => writeBatch(database, batch));
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return (await this.getMany([key]))[0];
  }

  getMany(keys: readonly Uint8Array[]): Promise<Values> {
    this.#assertOpen();
    return this.#running.track(readKeys(this.#database, keys));
  }

  iterate(options: IterateOptions): EngineIterator {
    this.#assertOpen();
    const snapshot = new RocksDbNativeSnapshot(this.#database.snapshot(), this.#cursors);
    return new RocksDbNativeIterator(snapshot, options, this.#cursors, true);
  }

  batch(): EngineBatch {
    this.#assertOpen();
    return new ListBatch();
  }

  write(batch: EngineBatch): Promise<void> {
    this.#assertOpen();
    return this.#writes.write(batch);
  }

  /** The binding cannot sync a write; writing the memtable out to a synced table file does. */
  async flush(): Promise<void> {
    this.#assertOpen();
    await this.#running.track(this.#flush());
  }

  snapshot(): EngineSnapshot {
    this.#assertOpen();
    return new RocksDbNativeSnapshot(this.#database.snapshot(), this.#cursors);
  }

  /**
   * As the binding answers with a promise, the figures are those of the call before, of the last
   * flush or of the opening.
   */
  stats(): EngineStats {
    this.#assertOpen();
    // Only the figures stay old when this fails; a lost database shows in reads and writes.
    this.#running.track(this.refreshStats()).catch(() => undefined);
    const { tableFilesBytes = 0, memtablesBytes = 0 } = this.#details;
    return {
      sizeBytes: tableFilesBytes + memtablesBytes,
      details: { ...this.#details, cursors: this.#cursors.size },
    };
  }

  async refreshStats(): Promise<void> {
    const entries = Object.entries(PROPERTIES).map(
      async ([name, property]): Promise<[string, number]> => [
        name,
        Number(await this.#database.getProperty(property)),
      ],
    );
    this.#details = Object.fromEntries(await Promise.all(entries));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      // Trap: the binding's close waits for open iterators and sessions, for ever.
      await Promise.all([...this.#cursors].map((cursor) => cursor.close()));
      await this.#running.settled();
      // A failed write was reported to its writer; the rest is to be closed all the same.
      await this.#flush().catch(() => undefined);
    } finally {
      await this.#database.close();
    }
  }

  async #flush(): Promise<void> {
    try {
      await this.#writes.settled();
      await this.#database.flush();
      await this.refreshStats();
    } catch (error) {
      throw toEngineError(error, "flush the engine");
    }
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw closedError("engine");
  }
}

class RocksDbNativeSnapshot implements EngineSnapshot {
  readonly #session: NativeSession;
  readonly #cursors: Set<Closable>;
  readonly #iterators = new Set<Closable>();
  readonly #running = new Running();
  #closing: Promise<void> | undefined;

  constructor(session: NativeSession, cursors: Set<Closable>) {
    this.#session = session;
    this.#cursors = cursors;
    cursors.add(this);
  }

  get session(): NativeSession {
    return this.#session;
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#closing !== undefined) throw closedError("snapshot");
    return (await this.#running.track(readKeys(this.#session, [key])))[0];
  }

  iterate(options: IterateOptions): EngineIterator {
    if (this.#closing !== undefined) throw closedError("snapshot");
    return new RocksDbNativeIterator(this, options, this.#iterators, false);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#iterators].map((iterator) => iterator.close()));
    await this.#running.settled();
    await this.#session.close();
    this.#cursors.delete(this);
  }
}

/**
 * Trap: the binding opens an iterator on another thread some time after the call, and what is written
 * meanwhile would be in its view. So it always runs on a snapshot, which is taken at once.
 */
class RocksDbNativeIterator implements EngineIterator {
  readonly #snapshot: RocksDbNativeSnapshot;
  readonly #ownsSnapshot: boolean;
  readonly #cursors: Set<Closable>;
  readonly #iterator: NativeIterator | undefined;
  readonly #rows: AsyncIterator<NativeRow> | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    snapshot: RocksDbNativeSnapshot,
    options: IterateOptions,
    cursors: Set<Closable>,
    ownsSnapshot: boolean,
  ) {
    this.#snapshot = snapshot;
    this.#ownsSnapshot = ownsSnapshot;
    this.#cursors = cursors;
    cursors.add(this);
    // Trap: an empty upper bound would be read as none.
    if (isEmptyRange(options)) return;
    const range = {
      ...(options.start === undefined ? {} : { gte: options.start.slice() }),
      ...(options.end === undefined ? {} : { lt: options.end.slice() }),
    };
    this.#iterator = snapshot.session.iterator(range, {
      reverse: options.reverse === true,
      values: options.keysOnly !== true,
      capacity: READ_AHEAD_ROWS,
    });
    this.#rows = this.#iterator[Symbol.asyncIterator]();
  }

  async next(maxRows: number): Promise<readonly Row[]> {
    assertMaxRows(maxRows);
    if (this.#closing !== undefined) throw closedError("iterator");
    const rows: Row[] = [];
    if (this.#rows === undefined) return rows;
    let sizeBytes = 0;
    try {
      while (rows.length < maxRows && sizeBytes <= ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX) {
        const result = await this.#rows.next();
        if (result.done === true) break;
        const { key, value } = result.value;
        rows.push({ key, value: value ?? EMPTY_BYTES });
        sizeBytes += key.length + (value?.length ?? 0);
      }
      return rows;
    } catch (error) {
      throw toEngineError(error, "read from an iterator");
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#cursors.delete(this);
    const iterator = this.#iterator;
    if (iterator !== undefined && !iterator.destroyed) {
      await new Promise<void>((resolve) => {
        iterator.once("close", resolve);
        iterator.destroy();
      });
    }
    if (this.#ownsSnapshot) await this.#snapshot.close();
  }
}

/** The buffers must stay unchanged until the promise settles. */
async function writeBatch(database: NativeDatabase, batch: ListBatch): Promise<void> {
  const { keys, values } = batch;
  const native = database.write({ capacity: keys.length });
  try {
    for (let i = 0; i < keys.length; i++) {
      const value = values[i];
      if (value === undefined) native.tryDelete(nativeKey(keys[i]!));
      else native.tryPut(nativeKey(keys[i]!), value);
    }
    await native.flush();
  } finally {
    native.destroy();
  }
}

async function readKeys(session: NativeSession, keys: readonly Uint8Array[]): Promise<Values> {
  if (keys.length === 0) return [];
  try {
    const native = session.read({ capacity: keys.length, autoDestroy: true });
    const values = Promise.all(keys.map((key) => native.get(nativeKey(key))));
    const [found] = await Promise.all([values, native.flush()]);
    return found.map((value) => value ?? undefined);
  } catch (error) {
    throw toEngineError(error, "read from the engine");
  }
}
