/**
 * A table whose readers see all of it once, and after that what has changed: each from where it is, at its
 * own pace.
 *
 * Nothing is queued for a reader. An entry that changes moves to the end of the one order in which all
 * readers go, so a slow one finds the newest value where it would have found the older ones too. A reader
 * costs an iterator; of what was removed a mark stays until every reader has passed it.
 *
 * The order is that of a `Map`, whose iterators are live: they go on to what is added while they stand,
 * and skip what is taken out before them.
 */
export type TableEntry<K, V> = {
  readonly key: K;
  /** Undefined when it was removed. */
  readonly value: V | undefined;
  /** Grows with each change of the table. */
  readonly order: number;
};

export class ChangeTable<K, V> {
  readonly #entries = new Map<K, TableEntry<K, V>>();
  readonly #readers = new Set<ChangeReader<K, V>>();
  /** Entries without a value, oldest first; some were replaced since. */
  #removals: TableEntry<K, V>[] = [];
  #order = 0;
  #size = 0;

  /** Keys that have a value. */
  get size(): number {
    return this.#size;
  }

  /** Of the last change; 0 before the first. */
  get order(): number {
    return this.#order;
  }

  /** Marks of removals that readers have yet to pass. */
  get removals(): number {
    return this.#removals.length;
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  set(key: K, value: V): void {
    if (this.#put(key, value) === undefined) this.#size++;
  }

  /** Does nothing when the key has no value. */
  remove(key: K): void {
    if (this.get(key) === undefined) return;
    this.#put(key, undefined);
    this.#size--;
    this.#removals.push(this.#entries.get(key)!);
    this.tidy();
  }

  /** Forgets the removals that all readers have passed. To be called now and then. */
  tidy(): void {
    // The newest entry always stays: an iterator that has once come to its end never goes on.
    let passed = this.#order;
    for (const { position } of this.#readers) passed = Math.min(passed, position);
    let count = 0;
    for (const removal of this.#removals) {
      if (removal.order >= passed) break;
      if (this.#entries.get(removal.key) === removal) this.#entries.delete(removal.key);
      count++;
    }
    if (count > 0) this.#removals = this.#removals.slice(count);
  }

  *entries(): IterableIterator<readonly [K, V]> {
    for (const { key, value } of this.#entries.values()) {
      if (value !== undefined) yield [key, value];
    }
  }

  /** Stands before all entries. To be closed. */
  reader(): ChangeReader<K, V> {
    const reader = new ChangeReader(this, this.#entries.values(), this.#order, () =>
      this.#readers.delete(reader),
    );
    this.#readers.add(reader);
    return reader;
  }

  /** The value before. */
  #put(key: K, value: V | undefined): V | undefined {
    const before = this.#entries.get(key);
    if (before !== undefined) this.#entries.delete(key);
    this.#entries.set(key, { key, value, order: ++this.#order });
    return before?.value;
  }
}

export class ChangeReader<K, V> {
  readonly #table: ChangeTable<K, V>;
  readonly #iterator: Iterator<TableEntry<K, V>>;
  readonly #beganAt: number;
  readonly close: () => void;
  #position = 0;

  constructor(
    table: ChangeTable<K, V>,
    iterator: Iterator<TableEntry<K, V>>,
    beganAt: number,
    close: () => void,
  ) {
    this.#table = table;
    this.#iterator = iterator;
    this.#beganAt = beganAt;
    this.close = close;
  }

  /** Order of the last entry that was read. */
  get position(): number {
    return this.#position;
  }

  /** There is nothing to read now. */
  get isAtEnd(): boolean {
    return this.#position >= this.#table.order;
  }

  /** Undefined at the end, as it is now. */
  next(): TableEntry<K, V> | undefined {
    while (!this.isAtEnd) {
      const { value: entry, done } = this.#iterator.next();
      if (done === true) throw new Error("the newest entry of a table is always there");
      this.#position = entry.order;
      // Gone before this reader came: it has never heard of it.
      if (entry.value === undefined && entry.order <= this.#beganAt) continue;
      return entry;
    }
    return undefined;
  }
}
