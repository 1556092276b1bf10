/**
 * An engine whose writes take effect, and are answered, only when `defer` runs them, in their order; as one
 * that works on another thread does. What it holds is then behind what has been decided and answered.
 */
import { assert } from "#shared/assert.ts";
import type { Engine, EngineBatch } from "#storage-node/engine/engine.ts";
import { ListBatch } from "#storage-node/engine/list-batch.ts";
import { ForwardingEngine } from "#storage-node/engine/testing.ts";

export class LateEngine extends ForwardingEngine {
  readonly #defer: (write: () => void) => void;

  constructor(inner: Engine, defer: (write: () => void) => void) {
    super(inner);
    this.#defer = defer;
  }

  override write(batch: EngineBatch): Promise<void> {
    assert(batch instanceof ListBatch, "a batch of the engine in memory");
    batch.setWriting(true);
    return new Promise((resolve) => {
      this.#defer(() => {
        batch.setWriting(false);
        resolve(this.inner.write(batch));
      });
    });
  }
}
