/**
 * The rows that one round of apply reads and writes, shared by all groups of the round.
 *
 * The owner collects the keys that many entries will read (`need`), fetches them with one
 * `Engine.getMany`, hands the values back (`fill`) and applies the entries. Later entries read what
 * earlier ones of the round wrote. `finish` then moves the changed rows into the batch, each once,
 * however often the round changed it.
 *
 * `need` answers with the row itself, and who needed it reads and writes it through that. Looking
 * rows up by their keys would be the dearest step of apply; see `round-reads.ts`.
 *
 * A view holds what the engine held when it was filled: the batch of one round must have been
 * written before the reads of the next round begin.
 */
import { assert } from "#shared/assert.ts";
import type { EngineBatch } from "#storage-node/engine/engine.ts";
import { decodeDataRowHead, type StoredHead } from "./data-row.ts";
import { type RowHeads, rowHash } from "./row-heads.ts";

/** A data row of the round. Changed through the view only. */
export type ViewRow = {
  /** The machine that needs it; see `RowHeads`. */
  readonly owner: number;
  readonly key: Uint8Array;
  readonly hash: number;
  head: StoredHead | undefined;
  /** The head is known: fetched, kept from an earlier round, or written in this one. */
  known: boolean;
  /** What the round has made of it, if it has: the new row, or none. */
  value: Uint8Array | undefined;
  changed: boolean;
};

/** Something whose rows change many times in a round and are written once. */
export type SavedAtFinish = {
  /** Called once for each `saveAtFinish`, after the last `apply` of the round. */
  save(view: ApplyView): void;
};

export class ApplyView {
  readonly #batch: EngineBatch;
  readonly #heads: RowHeads | undefined;
  #needed: ViewRow[] = [];
  #changed: ViewRow[] = [];
  #toSave: SavedAtFinish[] = [];

  /**
   * Writes go to `batch`, which the owner writes after `finish` and clears before the next round. With
   * `heads`, rows that earlier rounds of this view wrote need not be fetched; no other view may then
   * change rows of the machines of this one.
   */
  constructor(batch: EngineBatch, heads?: RowHeads) {
    this.#batch = batch;
    this.#heads = heads;
  }

  /**
   * Registers a row that apply will read or write. Once per key and round: two rows of one key would
   * not know of each other. The buffer must not change during the round.
   */
  need(owner: number, key: Uint8Array): ViewRow {
    const hash = this.#heads === undefined ? 0 : rowHash(key);
    const found = this.#heads === undefined ? "unknown" : this.#heads.find(owner, key, hash);
    const known = found !== "unknown";
    const head = known ? found : undefined;
    const row = { owner, key, hash, head, known, value: undefined, changed: false };
    if (!known) this.#needed.push(row);
    return row;
  }

  /** The keys to fetch, in the order in which they were needed. */
  keys(): readonly Uint8Array[] {
    return this.#needed.map((row) => row.key);
  }

  /** Takes the values of `keys()`, in their order. Once per round. */
  fill(values: readonly (Uint8Array | undefined)[]): void {
    assert(values.length === this.#needed.length, "a view is filled with one value per needed key");
    for (let i = 0; i < values.length; i++) {
      const row = this.#needed[i]!;
      const value = values[i];
      row.head = value === undefined ? undefined : decodeDataRowHead(value);
      row.known = true;
    }
  }

  /** The row as it is at this point of the round. */
  get(row: ViewRow): StoredHead | undefined {
    assert(row.known, "apply reads only rows that were filled");
    return row.head;
  }

  /** Writes a row and what is its head. The buffer must not change until the batch has been written. */
  put(row: ViewRow, value: Uint8Array, head: StoredHead): void {
    this.#write(row, value, head);
  }

  delete(row: ViewRow): void {
    this.#write(row, undefined, undefined);
  }

  /** Writes a row that nothing reads in this round, past the overlay. Order of calls is kept. */
  putUnread(key: Uint8Array, value: Uint8Array): void {
    this.#batch.put(key, value);
  }

  deleteUnread(key: Uint8Array): void {
    this.#batch.delete(key);
  }

  /** Lets `owner` write its rows when the round ends. Once per round and owner. */
  saveAtFinish(owner: SavedAtFinish): void {
    this.#toSave.push(owner);
  }

  /** Moves the changed rows into the batch. Once, after the last `apply` of the round. */
  finish(): void {
    for (const { owner, key, hash, value, head } of this.#changed) {
      if (value === undefined) this.#batch.delete(key);
      else this.#batch.put(key, value);
      // Nobody asks before the batch is written, and when it cannot be written, nobody ever does.
      this.#heads?.keep(owner, key, hash, head);
    }
    this.#changed = [];
    for (const owner of this.#toSave) owner.save(this);
    this.#toSave = [];
  }

  /** Forgets everything, for the next round. Does not touch the batch. */
  reset(): void {
    const finished = this.#changed.length === 0 && this.#toSave.length === 0;
    assert(finished, "a view is reset only after its changes went to the batch");
    this.#needed = [];
  }

  #write(row: ViewRow, value: Uint8Array | undefined, head: StoredHead | undefined): void {
    assert(row.known, "apply writes only rows that were filled");
    row.value = value;
    row.head = head;
    if (row.changed) return;
    row.changed = true;
    this.#changed.push(row);
  }
}
