/**
 * The suite that every engine has to pass: the contract of `storage-node/engine/engine.ts`, one test
 * for each of its sentences.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { compareBytes, utf8 } from "#shared/bytes.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { iteratorTests, snapshotTests } from "./engine-cursors.ts";
import { closingTests, modelTests } from "./engine-lifetime.ts";
import { type Bench, del, hex, put, readAll, text, writeChanges } from "./engine-model.ts";

/** Opens what an engine closed earlier in the same directory has left there. */
export type OpenEngineAt = (directory: string) => Promise<Engine>;

export function engineConformance(name: string, open: OpenEngineAt): void {
  describe(`engine ${name}`, () => {
    const bench = { reopen } as Bench;
    let directory = "";

    async function reopen(): Promise<void> {
      await bench.engine.close();
      bench.engine = await open(directory);
    }

    beforeEach(async () => {
      directory = await mkdtemp(path.join(tmpdir(), "minikv-engine-"));
      bench.engine = await open(directory);
    });
    afterEach(async () => {
      await bench.engine.close();
      await rm(directory, { recursive: true });
    });

    describe("points", () => pointTests(bench));
    describe("batches", () => batchTests(bench));
    describe("buffers", () => bufferTests(bench));
    describe("iterators", () => iteratorTests(bench));
    describe("snapshots", () => snapshotTests(bench));
    describe("closing", () => closingTests(bench));
    describe("random histories", () => modelTests(bench));
  });
}

function pointTests(bench: Bench): void {
  it("get() finds what was written and nothing else", async () => {
    await writeChanges(bench.engine, [put(utf8("ab"), utf8("1"))]);
    expect(text(await bench.engine.get(utf8("ab")))).toBe("1");
    for (const key of ["a", "abc", "b", ""]) {
      expect(await bench.engine.get(utf8(key))).toBeUndefined();
    }
  });

  it("keeps an empty value apart from no value", async () => {
    await writeChanges(bench.engine, [put(utf8("empty"), new Uint8Array(0))]);
    expect(await bench.engine.get(utf8("empty"))).toHaveLength(0);
    const [empty, missing] = await bench.engine.getMany([utf8("empty"), utf8("missing")]);
    expect([empty?.length, missing]).toEqual([0, undefined]);
    expect(await readAll(bench.engine.iterate({}))).toEqual([
      { key: hex(utf8("empty")), value: "" },
    ]);
  });

  it("takes the empty key", async () => {
    const empty = new Uint8Array(0);
    await writeChanges(bench.engine, [put(empty, utf8("e")), put(utf8("\0"), utf8("z"))]);
    expect(text(await bench.engine.get(empty))).toBe("e");
    expect((await bench.engine.getMany([empty])).map(text)).toEqual(["e"]);
    const snapshot = bench.engine.snapshot();
    expect(text(await snapshot.get(empty))).toBe("e");
    expect(await readAll(snapshot.iterate({ start: empty }), 1)).toHaveLength(2);
    await writeChanges(bench.engine, [del(empty)]);
    expect(await bench.engine.get(empty)).toBeUndefined();
    await snapshot.close();
  });

  it("takes a value of 1 MiB", async () => {
    const value = new Uint8Array(1024 * 1024).map((_, i) => (i * 31) ^ (i >>> 8));
    await writeChanges(bench.engine, [put(utf8("big"), value)]);
    await bench.reopen();
    const found = await bench.engine.get(utf8("big"));
    expect(found !== undefined && compareBytes(found, value) === 0).toBe(true);
  });

  it.each([1, 64, 65, 300])("getMany() answers %i keys in their order", async (count) => {
    const keys = Array.from({ length: count }, (_, i) => utf8(`key ${(i * 7) % count}`));
    const odd = keys.filter((_, i) => i % 2 === 1);
    await writeChanges(
      bench.engine,
      odd.map((key) => put(key, utf8(`value of ${hex(key)}`))),
    );
    const doubled = [...keys, ...keys.slice().reverse()];
    const found = await bench.engine.getMany(doubled);
    const expected = doubled.map((key) =>
      odd.some((other) => compareBytes(other, key) === 0) ? `value of ${hex(key)}` : undefined,
    );
    expect(found.map(text)).toEqual(expected);
    expect(await bench.engine.getMany([])).toEqual([]);
  });

  it("stats() counts bytes and gives figures", async () => {
    await writeChanges(bench.engine, [put(utf8("a"), new Uint8Array(1000))]);
    await bench.engine.flush();
    const { sizeBytes, details } = bench.engine.stats();
    expect(sizeBytes).toBeGreaterThanOrEqual(0);
    expect(Object.keys(details).length).toBeGreaterThan(0);
    for (const value of Object.values(details)) expect(Number.isFinite(value)).toBe(true);
  });
}

