/**
 * The heads of the data rows that were written last: what apply needs to know of a row that it replaces.
 *
 * Reading a replaced row from the engine is the dearest step of applying a write of 100 bytes (a quarter
 * of the time of a node that is loaded with batches), and it copies the value too, of which apply needs
 * the size alone.
 *
 * A head is valid for one machine, its *owner*: while a machine lives, nobody but it changes the data rows
 * of its group. Rows that are destroyed or replaced by a snapshot get a new machine, which is a new
 * owner, and finds nothing that was kept for the one before. So nothing has to be told to forget, and
 * what is not found is read from the engine.
 *
 * A table of two-way sets off the heap, where the garbage collector does not look. It begins small, and
 * begins anew four times as large when it has lost as many heads as it holds. The key itself is compared,
 * not only its hash.
 */
import {
  ROW_HEADS_KEPT_MAX,
  ROW_HEADS_KEPT_MIN,
  ROW_HEADS_KEY_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import type { StoredHead } from "./data-row.ts";

const WAYS = 2;
const NOWHERE = -1;
/** In place of a size: there is no row under this key. */
const ABSENT = -1;

type Table = {
  readonly hashes: Int32Array;
  /** 0 for a place that was never used. */
  readonly owners: Uint32Array;
  readonly keySizes: Uint8Array;
  readonly keys: Uint8Array;
  readonly revisions: Float64Array;
  readonly expiries: Float64Array;
  readonly valueSizes: Int32Array;
  /** Of each set: the way that was written last, which stays when the next one comes. */
  readonly latest: Uint8Array;
};

function createTable(places: number): Table {
  return {
    hashes: new Int32Array(places),
    owners: new Uint32Array(places),
    keySizes: new Uint8Array(places),
    keys: new Uint8Array(places * ROW_HEADS_KEY_SIZE_BYTES_MAX),
    revisions: new Float64Array(places),
    expiries: new Float64Array(places),
    valueSizes: new Int32Array(places),
    latest: new Uint8Array(places / WAYS),
  };
}

export class RowHeads {
  #places = ROW_HEADS_KEPT_MIN;
  #table = createTable(ROW_HEADS_KEPT_MIN);
  /** Heads that gave way to others since the table was made. */
  #lost = 0;

  /**
   * The head of a row as its owner last left it: undefined when there is no such row, `"unknown"` when
   * nothing is known of it. Owners are numbers from 1, and `hash` is `rowHash(key)`, which costs as much
   * as all the rest.
   */
  find(owner: number, key: Uint8Array, hash: number): StoredHead | undefined | "unknown" {
    if (key.length > ROW_HEADS_KEY_SIZE_BYTES_MAX) return "unknown";
    const place = this.#placeOf(owner, key, hash);
    if (place === NOWHERE) return "unknown";
    const { revisions, expiries, valueSizes } = this.#table;
    const valueSizeBytes = valueSizes[place]!;
    if (valueSizeBytes === ABSENT) return undefined;
    const revision = revisions[place]! as StoredHead["revision"];
    return { revision, expiresAtMs: expiries[place]!, valueSizeBytes };
  }

  /** The owner has written the row, or deleted it. */
  keep(owner: number, key: Uint8Array, hash: number, head: StoredHead | undefined): void {
    if (key.length > ROW_HEADS_KEY_SIZE_BYTES_MAX) return;
    let place = this.#placeOf(owner, key, hash);
    if (place === NOWHERE) place = this.#take(owner, key, hash);
    const { revisions, expiries, valueSizes, latest } = this.#table;
    latest[place >>> 1] = place & 1;
    valueSizes[place] = head === undefined ? ABSENT : head.valueSizeBytes;
    if (head === undefined) return;
    revisions[place] = head.revision;
    expiries[place] = head.expiresAtMs;
  }

  /** A place for the key: of its set the one that was not written last. */
  #take(owner: number, key: Uint8Array, hash: number): number {
    if (this.#lost >= this.#places && this.#places < ROW_HEADS_KEPT_MAX) {
      this.#places = Math.min(4 * this.#places, ROW_HEADS_KEPT_MAX);
      this.#table = createTable(this.#places);
      this.#lost = 0;
    }
    const { hashes, owners, keySizes, keys, latest } = this.#table;
    const first = this.#firstOf(hash);
    const place = first + (1 - latest[first >>> 1]!);
    if (owners[place] !== 0) this.#lost++;
    hashes[place] = hash;
    owners[place] = owner;
    keySizes[place] = key.length;
    const start = place * ROW_HEADS_KEY_SIZE_BYTES_MAX;
    for (let i = 0; i < key.length; i++) keys[start + i] = key[i]!;
    return place;
  }

  #firstOf(hash: number): number {
    return (WAYS * hash) & (this.#places - 1);
  }

  #placeOf(owner: number, key: Uint8Array, hash: number): number {
    const { hashes, owners } = this.#table;
    const first = this.#firstOf(hash);
    for (let place = first; place < first + WAYS; place++) {
      const mayBe = hashes[place] === hash && owners[place] === owner;
      if (mayBe && this.#hasKey(place, key)) return place;
    }
    return NOWHERE;
  }

  #hasKey(place: number, key: Uint8Array): boolean {
    const { keys, keySizes } = this.#table;
    if (keySizes[place] !== key.length) return false;
    const start = place * ROW_HEADS_KEY_SIZE_BYTES_MAX;
    for (let i = 0; i < key.length; i++) if (keys[start + i] !== key[i]) return false;
    return true;
  }
}

/** FNV-1a of 32 bits; behind it the finalizer of MurmurHash3, so that the low bits depend on all. */
export function rowHash(key: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key[i]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
