/**
 * LevelDB through `classic-level`: the third engine, for machines where no RocksDB binding loads.
 *
 * Reads of keys run on the calling thread, everything else on others.
 *
 * Weaker than RocksDB in two respects. Every write is synced, which costs time (see `SYNCED`). And the
 * binding has no option to verify the checksums of table files when reading: damage there is found
 * only if it breaks their structure.
 */
import { mkdir } from "node:fs/promises";
import { type BatchOperation, ClassicLevel, type Iterator as LevelIterator } from "classic-level";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import {
  ENGINE_CACHE_SIZE_BYTES_DEFAULT,
  ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX,
} from "#shared/limits.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
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
import { syncLogFiles } from "./sync-log-files.ts";
import { WriteQueue } from "./write-queue.ts";

export type ClassicLevelOptions = {
  /** Made if it does not exist. */
  readonly directory: string;
  /** Of the block cache; ENGINE_CACHE_SIZE_BYTES_DEFAULT if absent. */
  readonly cacheSizeBytes?: number;
};

type Level = ClassicLevel<Uint8Array, Uint8Array>;
type LevelSnapshot = ReturnType<Level["snapshot"]>;
type Closable = { close(): Promise<void> };

/** Bytes; LevelDB's 4 MiB make a compaction every few thousand writes. */
const WRITE_BUFFER_SIZE_BYTES = 16 * 1024 * 1024;

/**
 * @throws KvError UNAVAILABLE when the directory is in use, DATA_CORRUPT when its files are damaged,
 *   STORAGE_FULL
 */
export async function openClassicLevel(options: ClassicLevelOptions): Promise<Engine> {
  const { directory, cacheSizeBytes = ENGINE_CACHE_SIZE_BYTES_DEFAULT } = options;
  try {
    await mkdir(directory, { recursive: true });
    const level = new ClassicLevel<Uint8Array, Uint8Array>(directory, {
      keyEncoding: "view",
      valueEncoding: "view",
      compression: false,
      cacheSize: cacheSizeBytes,
      writeBufferSize: WRITE_BUFFER_SIZE_BYTES,
    });
    await level.open();
    return new ClassicLevelEngine(level, directory);
  } catch (error) {
    throw toEngineError(error, `open the engine in ${directory}`);
  }
}

/**
 * Every write is synced. LevelDB skips a damaged record of its log when it opens and goes on with
 * those behind it, so after a power loss unsynced writes could leave a gap: an applied index without
 * the effects before it.
 */
const SYNCED = { sync: true };

class ClassicLevelEngine implements Engine {
  readonly name = "classic-level";
  readonly #level: Level;
  readonly #directory: string;
  readonly #writes: WriteQueue;
  readonly #cursors = new Set<Closable>();
  #closing: Promise<void> | undefined;

