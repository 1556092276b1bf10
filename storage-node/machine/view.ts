/**
 * The rows that one round of apply reads and writes, shared by all groups of the round.
 *
 * The owner collects the keys that many entries will read (`need`), fetches them with one
 * `Engine.getMany`, hands the values back (`fill`) and applies the entries. Later entries read what
 * earlier ones of the round wrote. `finish` then moves the changed rows into the batch, each once,
 * however often the round changed it.
 *
 * A view holds what the engine held when it was filled: the batch of one round must have been
 * written before the reads of the next round begin.
 */
import { assert } from "#shared/assert.ts";
import { latin1 } from "#shared/bytes.ts";
import type { EngineBatch } from "#storage-node/engine/engine.ts";

type Slot = {
  readonly key: Uint8Array;
  value: Uint8Array | undefined;
  /** The value is known: fetched, or written in this round. */
  known: boolean;
  changed: boolean;
};

export class ApplyView {
  readonly #batch: EngineBatch;
  readonly #slots = new Map<string, Slot>();
  #needed: Slot[] = [];
  #changed: Slot[] = [];

  /** Writes go to `batch`, which the owner writes after `finish` and clears before the next round. */
  constructor(batch: EngineBatch) {
    this.#batch = batch;
  }

  /** Registers a key that apply will read. The buffer must not change during the round. */
  need(key: Uint8Array): void {
    const name = latin1(key);
    if (this.#slots.has(name)) return;
    const slot = { key, value: undefined, known: false, changed: false };
    this.#slots.set(name, slot);
    this.#needed.push(slot);
  }

  /** The keys to fetch, each once, in the order in which they were first needed. */
  keys(): readonly Uint8Array[] {
    return this.#needed.map((slot) => slot.key);
  }

  /** Takes the values of `keys()`, in their order. Once per round. */
  fill(values: readonly (Uint8Array | undefined)[]): void {
    assert(values.length === this.#needed.length, "a view is filled with one value per needed key");
    for (let i = 0; i < values.length; i++) {
      const slot = this.#needed[i]!;
      slot.value = values[i];
      slot.known = true;
    }
  }

  /** The row as it is at this point of the round. The key must have been needed or written. */
  get(key: Uint8Array): Uint8Array | undefined {
    const slot = this.#slots.get(latin1(key));
    assert(slot?.known === true, "apply reads only keys that were needed and filled");
    return slot.value;
  }

  /** Writes a row. Both buffers must not change until the batch has been written. */
  put(key: Uint8Array, value: Uint8Array): void {
    this.#write(key, value);
  }

  delete(key: Uint8Array): void {
    this.#write(key, undefined);
  }

  /** Writes a row that nothing reads in this round, past the overlay. Order of calls is kept. */
  putUnread(key: Uint8Array, value: Uint8Array): void {
    this.#batch.put(key, value);
  }

  deleteUnread(key: Uint8Array): void {
    this.#batch.delete(key);
  }

  /** Moves the changed rows into the batch. Once, after the last `apply` of the round. */
  finish(): void {
    for (const slot of this.#changed) {
      if (slot.value === undefined) this.#batch.delete(slot.key);
      else this.#batch.put(slot.key, slot.value);
    }
    this.#changed = [];
  }

  /** Forgets everything, for the next round. Does not touch the batch. */
  reset(): void {
    assert(this.#changed.length === 0, "a view is reset only after its changes went to the batch");
    this.#slots.clear();
    this.#needed = [];
  }

  #write(key: Uint8Array, value: Uint8Array | undefined): void {
    const name = latin1(key);
    let slot = this.#slots.get(name);
    if (slot === undefined) {
      slot = { key, value, known: true, changed: false };
      this.#slots.set(name, slot);
    }
    slot.value = value;
    slot.known = true;
    if (!slot.changed) {
      slot.changed = true;
      this.#changed.push(slot);
    }
  }
}
