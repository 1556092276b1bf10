/** An engine that passes everything on to another one, to be extended by what shall be different. Used by tests only. */
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type {
  Engine,
  EngineBatch,
  EngineIterator,
  EngineSnapshot,
  EngineStats,
  IterateOptions,
} from "./engine.ts";

export class ForwardingEngine implements Engine {
  readonly inner: Engine;

  constructor(inner: Engine) {
    this.inner = inner;
  }

  get name(): string {
    return this.inner.name;
  }

  get(key: Uint8Array): MaybePromise<Uint8Array | undefined> {
    return this.inner.get(key);
  }

  getMany(keys: readonly Uint8Array[]): MaybePromise<readonly (Uint8Array | undefined)[]> {
    return this.inner.getMany(keys);
  }

  iterate(options: IterateOptions): EngineIterator {
    return this.inner.iterate(options);
  }

  batch(): EngineBatch {
    return this.inner.batch();
  }

  write(batch: EngineBatch): MaybePromise<void> {
    return this.inner.write(batch);
  }

  flush(): Promise<void> {
    return this.inner.flush();
  }

  snapshot(): EngineSnapshot {
    return this.inner.snapshot();
  }

  stats(): EngineStats {
    return this.inner.stats();
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
