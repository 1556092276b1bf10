/**
 * An engine whose writes take effect, and are answered, only when `defer` runs them, in their order; as one
 * that works on another thread does. What it holds is then behind what has been decided and answered.
 */
import { assert } from "#shared/assert.ts";
import type { Engine, EngineBatch } from "#storage-node/engine/engine.ts";
import { ListBatch } from "#storage-node/engine/list-batch.ts";

export function lateEngine(engine: Engine, defer: (write: () => void) => void): Engine {
  const write = (batch: EngineBatch): Promise<void> => {
    assert(batch instanceof ListBatch, "a batch of the engine in memory");
    batch.setWriting(true);
    return new Promise((resolve) => {
      defer(() => {
        batch.setWriting(false);
        resolve(engine.write(batch));
      });
    });
  };
  return {
    name: engine.name,
    get: (key) => engine.get(key),
    getMany: (keys) => engine.getMany(keys),
    iterate: (options) => engine.iterate(options),
    batch: () => engine.batch(),
    write,
    flush: () => engine.flush(),
    snapshot: () => engine.snapshot(),
    stats: () => engine.stats(),
    close: () => engine.close(),
  };
}
