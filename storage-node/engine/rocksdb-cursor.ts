/**
 * Iterators and snapshots of the `@nxtedition/rocksdb` adapter.
 *
 * The binding has no snapshots, but an iterator sees the state of the moment when it was made, and
 * the adapter writes only from the one JavaScript thread: iterators made in one turn see the same
 * state. So a snapshot is one unbounded iterator for each direction, made together, and everything
 * read from it is served by seeking them.
 *
 * Reads are synchronous and bounded by rows and bytes; an answer shorter than asked for does not
 * mean the end, an empty one does.
 */
import { compareBytes, EMPTY_BYTES, equalBytes } from "#shared/bytes.ts";
import { ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX } from "#shared/limits.ts";
import type { EngineIterator, EngineSnapshot, IterateOptions, Row } from "./engine.ts";
import { toEngineError } from "./engine-error.ts";
import { assertMaxRows, closedError, isEmptyRange } from "./guards.ts";
import { nativeKey } from "./native-key.ts";
import type { DatabaseHandle, IteratorHandle, RocksDbBinding } from "./rocksdb-binding.ts";

/** What the engine has to close before the database. */
export type Closable = { close(): void };

/** One native iterator. Every call checks that it is open, for the binding does not. */
class NativeCursor {
  readonly #binding: RocksDbBinding;
  #handle: IteratorHandle | undefined;
  #finished = false;

