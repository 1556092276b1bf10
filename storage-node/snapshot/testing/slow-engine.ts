/** An engine that works on another thread, as it were: every answer and effect comes some turns later. */
import type {
  Engine,
  EngineBatch,
  EngineIterator,
  EngineSnapshot,
  IterateOptions,
} from "#storage-node/engine/engine.ts";
import { ForwardingEngine } from "#storage-node/engine/testing.ts";
import { nextTurn } from "#storage-node/replica/turn.ts";

const TURNS = 2;

async function later<T>(act: () => T | Promise<T>): Promise<T> {
  for (let turn = 0; turn < TURNS; turn++) await nextTurn();
  return act();
}

const slowIterator = (rows: EngineIterator): EngineIterator => ({
  next: (maxRows) => later(() => rows.next(maxRows)),
  close: () => rows.close(),
});

const slowView = (view: EngineSnapshot): EngineSnapshot => ({
  get: (key) => later(() => view.get(key)),
  iterate: (options) => slowIterator(view.iterate(options)),
  close: () => view.close(),
});

export class SlowEngine extends ForwardingEngine {
  readonly #gate: { readonly isOpen: boolean };
  #last: Promise<unknown> = Promise.resolve();

  /** @param gate while it is closed, writes wait */
  constructor(inner: Engine, gate: { readonly isOpen: boolean } = { isOpen: true }) {
    super(inner);
    this.#gate = gate;
  }

  override get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return later(() => this.inner.get(key));
  }

  override getMany(keys: readonly Uint8Array[]): Promise<readonly (Uint8Array | undefined)[]> {
    return later(() => this.inner.getMany(keys));
  }

  override iterate(options: IterateOptions): EngineIterator {
    return slowIterator(this.inner.iterate(options));
  }

  override write(batch: EngineBatch): Promise<void> {
    return this.#inOrder(() => this.inner.write(batch));
  }

  override flush(): Promise<void> {
    return this.#inOrder(() => this.inner.flush());
  }

  override snapshot(): EngineSnapshot {
    return slowView(this.inner.snapshot());
  }

  /** Writes take effect in their order. */
  #inOrder<T>(act: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(async () => {
      while (!this.#gate.isOpen) await nextTurn();
      return await later(act);
    });
    this.#last = done.catch(() => {});
    return done;
  }
}
