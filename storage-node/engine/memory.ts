/**
 * The engine in memory, for tests and the simulator.
 *
 * Rows live in a sorted list of sorted leaves. Both levels are copied on write: taking a view bumps
 * `#epoch`, and a list or leaf older than the epoch is copied before it is changed. So a view is one
 * reference and stays as it was, a write after it copies one leaf and the list of leaves, and writes
 * without views in between copy nothing.
 *
 * A `MemoryDisk` outlives the engine and stands for what a power loss leaves: `flush` and `close`
 * save to it, and an engine opened on it starts from what was saved last. The simulator crashes a
 * node by dropping its engine and opening another one on the same disk.
 */
import { assert } from "#shared/assert.ts";
import { compareBytes, EMPTY_BYTES } from "#shared/bytes.ts";
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
import { assertMaxRows, closedError, isEmptyRange } from "./guards.ts";
import { ListBatch } from "./list-batch.ts";

const LEAF_ROWS_MAX = 256;

/** Never empty: a leaf that loses its last row is removed. */
type Leaf = { readonly rows: Row[]; readonly epoch: number };
type View = readonly Leaf[];
type Closable = { close(): void };

/** What a power loss leaves of a memory engine. Holds nothing at first. */
export class MemoryDisk {
  #saved: View = [];

  get saved(): View {
    return this.#saved;
  }

  save(view: View): void {
    this.#saved = view;
  }
}

/** @param disk kept by the caller when it means to open the same data again */
export function openMemory(disk = new MemoryDisk()): Engine {
  return new MemoryEngine(disk);
}

class MemoryEngine implements Engine {
  readonly name = "memory";
  readonly #disk: MemoryDisk;
  readonly #cursors = new Set<Closable>();
  #leaves: Leaf[];
  #leavesEpoch = 0;
  /** Starts above the epoch of every leaf that the disk may share with another engine. */
  #epoch: number;
  #count = 0;
  #sizeBytes = 0;
  #closed = false;

