/** The part of the engine suite on closing and opening again, and on random histories. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import type { Engine, IterateOptions } from "#storage-node/engine/engine.ts";
import {
  type Bench,
  type Change,
  del,
  EngineModel,
  failureOf,
  hex,
  put,
  readAll,
  TRICKY_KEYS,
  text,
  writeChanges,
  writeTrickyKeys,
} from "./engine-model.ts";

export function closingTests(bench: Bench): void {
  it("keeps what was written, flushed or not", async () => {
    const model = await writeTrickyKeys(bench.engine);
    await bench.engine.flush();
    const later = [put(utf8("later"), utf8("1")), del(Uint8Array.of(255))];
    await writeChanges(bench.engine, later);
    model.apply(later);
    for (let i = 0; i < 2; i++) {
      await bench.reopen();
      expect(await readAll(bench.engine.iterate({}))).toEqual(model.rows());
    }
  });

  it("close() is idempotent, also while it runs", async () => {
    await Promise.all([bench.engine.close(), bench.engine.close()]);
    await bench.engine.close();
  });

  it("close() ends open iterators and snapshots", async () => {
    await writeTrickyKeys(bench.engine);
    const snapshot = bench.engine.snapshot();
    const iterators = [
      bench.engine.iterate({}),
      bench.engine.iterate({ reverse: true, end: new Uint8Array(0) }),
      snapshot.iterate({}),
    ];
    for (const iterator of iterators) await iterator.next(1);
    await bench.engine.close();
    for (const iterator of iterators) {
      expect(await failureOf(() => iterator.next(1))).toMatchObject({ code: "UNAVAILABLE" });
      await iterator.close();
    }
    expect(await failureOf(() => snapshot.get(utf8("a")))).toMatchObject({ code: "UNAVAILABLE" });
    expect(await failureOf(() => snapshot.iterate({}))).toMatchObject({ code: "UNAVAILABLE" });
    await snapshot.close();
  });

  afterCloseTests(bench);
}

function afterCloseTests(bench: Bench): void {
  it("every call on a closed engine throws", async () => {
    const { engine } = bench;
    const batch = engine.batch();
    batch.put(utf8("a"), utf8("1"));
    await engine.close();
    const calls: (() => unknown)[] = [
      () => engine.get(utf8("a")),
      () => engine.getMany([utf8("a")]),
      () => engine.iterate({}),
      () => engine.batch(),
      () => engine.write(batch),
      () => engine.flush(),
      () => engine.snapshot(),
      () => engine.stats(),
    ];
    for (const call of calls) {
      expect(await failureOf(call)).toMatchObject({ code: "UNAVAILABLE" });
    }
  });

  it("a closed iterator and a closed snapshot throw and close again", async () => {
    await writeTrickyKeys(bench.engine);
    const snapshot = bench.engine.snapshot();
    const iterators = [bench.engine.iterate({}), snapshot.iterate({}), snapshot.iterate({})];
    await iterators[0]!.close();
    await iterators[1]!.close();
    await snapshot.close();
    for (const iterator of iterators) {
      expect(await failureOf(() => iterator.next(1))).toMatchObject({ code: "UNAVAILABLE" });
      await iterator.close();
    }
    expect(await failureOf(() => snapshot.get(utf8("a")))).toMatchObject({ code: "UNAVAILABLE" });
    await snapshot.close();
    expect(text(await bench.engine.get(Uint8Array.of(97)))).toBe("v61");
  });

  it("close() waits for calls that run", async () => {
    await writeTrickyKeys(bench.engine);
    const keys = Array.from({ length: 500 }, (_, i) => TRICKY_KEYS[i % TRICKY_KEYS.length]!);
    const running = [
      bench.engine.getMany(keys),
      bench.engine.flush(),
      bench.engine.flush(),
    ] as const;
    await bench.engine.close();
    expect(await running[0]).toHaveLength(500);
    await Promise.all(running);
  });
}

const keyArbitrary = fc
  .array(fc.constantFrom(0, 1, 97, 127, 128, 254, 255), { maxLength: 4 })
  .map((bytes) => Uint8Array.from(bytes));
const changeArbitrary: fc.Arbitrary<Change> = fc.record({
  key: keyArbitrary,
  value: fc.option(fc.uint8Array({ maxLength: 12 }), { nil: undefined, freq: 3 }),
});
const stepArbitrary = fc.oneof(
  { weight: 12, arbitrary: fc.array(changeArbitrary, { maxLength: 12 }) },
  { weight: 2, arbitrary: fc.constantFrom("snapshot" as const, "flush" as const) },
  { weight: 1, arbitrary: fc.constant("reopen" as const) },
);
const rangeArbitrary = fc.record(
  { start: keyArbitrary, end: keyArbitrary, reverse: fc.boolean(), keysOnly: fc.boolean() },
  { requiredKeys: [] },
);

export function modelTests(bench: Bench): void {
  it("agrees with a plain sorted list after any changes, flushes and reopenings", async () => {
    const history = fc.array(stepArbitrary, { maxLength: 12 });
    const ranges = fc.array(rangeArbitrary, { minLength: 1, maxLength: 4 });
    const check = fc.asyncProperty(history, ranges, fc.integer({ min: 1, max: 5 }), runHistory);
    await fc.assert(check, { numRuns: 25 });
  });

  async function runHistory(
    steps: readonly (readonly Change[] | "snapshot" | "flush" | "reopen")[],
    ranges: readonly IterateOptions[],
    chunkRows: number,
  ): Promise<void> {
    const { rows } = await clearEngine();
    expect(rows).toEqual([]);
    const model = new EngineModel();
    const snapshots: { snapshot: ReturnType<Engine["snapshot"]>; model: EngineModel }[] = [];
    for (const step of steps) {
      if (step === "snapshot") {
        snapshots.push({ snapshot: bench.engine.snapshot(), model: model.copy() });
      } else if (step === "flush") {
        await bench.engine.flush();
      } else if (step === "reopen") {
        snapshots.length = 0;
        await bench.reopen();
      } else {
        await writeChanges(bench.engine, step);
        model.apply(step);
      }
    }
    for (const options of ranges) {
      expect(await readAll(bench.engine.iterate(options), chunkRows)).toEqual(model.rows(options));
      for (const old of snapshots) {
        const found = await readAll(old.snapshot.iterate(options), chunkRows);
        expect(found).toEqual(old.model.rows(options));
      }
      const key = options.start ?? new Uint8Array(0);
      const [found] = await bench.engine.getMany([key]);
      expect(found && hex(found)).toEqual(model.get(key));
    }
    for (const { snapshot } of snapshots) await snapshot.close();
  }

  async function clearEngine(): Promise<{ rows: readonly unknown[] }> {
    const rows = await readAll(bench.engine.iterate({ keysOnly: true }));
    const changes = rows.map(({ key }) => del(Uint8Array.from(Buffer.from(key, "hex"))));
    await writeChanges(bench.engine, changes);
    return { rows: await readAll(bench.engine.iterate({})) };
  }
}
