/** An engine that works on another thread, as it were: every answer and effect comes some turns later. */
import type { Engine, EngineIterator, EngineSnapshot } from "#storage-node/engine/engine.ts";
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

/** @param gate while it is closed, writes wait */
export function slowEngine(engine: Engine, gate = { isOpen: true }): Engine {
  let last: Promise<unknown> = Promise.resolve();
  /** Writes take effect in their order. */
  const inOrder = <T>(act: () => T | Promise<T>): Promise<T> => {
    const done = last.then(async () => {
      while (!gate.isOpen) await nextTurn();
      return await later(act);
    });
    last = done.catch(() => {});
    return done;
  };
  return {
    name: engine.name,
    get: (key) => later(() => engine.get(key)),
    getMany: (keys) => later(() => engine.getMany(keys)),
    iterate: (options) => slowIterator(engine.iterate(options)),
    batch: () => engine.batch(),
    write: (batch) => inOrder(() => engine.write(batch)),
    flush: () => inOrder(() => engine.flush()),
    snapshot: () => slowView(engine.snapshot()),
    stats: () => engine.stats(),
    close: () => engine.close(),
  };
}
