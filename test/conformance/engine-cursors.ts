/** The part of the engine suite on iterators and snapshots. */
import { expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import type { IterateOptions } from "#storage-node/engine/engine.ts";
import {
  type Bench,
  del,
  failureOf,
  hex,
  put,
  readAll,
  TRICKY_BOUNDS,
  TRICKY_KEYS,
  text,
  writeChanges,
  writeTrickyKeys,
} from "./engine-model.ts";

function* everyRange(): Generator<IterateOptions> {
  for (const start of TRICKY_BOUNDS) {
    for (const end of TRICKY_BOUNDS) {
      for (const reverse of [false, true]) {
        for (const keysOnly of [false, true]) {
          yield {
            ...(start && { start }),
            ...(end && { end }),
            reverse,
            keysOnly,
          };
        }
      }
    }
  }
}

export function iteratorTests(bench: Bench): void {
  it("orders keys by unsigned bytes, in every range and direction", async () => {
    const model = await writeTrickyKeys(bench.engine);
    for (const options of everyRange()) {
      expect(await readAll(bench.engine.iterate(options))).toEqual(model.rows(options));
    }
  });

  it("next() goes on where it stopped, whatever the chunk", async () => {
    const model = await writeTrickyKeys(bench.engine);
    const options = { start: Uint8Array.of(0, 0), end: Uint8Array.of(255, 255) };
    for (const reverse of [false, true]) {
      for (const chunkRows of [1, 2, 3, 10_000]) {
        const rows = await readAll(bench.engine.iterate({ ...options, reverse }), chunkRows);
        expect(rows).toEqual(model.rows({ ...options, reverse }));
      }
    }
  });

  it("next() answers with nothing at the end, and ever after", async () => {
    await writeChanges(bench.engine, [put(utf8("a"), utf8("1"))]);
    for (const reverse of [false, true]) {
      const iterator = bench.engine.iterate({ reverse });
      expect(await iterator.next(10)).toHaveLength(1);
      for (let i = 0; i < 3; i++) expect(await iterator.next(10)).toEqual([]);
      await iterator.close();
    }
  });

  it("next() refuses chunks outside of 1 to 10,000", async () => {
    const iterator = bench.engine.iterate({});
    for (const rows of [0, -1, 1.5, 10_001, Number.NaN]) {
      expect(await failureOf(() => iterator.next(rows))).toBeInstanceOf(Error);
    }
    await iterator.close();
  });

  iteratorViewTests(bench);
}

function iteratorViewTests(bench: Bench): void {
  it("sees the rows of its making while writes go on", async () => {
    const model = await writeTrickyKeys(bench.engine);
    const iterators = [
      { iterator: bench.engine.iterate({}), expected: model.rows() },
      {
        iterator: bench.engine.iterate({ reverse: true }),
        expected: model.rows({ reverse: true }),
      },
    ];
    await writeChanges(bench.engine, TRICKY_KEYS.map(del));
    await writeChanges(bench.engine, [put(Uint8Array.of(97, 5), utf8("new"))]);
    for (const { iterator, expected } of iterators) {
      expect(await readAll(iterator, 2)).toEqual(expected);
    }
  });

  it("reads many megabytes in bounded steps", async () => {
    const value = new Uint8Array(300_000);
    for (let i = 0; i < 20; i++) await writeChanges(bench.engine, [put(Uint8Array.of(i), value)]);
    const iterator = bench.engine.iterate({});
    const first = await iterator.next(10_000);
    expect(first.length).toBeGreaterThan(0);
    expect(first.length).toBeLessThan(20);
    expect(first.length + (await readAll(iterator, 10_000)).length).toBe(20);
  });

  it("reads thousands of rows", async () => {
    const keys = Array.from({ length: 3000 }, (_, i) => Uint8Array.of(i >>> 8, i & 255));
    await writeChanges(
      bench.engine,
      keys.map((key) => put(key, key)),
    );
    const expected = keys.map((key) => ({ key: hex(key), value: hex(key) }));
    expect(await readAll(bench.engine.iterate({}), 1000)).toEqual(expected);
    expect(await readAll(bench.engine.iterate({ reverse: true }), 7)).toEqual(expected.reverse());
  });
}

export function snapshotTests(bench: Bench): void {
  it("stays as it was when it was taken", async () => {
    const model = await writeTrickyKeys(bench.engine);
    const snapshot = bench.engine.snapshot();
    await writeChanges(bench.engine, [...TRICKY_KEYS.map(del), put(utf8("new"), utf8("1"))]);
    for (const options of everyRange()) {
      expect(await readAll(snapshot.iterate(options), 4)).toEqual(model.rows(options));
    }
    for (const key of [...TRICKY_KEYS, utf8("new"), utf8("missing")]) {
      const found = await snapshot.get(key);
      expect(found && hex(found)).toEqual(model.get(key));
    }
    await snapshot.close();
    expect(await readAll(bench.engine.iterate({}))).toHaveLength(1);
  });

  it("serves iterators and gets in turns", async () => {
    const model = await writeTrickyKeys(bench.engine);
    const snapshot = bench.engine.snapshot();
    const ranges: IterateOptions[] = [
      { reverse: true, end: Uint8Array.of(97) },
      {},
      { reverse: true },
      { start: Uint8Array.of(97), end: Uint8Array.of(255) },
      { reverse: true, start: Uint8Array.of(97, 0) },
    ];
    const readers = ranges.map((options) => ({
      iterator: snapshot.iterate(options),
      expected: model.rows(options).map(({ key }) => key),
      found: [] as string[],
    }));
    for (let round = 0; round < TRICKY_KEYS.length + 1; round++) {
      for (const { iterator, found } of readers) {
        found.push(...(await iterator.next(1 + (round % 3))).map(({ key }) => hex(key)));
      }
      expect(text(await snapshot.get(Uint8Array.of(255)))).toBe("vff");
    }
    for (const { iterator, expected, found } of readers) {
      expect(found).toEqual(expected);
      await iterator.close();
    }
    await snapshot.close();
  });

  it("of an empty engine is empty", async () => {
    const snapshot = bench.engine.snapshot();
    await writeTrickyKeys(bench.engine);
    expect(await readAll(snapshot.iterate({ reverse: true }))).toEqual([]);
    expect(await readAll(snapshot.iterate({}))).toEqual([]);
    expect(await snapshot.get(Uint8Array.of(97))).toBeUndefined();
    await snapshot.close();
  });
}
