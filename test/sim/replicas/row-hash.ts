/**
 * A hash over all rows of an engine, kept up to date with every write.
 *
 * It is the sum of the rows' own hashes, so the order of rows and of writes does not matter, and a
 * write costs what it changes. Whenever a batch carries a journal row, and with it an applied index,
 * the hash of that index is reported: replicas that have applied as much must have the same one.
 */
import { assert } from "#shared/assert.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, EngineBatch } from "#storage-node/engine/engine.ts";
import { journalRowPosition, RowKind } from "#storage-node/engine/layout.ts";
import { ListBatch } from "#storage-node/engine/list-batch.ts";
import { ForwardingEngine } from "#storage-node/engine/testing.ts";

export type OnHash = (index: number, hash: number) => void;

function mixed(hash: number, bytes: Uint8Array): number {
  let h = hash ^ bytes.length;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  return h ^ (h >>> 15);
}

const rowHash = (key: Uint8Array, value: Uint8Array): number =>
  Math.imul(mixed(mixed(0x811c9dc5, key), value), 0x9e3779b1);

function found<T>(answer: T | Promise<T>): T {
  assert(!isPromise(answer), "the engine in memory answers at once");
  return answer as T;
}

/**
 * `inner`, which must answer at once, with its writes observed. With `defer` a write takes effect and
 * is answered only when `defer` runs it, as an engine does that works on another thread.
 */
export class HashedEngine extends ForwardingEngine {
  readonly #onHash: OnHash;
  readonly #defer: ((write: () => void) => void) | undefined;
  #hash: number;

  constructor(inner: Engine, onHash: OnHash, defer?: (write: () => void) => void) {
    super(inner);
    this.#onHash = onHash;
    this.#defer = defer;
    this.#hash = hashOfAll(inner);
  }

  get rowsHash(): number {
    return this.#hash;
  }

  override write(batch: EngineBatch): MaybePromise<void> {
    const defer = this.#defer;
    if (defer === undefined) return this.#writeNow(batch);
    return new Promise((resolve, reject) => {
      defer(() => {
        try {
          this.#writeNow(batch);
          resolve();
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #writeNow(batch: EngineBatch): void {
    assert(batch instanceof ListBatch, "a batch of the engine in memory");
    const { keys, values } = batch;
    const before = new Map<string, Uint8Array | undefined>();
    let index = 0;
    keys.forEach((key, i) => {
      const name = Buffer.from(key).toString("latin1");
      const old = before.has(name) ? before.get(name) : found(this.inner.get(key));
      const value = values[i];
      if (old !== undefined) this.#hash = (this.#hash - rowHash(key, old)) | 0;
      if (value !== undefined) this.#hash = (this.#hash + rowHash(key, value)) | 0;
      before.set(name, value);
      if (value !== undefined && key[0] === RowKind.Journal) {
        index = Math.max(index, journalRowPosition(key).index);
      }
    });
    found(this.inner.write(batch));
    if (index > 0) this.#onHash(index, this.#hash);
  }
}

function hashOfAll(engine: Engine): number {
  let hash = 0;
  const rows = engine.iterate({});
  for (;;) {
    const some = found(rows.next(1000));
    if (some.length === 0) break;
    for (const { key, value } of some) hash = (hash + rowHash(key, value)) | 0;
  }
  found(rows.close());
  return hash;
}