  constructor(level: Level, directory: string) {
    this.#level = level;
    this.#directory = directory;
    this.#writes = new WriteQueue((batch) => level.batch(operationsOf(batch), SYNCED));
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#assertOpen();
    return getSync(this.#level, key, undefined);
  }

  getMany(keys: readonly Uint8Array[]): readonly (Uint8Array | undefined)[] {
    this.#assertOpen();
    return keys.map((key) => getSync(this.#level, key, undefined));
  }

  iterate(options: IterateOptions): EngineIterator {
    this.#assertOpen();
    return new ClassicLevelIterator(this.#level, undefined, options, this.#cursors);
  }

  batch(): EngineBatch {
    this.#assertOpen();
    return new ListBatch();
  }

  write(batch: EngineBatch): Promise<void> {
    this.#assertOpen();
    return this.#writes.write(batch);
  }

  /**
   * LevelDB's own synced write reaches only the newest log file, and the rows of an older one may
   * still be on their way to a table file: so all log files are synced here.
   */
  async flush(): Promise<void> {
    this.#assertOpen();
    await this.#sync();
  }

  snapshot(): EngineSnapshot {
    this.#assertOpen();
    return new ClassicLevelSnapshot(this.#level, this.#cursors);
  }

  /** `sizeBytes` counts table files, to whole MiB: LevelDB tells no more. */
  stats(): EngineStats {
    this.#assertOpen();
    const details: Record<string, number> = { cursors: this.#cursors.size };
    details.memoryBytes = Number(this.#level.getProperty("leveldb.approximate-memory-usage"));
    let tableFiles = 0;
    let tableFilesMiB = 0;
    // Rows of a table: level, files, size in MiB, and three figures on compaction.
    for (const line of this.#level.getProperty("leveldb.stats").split("\n")) {
      const columns = /^\s*\d+\s+(\d+)\s+(\d+)\s/.exec(line);
      if (columns === null) continue;
      tableFiles += Number(columns[1]);
      tableFilesMiB += Number(columns[2]);
    }
    details.tableFiles = tableFiles;
    return { sizeBytes: tableFilesMiB * 1024 * 1024, details };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await Promise.all([...this.#cursors].map((cursor) => cursor.close()));
      // A failed write was reported to its writer; the rest is to be closed all the same.
      await this.#sync().catch(() => undefined);
    } finally {
      await this.#level.close();
    }
  }

  async #sync(): Promise<void> {
    try {
      await this.#writes.settled();
      await syncLogFiles(this.#directory);
    } catch (error) {
      throw toEngineError(error, "flush the engine");
    }
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw closedError("engine");
  }
}

class ClassicLevelSnapshot implements EngineSnapshot {
  readonly #level: Level;
  readonly #cursors: Set<Closable>;
  readonly #snapshot: LevelSnapshot;
  readonly #iterators = new Set<Closable>();
  #closing: Promise<void> | undefined;

  constructor(level: Level, cursors: Set<Closable>) {
    this.#level = level;
    this.#cursors = cursors;
    this.#snapshot = level.snapshot();
    cursors.add(this);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    if (this.#closing !== undefined) throw closedError("snapshot");
    return getSync(this.#level, key, this.#snapshot);
  }

  iterate(options: IterateOptions): EngineIterator {
    if (this.#closing !== undefined) throw closedError("snapshot");
    return new ClassicLevelIterator(this.#level, this.#snapshot, options, this.#iterators);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#cursors.delete(this);
    await Promise.all([...this.#iterators].map((iterator) => iterator.close()));
    await this.#snapshot.close();
  }
}

class ClassicLevelIterator implements EngineIterator {
  readonly #cursors: Set<Closable>;
  readonly #iterator: LevelIterator<Level, Uint8Array, Uint8Array> | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    level: Level,
    snapshot: LevelSnapshot | undefined,
    options: IterateOptions,
    cursors: Set<Closable>,
  ) {
    this.#cursors = cursors;
    this.#iterator = isEmptyRange(options)
      ? undefined
      : level.iterator({
          reverse: options.reverse === true,
          values: options.keysOnly !== true,
          fillCache: false,
          highWaterMarkBytes: ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX,
          ...(options.start === undefined ? {} : { gte: options.start.slice() }),
          ...(options.end === undefined ? {} : { lt: options.end.slice() }),
          ...(snapshot === undefined ? {} : { snapshot }),
        });
    cursors.add(this);
  }

  next(maxRows: number): MaybePromise<readonly Row[]> {
    assertMaxRows(maxRows);
    if (this.#closing !== undefined) throw closedError("iterator");
    return this.#iterator === undefined ? [] : readRows(this.#iterator, maxRows);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#cursors.delete(this);
    await this.#iterator?.close();
  }
}

async function readRows(
  iterator: LevelIterator<Level, Uint8Array, Uint8Array>,
  maxRows: number,
): Promise<readonly Row[]> {
  try {
    const entries: (readonly [Uint8Array, Uint8Array | undefined])[] =
      await iterator.nextv(maxRows);
    return entries.map(([key, value]) => ({ key, value: value ?? EMPTY_BYTES }));
  } catch (error) {
    throw toEngineError(error, "read from an iterator");
  }
}

function getSync(
  level: Level,
  key: Uint8Array,
  snapshot: LevelSnapshot | undefined,
): Uint8Array | undefined {
  try {
    return snapshot === undefined ? level.getSync(key) : level.getSync(key, { snapshot });
  } catch (error) {
    throw toEngineError(error, "read from the engine");
  }
}

function operationsOf(batch: ListBatch): BatchOperation<Level, Uint8Array, Uint8Array>[] {
  return batch.keys.map((key, i) => {
    const value = batch.values[i];
    return value === undefined ? { type: "del", key } : { type: "put", key, value };
  });
}
