/** The rows of one group in one round: each key once, and handed out in the order of the log. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Mutation } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { RoundReads } from "./round-reads.ts";
import { mutation, put } from "./testing.ts";
import { ApplyView } from "./view.ts";

const setup = () => ({ reads: new RoundReads(1), view: new ApplyView(openMemory().batch()) });
const put1 = (key: string): Mutation => mutation(key, put("1"));

describe("RoundReads", () => {
  it("needs each key once, and gives all mutations of a key the same row", () => {
    // Up to 30 different keys, so that both ways of finding a repetition are taken.
    const anyKeys = fc.array(fc.integer({ min: 0, max: 29 }).map(String), { maxLength: 80 });
    fc.assert(
      fc.property(anyKeys, anyKeys, (first, second) => {
        const { reads, view } = setup();
        for (const keys of [first, second]) {
          const mutations = keys.map(put1);
          for (const one of mutations) reads.collect(one, new Uint8Array(one.key), view);
          expect(view.keys()).toEqual([...new Set(keys)].map(utf8));
          for (const one of mutations) {
            expect(reads.rowAt(reads.take(1), one).key).toEqual(one.key);
          }
          reads.entryEnds();
          view.reset();
        }
      }),
      { numRuns: 200 },
    );
  });

  it("finds a repetition beyond those that are compared one by one", () => {
    const { reads, view } = setup();
    const mutations = [...Array(20).keys(), ...Array(20).keys()].map((n) => put1(`key ${n}`));
    for (const one of mutations) reads.collect(one, new Uint8Array(one.key), view);
    expect(view.keys()).toHaveLength(20);
    const first = reads.take(40);
    for (let i = 0; i < 20; i++) {
      const row = reads.rowAt(first + i, mutations[i]!);
      expect(reads.rowAt(first + 20 + i, mutations[20 + i]!)).toBe(row);
    }
  });

  it("passes over mutations that are not carried out", () => {
    const { reads, view } = setup();
    const [refused, carried] = [put1("a"), put1("b")];
    reads.collectNothing(refused);
    reads.collect(carried, carried.key, view);
    const first = reads.take(1);
    expect(() => reads.rowAt(first, refused)).toThrow("that were needed");
    expect(reads.rowAt(reads.take(1), carried).key).toEqual(carried.key);
  });

  it("refuses a mutation other than the one that was collected, and more than were", () => {
    const { reads, view } = setup();
    const collected = put1("a");
    reads.collect(collected, collected.key, view);
    expect(() => reads.rowAt(reads.take(1), put1("a"))).toThrow("in the order of their reads");
    expect(() => reads.rowAt(reads.take(1), collected)).toThrow("in the order of their reads");
    expect(() => reads.entryEnds()).toThrow("no more");
  });

  it("forgets a round only when its last entry ends", () => {
    const { reads, view } = setup();
    const [one, two] = [put1("a"), put1("b")];
    for (const each of [one, two]) reads.collect(each, each.key, view);
    reads.rowAt(reads.take(1), one);
    reads.entryEnds();
    expect(reads.rowAt(reads.take(1), two).key).toEqual(two.key);
    reads.entryEnds();
    expect(reads.take(0)).toBe(0);
    expect(() => reads.rowAt(0, one)).toThrow("in the order of their reads");
  });
});