function batchTests(bench: Bench): void {
  it("applies the later change of a key", async () => {
    await writeChanges(bench.engine, [
      put(utf8("a"), utf8("1")),
      put(utf8("a"), utf8("2")),
      put(utf8("b"), utf8("1")),
      del(utf8("b")),
      del(utf8("c")),
      put(utf8("c"), utf8("3")),
    ]);
    const found = await bench.engine.getMany([utf8("a"), utf8("b"), utf8("c")]);
    expect(found.map((value) => value && hex(value))).toEqual(["32", undefined, "33"]);
  });

  it("counts changes and bytes, and starts over after clear()", async () => {
    const batch = bench.engine.batch();
    batch.put(utf8("a"), utf8("123"));
    batch.delete(utf8("bc"));
    expect([batch.count, batch.sizeBytes]).toEqual([2, 6]);
    await bench.engine.write(batch);
    batch.clear();
    expect([batch.count, batch.sizeBytes]).toEqual([0, 0]);
    await writeChanges(bench.engine, [del(utf8("a"))]);
    batch.put(utf8("d"), utf8("4"));
    await bench.engine.write(batch);
    expect(await readAll(bench.engine.iterate({}))).toEqual([{ key: "64", value: "34" }]);
  });

  it("changes nothing before write(), and by an empty batch", async () => {
    const batch = bench.engine.batch();
    await bench.engine.write(batch);
    batch.put(utf8("a"), utf8("1"));
    expect(await bench.engine.get(utf8("a"))).toBeUndefined();
    batch.clear();
    await bench.engine.write(batch);
    expect(await readAll(bench.engine.iterate({}))).toEqual([]);
  });

  it("gives back the memory of a huge batch and goes on", async () => {
    const batch = bench.engine.batch();
    for (let i = 0; i < 9; i++) batch.put(utf8(`huge ${i}`), new Uint8Array(1024 * 1024));
    batch.clear();
    batch.put(utf8("small"), utf8("1"));
    await bench.engine.write(batch);
    expect(await readAll(bench.engine.iterate({ keysOnly: true }))).toHaveLength(1);
  });

  it("carries out writes in the order of the calls", async () => {
    const writes = Array.from({ length: 50 }, (_, i) =>
      writeChanges(bench.engine, [
        put(utf8("same"), utf8(`${i}`)),
        put(utf8(`own ${i}`), utf8("")),
      ]),
    );
    await Promise.all(writes);
    expect(text(await bench.engine.get(utf8("same")))).toBe("49");
    expect(await readAll(bench.engine.iterate({}))).toHaveLength(51);
  });
}

function bufferTests(bench: Bench): void {
  it("write() takes its own copy of keys and values", async () => {
    const key = utf8("key");
    const value = utf8("value");
    await writeChanges(bench.engine, [put(key, value)]);
    key.fill(0xff);
    value.fill(0xff);
    expect(text(await bench.engine.get(utf8("key")))).toBe("value");
    expect(await readAll(bench.engine.iterate({}))).toHaveLength(1);
  });

  it("takes views into larger buffers", async () => {
    const whole = utf8("..key..value..");
    await writeChanges(bench.engine, [put(whole.subarray(2, 5), whole.subarray(7, 12))]);
    expect(text(await bench.engine.get(whole.subarray(2, 5)))).toBe("value");
  });

  it("leaves returned buffers as they are", async () => {
    await writeChanges(bench.engine, [
      put(utf8("a"), utf8("first")),
      put(utf8("b"), utf8("other")),
    ]);
    const one = await bench.engine.get(utf8("a"));
    const many = await bench.engine.getMany([utf8("a"), utf8("b")]);
    const iterator = bench.engine.iterate({});
    const rows = await iterator.next(1);
    await writeChanges(bench.engine, [put(utf8("a"), utf8("later")), del(utf8("b"))]);
    await bench.engine.getMany([utf8("a"), utf8("b")]);
    await iterator.next(1);
    await iterator.close();
    await bench.reopen();
    expect(text(one)).toBe("first");
    expect(many.map(text)).toEqual(["first", "other"]);
    expect(rows.map(({ key, value }) => [text(key), text(value)])).toEqual([["a", "first"]]);
  });

  it("reads the bounds of an iterator when it is made", async () => {
    await writeChanges(bench.engine, [put(utf8("b"), utf8("1")), put(utf8("c"), utf8("2"))]);
    const snapshot = bench.engine.snapshot();
    for (const reader of [bench.engine, snapshot]) {
      for (const reverse of [false, true]) {
        const start = utf8("b");
        const end = utf8("c");
        const iterator = reader.iterate({ start, end, reverse });
        start.fill(0xff);
        end.fill(0);
        expect(await readAll(iterator)).toEqual([{ key: "62", value: "31" }]);
      }
    }
    await snapshot.close();
  });
}
