/**
 * A batch kept as two parallel lists, for engines that take all changes of a batch in one call.
 *
 * The buffers are not copied: the contract has them unchanged until the batch is written or cleared.
 */
import { assert } from "#shared/assert.ts";
import type { EngineBatch } from "./engine.ts";

export class ListBatch implements EngineBatch {
  readonly #keys: Uint8Array[] = [];
  readonly #values: (Uint8Array | undefined)[] = [];
  #sizeBytes = 0;
  #writing = false;

  get count(): number {
    return this.#keys.length;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** In order of the calls. */
  get keys(): readonly Uint8Array[] {
    return this.#keys;
  }

  /** Beside `keys`; undefined is a deletion. */
  get values(): readonly (Uint8Array | undefined)[] {
    return this.#values;
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#assertIdle();
    this.#keys.push(key);
    this.#values.push(value);
    this.#sizeBytes += key.length + value.length;
  }

  delete(key: Uint8Array): void {
    this.#assertIdle();
    this.#keys.push(key);
    this.#values.push(undefined);
    this.#sizeBytes += key.length;
  }

  clear(): void {
    this.#assertIdle();
    this.#keys.length = 0;
    this.#values.length = 0;
    this.#sizeBytes = 0;
  }

  /** Engines that write on another thread hold the batch still until they are done with it. */
  setWriting(writing: boolean): void {
    if (writing) this.#assertIdle();
    this.#writing = writing;
  }

  #assertIdle(): void {
    assert(!this.#writing, "a batch does not change while it is being written");
  }
}