  constructor(disk: MemoryDisk) {
    this.#disk = disk;
    this.#leaves = [...disk.saved];
    let epoch = 0;
    for (const leaf of this.#leaves) {
      epoch = Math.max(epoch, leaf.epoch);
      for (const row of leaf.rows) {
        this.#count++;
        this.#sizeBytes += row.key.length + row.value.length;
      }
    }
    this.#epoch = epoch + 1;
    this.#leavesEpoch = this.#epoch;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#assertOpen();
    return getFromView(this.#leaves, key);
  }

  getMany(keys: readonly Uint8Array[]): readonly (Uint8Array | undefined)[] {
    this.#assertOpen();
    return keys.map((key) => getFromView(this.#leaves, key));
  }

  iterate(options: IterateOptions): EngineIterator {
    this.#assertOpen();
    const iterator = new MemoryIterator(this.#takeView(), options, this.#cursors);
    this.#cursors.add(iterator);
    return iterator;
  }

  batch(): EngineBatch {
    this.#assertOpen();
    return new ListBatch();
  }

  write(batch: EngineBatch): void {
    this.#assertOpen();
    assert(batch instanceof ListBatch, "a batch is written to the engine that made it");
    const { keys, values } = batch;
    for (let i = 0; i < keys.length; i++) {
      const value = values[i];
      if (value === undefined) this.#delete(keys[i]!);
      else this.#put({ key: keys[i]!.slice(), value: value.slice() });
    }
  }

  async flush(): Promise<void> {
    this.#assertOpen();
    this.#disk.save(this.#takeView());
  }

  snapshot(): EngineSnapshot {
    this.#assertOpen();
    const snapshot = new MemorySnapshot(this.#takeView(), this.#cursors);
    this.#cursors.add(snapshot);
    return snapshot;
  }

  stats(): EngineStats {
    this.#assertOpen();
    return {
      sizeBytes: this.#sizeBytes,
      details: { rows: this.#count, leaves: this.#leaves.length, cursors: this.#cursors.size },
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#disk.save(this.#takeView());
    this.#closed = true;
    for (const cursor of this.#cursors) cursor.close();
    this.#leaves = [];
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError("engine");
  }

  /** From here on nothing that the view can reach is changed in place. */
  #takeView(): View {
    this.#epoch++;
    return this.#leaves;
  }

  #ownLeaves(): Leaf[] {
    if (this.#leavesEpoch !== this.#epoch) {
      this.#leaves = [...this.#leaves];
      this.#leavesEpoch = this.#epoch;
    }
    return this.#leaves;
  }

  #ownLeaf(index: number): Leaf {
    const leaves = this.#ownLeaves();
    const leaf = leaves[index]!;
    if (leaf.epoch === this.#epoch) return leaf;
    return (leaves[index] = { rows: leaf.rows.slice(), epoch: this.#epoch });
  }

  #put(row: Row): void {
    this.#sizeBytes += row.key.length + row.value.length;
    if (this.#leaves.length === 0) {
      this.#ownLeaves().push({ rows: [row], epoch: this.#epoch });
      this.#count++;
      return;
    }
    const index = Math.max(0, leafOf(this.#leaves, row.key));
    const { rows } = this.#ownLeaf(index);
    const position = lowerBound(rows, row.key);
    const old = rows[position];
    if (old !== undefined && compareBytes(old.key, row.key) === 0) {
      this.#sizeBytes -= old.key.length + old.value.length;
      rows[position] = row;
      return;
    }
    rows.splice(position, 0, row);
    this.#count++;
    if (rows.length > LEAF_ROWS_MAX) {
      const upper = { rows: rows.splice(LEAF_ROWS_MAX / 2), epoch: this.#epoch };
      this.#ownLeaves().splice(index + 1, 0, upper);
    }
  }

  #delete(key: Uint8Array): void {
    const index = leafOf(this.#leaves, key);
    if (index < 0) return;
    const found = this.#leaves[index]!.rows;
    const position = lowerBound(found, key);
    const old = found[position];
    if (old === undefined || compareBytes(old.key, key) !== 0) return;
    this.#count--;
    this.#sizeBytes -= old.key.length + old.value.length;
    if (found.length === 1) this.#ownLeaves().splice(index, 1);
    else this.#ownLeaf(index).rows.splice(position, 1);
  }
}

class MemorySnapshot implements EngineSnapshot {
  #view: View | undefined;
  readonly #cursors: Set<Closable>;
  readonly #iterators = new Set<Closable>();

  constructor(view: View, cursors: Set<Closable>) {
    this.#view = view;
    this.#cursors = cursors;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    if (this.#view === undefined) throw closedError("snapshot");
    return getFromView(this.#view, key);
  }

  iterate(options: IterateOptions): EngineIterator {
    if (this.#view === undefined) throw closedError("snapshot");
    const iterator = new MemoryIterator(this.#view, options, this.#iterators);
    this.#iterators.add(iterator);
    return iterator;
  }

  close(): void {
    this.#view = undefined;
    for (const iterator of this.#iterators) iterator.close();
    this.#cursors.delete(this);
  }
}

class MemoryIterator implements EngineIterator {
  readonly #cursors: Set<Closable>;
  readonly #keysOnly: boolean;
  readonly #step: 1 | -1;
  /** The bound that the iterator runs towards: exclusive forwards, inclusive backwards. */
  readonly #stop: Uint8Array | undefined;
  #view: View | undefined;
  #leaf = 0;
  #position = 0;

  constructor(view: View, options: IterateOptions, cursors: Set<Closable>) {
    this.#cursors = cursors;
    this.#keysOnly = options.keysOnly === true;
    this.#step = options.reverse === true ? -1 : 1;
    this.#view = isEmptyRange(options) ? [] : view;
    this.#stop = (options.reverse === true ? options.start : options.end)?.slice();
    const from = options.reverse === true ? options.end : options.start;
    if (from !== undefined) {
      this.#leaf = Math.max(0, leafOf(this.#view, from));
      this.#position = lowerBound(this.#view[this.#leaf]?.rows ?? [], from);
      if (this.#step === -1) this.#position--;
    } else if (this.#step === -1) {
      this.#leaf = this.#view.length - 1;
      this.#position = (this.#view[this.#leaf]?.rows.length ?? 0) - 1;
    }
  }

  next(maxRows: number): readonly Row[] {
    assertMaxRows(maxRows);
    if (this.#view === undefined) throw closedError("iterator");
    const rows: Row[] = [];
    let sizeBytes = 0;
    while (rows.length < maxRows && sizeBytes <= ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX) {
      const row = this.#current(this.#view);
      if (row === undefined || this.#isBeyond(row)) {
        this.#view = [];
        break;
      }
      rows.push(this.#keysOnly ? { key: row.key, value: EMPTY_BYTES } : row);
      sizeBytes += row.key.length + row.value.length;
      this.#position += this.#step;
    }
    return rows;
  }

  close(): void {
    this.#view = undefined;
    this.#cursors.delete(this);
  }

  /** Steps into the neighbouring leaf when the position has left this one. */
  #current(view: View): Row | undefined {
    const leaf = view[this.#leaf];
    if (leaf === undefined) return undefined;
    const row = leaf.rows[this.#position];
    if (row !== undefined) return row;
    this.#leaf += this.#step;
    const neighbour = view[this.#leaf];
    if (neighbour === undefined) return undefined;
    this.#position = this.#step === 1 ? 0 : neighbour.rows.length - 1;
    return neighbour.rows[this.#position];
  }

  #isBeyond(row: Row): boolean {
    if (this.#stop === undefined) return false;
    const order = compareBytes(row.key, this.#stop);
    return this.#step === 1 ? order >= 0 : order < 0;
  }
}

/** The last leaf whose first key is not after `key`; -1 when all start after it. */
function leafOf(view: View, key: Uint8Array): number {
  let low = 0;
  let high = view.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes(view[middle]!.rows[0]!.key, key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The position of the first row whose key is not before `key`. */
function lowerBound(rows: readonly Row[], key: Uint8Array): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes(rows[middle]!.key, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function getFromView(view: View, key: Uint8Array): Uint8Array | undefined {
  const leaf = view[leafOf(view, key)];
  if (leaf === undefined) return undefined;
  const row = leaf.rows[lowerBound(leaf.rows, key)];
  return row !== undefined && compareBytes(row.key, key) === 0 ? row.value : undefined;
}
