/**
 * Writes of bindings that work on other threads, one after the other.
 *
 * Two batches handed to a thread pool may be carried out in either order, and the contract has them
 * in the order of the calls. A failed write also fails all that follow: what the engine holds stays a
 * prefix of what was written.
 */
import { assert } from "#shared/assert.ts";
import type { EngineBatch } from "./engine.ts";
import { toEngineError } from "./engine-error.ts";
import { ListBatch } from "./list-batch.ts";

export class WriteQueue {
  readonly #apply: (batch: ListBatch) => Promise<void>;
  #last: Promise<void> = Promise.resolve();

  constructor(apply: (batch: ListBatch) => Promise<void>) {
    this.#apply = apply;
  }

  write(batch: EngineBatch): Promise<void> {
    assert(batch instanceof ListBatch, "a batch is written to the kind of engine that made it");
    batch.setWriting(true);
    const done = this.#run(this.#last, batch);
    this.#last = done;
    return done;
  }

  /** Settles with the last write that was asked for before the call. */
  settled(): Promise<void> {
    return this.#last;
  }

  async #run(previous: Promise<void>, batch: ListBatch): Promise<void> {
    try {
      await previous;
      if (batch.count > 0) await this.#apply(batch);
    } catch (error) {
      throw toEngineError(error, "write to the engine");
    } finally {
      batch.setWriting(false);
    }
  }
}