  constructor(binding: RocksDbBinding, database: DatabaseHandle, options: IterateOptions) {
    this.#binding = binding;
    try {
      this.#handle = binding.iterator_init(database, {
        reverse: options.reverse === true,
        values: options.keysOnly !== true,
        // Trap: an empty lower bound is none, and an empty upper bound would have no address; the
        // callers answer empty ranges without a cursor.
        gte: options.start === undefined || options.start.length === 0 ? undefined : options.start,
        lt: options.end,
        highWaterMarkBytes: ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX,
        // A long scan would otherwise push the rows of point reads out of the cache.
        fillCache: false,
        // Trap: without an encoding the binding reads an uninitialized variable.
        keyEncoding: "buffer",
        valueEncoding: "buffer",
      });
    } catch (error) {
      throw toEngineError(error, "open an iterator");
    }
  }

  /** To `target`, or the next key in the cursor's direction. */
  seek(target: Uint8Array): void {
    if (this.#handle === undefined) throw closedError("iterator");
    this.#finished = false;
    this.#binding.iterator_seek(this.#handle, nativeKey(target));
  }

  read(maxRows: number): Row[] {
    if (this.#handle === undefined) throw closedError("iterator");
    // Trap: stepping a native iterator that has reached its end aborts the process.
    if (this.#finished) return [];
    try {
      const { rows, finished } = this.#binding.iterator_nextv_sync(this.#handle, maxRows);
      this.#finished = finished;
      const result: Row[] = new Array(rows.length / 2);
      for (let i = 0; i < result.length; i++) {
        result[i] = { key: rows[2 * i]!, value: rows[2 * i + 1] ?? EMPTY_BYTES };
      }
      return result;
    } catch (error) {
      // The native position is unknown after an error: nothing more is read from this cursor.
      this.#finished = true;
      throw toEngineError(error, "read from an iterator");
    }
  }

  close(): void {
    if (this.#handle === undefined) return;
    this.#binding.iterator_close(this.#handle);
    this.#handle = undefined;
  }
}

/** An iterator with a native cursor of its own. */
export class RocksDbIterator implements EngineIterator {
  readonly #open: Set<Closable>;
  readonly #cursor: NativeCursor | undefined;
  #closed = false;

  constructor(
    binding: RocksDbBinding,
    database: DatabaseHandle,
    options: IterateOptions,
    open: Set<Closable>,
  ) {
    this.#open = open;
    this.#cursor = isEmptyRange(options) ? undefined : new NativeCursor(binding, database, options);
    open.add(this);
  }

  next(maxRows: number): readonly Row[] {
    assertMaxRows(maxRows);
    if (this.#closed) throw closedError("iterator");
    return this.#cursor?.read(maxRows) ?? [];
  }

  close(): void {
    this.#closed = true;
    this.#cursor?.close();
    this.#open.delete(this);
  }
}

export class RocksDbSnapshot implements EngineSnapshot {
  readonly #open: Set<Closable>;
  readonly #iterators = new Set<Closable>();
  readonly #forward: SharedCursor;
  readonly #backward: SharedCursor;
  #closed = false;

  constructor(binding: RocksDbBinding, database: DatabaseHandle, open: Set<Closable>) {
    this.#open = open;
    // Nothing may come between these two: they have to see the same state.
    const forward = new NativeCursor(binding, database, {});
    const backward = new NativeCursor(binding, database, { reverse: true });
    this.#forward = { cursor: forward, user: undefined };
    this.#backward = { cursor: backward, user: undefined };
    open.add(this);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    if (this.#closed) throw closedError("snapshot");
    this.#forward.user = undefined;
    this.#forward.cursor.seek(key);
    const row = this.#forward.cursor.read(1)[0];
    return row !== undefined && equalBytes(row.key, key) ? row.value : undefined;
  }

  iterate(options: IterateOptions): EngineIterator {
    if (this.#closed) throw closedError("snapshot");
    const shared = options.reverse === true ? this.#backward : this.#forward;
    const iterator = new SnapshotIterator(shared, options, this.#iterators);
    this.#iterators.add(iterator);
    return iterator;
  }

  close(): void {
    this.#closed = true;
    for (const iterator of this.#iterators) iterator.close();
    this.#forward.cursor.close();
    this.#backward.cursor.close();
    this.#open.delete(this);
  }
}

/** A snapshot's cursor and the iterator that moved it last; whoever else comes seeks first. */
type SharedCursor = {
  readonly cursor: NativeCursor;
  user: SnapshotIterator | undefined;
  /** Of a cursor that runs backwards: a copy of the greatest key, null when there is none. */
  lastKey?: Uint8Array | null;
};

class SnapshotIterator implements EngineIterator {
  readonly #shared: SharedCursor;
  readonly #open: Set<Closable>;
  readonly #reverse: boolean;
  readonly #keysOnly: boolean;
  readonly #start: Uint8Array | undefined;
  readonly #end: Uint8Array | undefined;
  /** The key returned last; the next one lies beyond it. */
  #last: Uint8Array | undefined;
  #finished: boolean;
  #closed = false;

  constructor(shared: SharedCursor, options: IterateOptions, open: Set<Closable>) {
    this.#shared = shared;
    this.#open = open;
    this.#reverse = options.reverse === true;
    this.#keysOnly = options.keysOnly === true;
    this.#start = options.start?.slice();
    this.#end = options.end?.slice();
    this.#finished = isEmptyRange(options);
  }

  next(maxRows: number): readonly Row[] {
    assertMaxRows(maxRows);
    if (this.#closed) throw closedError("iterator");
    while (!this.#finished) {
      if (this.#shared.user !== this && !this.#takeCursor()) break;
      const rows = this.#accept(this.#shared.cursor.read(maxRows));
      // After a seek the first row may be the one that was returned last: then read on.
      if (rows.length > 0) return rows;
    }
    this.#finished = true;
    return [];
  }

  close(): void {
    this.#closed = true;
    this.#open.delete(this);
  }

  /** Puts the cursor where this iterator goes on. False: there is no row at all. */
  #takeCursor(): boolean {
    const first = this.#reverse ? this.#firstBackwards() : (this.#start ?? EMPTY_BYTES);
    const target = this.#last ?? first;
    if (target === undefined) return false;
    this.#shared.user = this;
    this.#shared.cursor.seek(target);
    return true;
  }

  /**
   * The binding can seek to a key but not to the end, where a new cursor stands: so the greatest key
   * is read off before the cursor is moved for the first time, whoever moves it.
   */
  #firstBackwards(): Uint8Array | undefined {
    const shared = this.#shared;
    if (shared.lastKey === undefined) {
      shared.lastKey = shared.cursor.read(1)[0]?.key.slice() ?? null;
    }
    return this.#end ?? shared.lastKey ?? undefined;
  }

  /** The rows that lie within the bounds and were not returned yet. */
  #accept(rows: readonly Row[]): readonly Row[] {
    if (rows.length === 0) this.#finished = true;
    let from = 0;
    while (from < rows.length && this.#isBefore(rows[from]!.key)) from++;
    let to = rows.length;
    while (to > from && this.#isBeyond(rows[to - 1]!.key)) to--;
    if (to < rows.length) this.#finished = true;
    if (to > from) this.#last = rows[to - 1]!.key;
    if (!this.#keysOnly && from === 0 && to === rows.length) return rows;
    const accepted = rows.slice(from, to);
    if (!this.#keysOnly) return accepted;
    return accepted.map((row) => ({ key: row.key, value: EMPTY_BYTES }));
  }

  #isBefore(key: Uint8Array): boolean {
    if (this.#last !== undefined) return equalBytes(key, this.#last);
    return this.#reverse && this.#end !== undefined && equalBytes(key, this.#end);
  }

  #isBeyond(key: Uint8Array): boolean {
    if (this.#reverse) return this.#start !== undefined && compareBytes(key, this.#start) < 0;
    return this.#end !== undefined && compareBytes(key, this.#end) >= 0;
  }
}
