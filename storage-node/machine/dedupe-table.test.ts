/** The table of request ids against a plain map, with random ids and with ids made to collide. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { latin1, writeUint32 } from "#shared/bytes.ts";
import { DedupeTable, TABLE_BUCKET_MAX } from "./dedupe-table.ts";

function idOf(a: number, b: number, c: number, d: number): Uint8Array {
  const id = new Uint8Array(16);
  for (const [i, word] of [a, b, c, d].entries()) writeUint32(id, 4 * i, word);
  return id;
}

/** Different ids, all of whose words come to nothing when combined bit by bit: one first slot. */
const colliding = (number: number): Uint8Array => idOf(number, number, ~number, ~number);
/** Ids of a client that counts. */
const counted = (number: number): Uint8Array => idOf(7, 7, 7, number);

/** What the table promises, naively. */
class Model {
  readonly #ids = new Map<string, { value: number; bucket: number }>();
  #bucketMin = 0;

  get size(): number {
    return [...this.#ids.values()].filter(({ bucket }) => bucket >= this.#bucketMin).length;
  }

  get(id: Uint8Array): number | undefined {
    const found = this.#ids.get(latin1(id));
    return found !== undefined && found.bucket >= this.#bucketMin ? found.value : undefined;
  }

  add(id: Uint8Array, value: number, bucket: number): void {
    this.#ids.set(latin1(id), { value, bucket });
  }

  dropBefore(bucket: number): void {
    this.#bucketMin = bucket;
  }
}

type Step = {
  readonly kind: "add" | "drop";
  readonly numbers: readonly number[];
  readonly crafted: boolean;
  readonly ahead: number;
  readonly value: number;
};

const anySteps = (): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({
      kind: fc.constantFrom("add" as const, "add" as const, "add" as const, "drop" as const),
      // Few numbers, so that ids come again, alive and dead; up to 120 in one step, so that the
      // table grows and, with crafted ids, is crowded.
      numbers: fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { maxLength: 120 }),
      crafted: fc.boolean(),
      ahead: fc.integer({ min: 0, max: 3 }),
      value: fc.oneof(fc.nat(20), fc.maxSafeNat()),
    }),
    { maxLength: 12 },
  );

describe("DedupeTable", () => {
  it("answers as a plain map does, while it grows, is crowded and lets ids die", () => {
    fc.assert(
      fc.property(anySteps(), (steps) => {
        const table = new DedupeTable();
        const model = new Model();
        let now = 340_000_000;
        for (const { kind, numbers, crafted, ahead, value } of steps) {
          const make = crafted ? colliding : counted;
          if (kind === "drop") {
            now += ahead;
            for (const each of [table, model]) each.dropBefore(now);
          } else {
            for (const number of numbers) {
              const id = make(number);
              expect(table.get(id)).toBe(model.get(id));
              if (model.get(id) !== undefined) continue;
              for (const each of [table, model]) each.add(id, value, now + ahead);
            }
          }
          expect(table.size).toBe(model.size);
        }
        for (let number = 0; number <= 300; number++) {
          for (const id of [colliding(number), counted(number)]) {
            expect(table.get(id)).toBe(model.get(id));
          }
        }
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    ["that count", counted],
    ["that collide", colliding],
  ])("keeps thousands of ids %s apart", (_, make) => {
    const table = new DedupeTable();
    for (let number = 0; number < 3_000; number++) table.add(make(number), number, 1);
    expect(table.size).toBe(3_000);
    for (let number = 0; number < 3_000; number++) expect(table.get(make(number))).toBe(number);
    for (let number = 3_000; number < 4_000; number++) {
      expect(table.get(make(number))).toBeUndefined();
    }
    table.dropBefore(2);
    expect(table.size).toBe(0);
  });

  it("tells ids apart by each of their bytes", () => {
    const table = new DedupeTable();
    table.add(new Uint8Array(16), 1, 0);
    for (let at = 0; at < 16; at++) {
      const id = new Uint8Array(16);
      id[at] = 1;
      expect(table.get(id)).toBeUndefined();
    }
    expect(table.get(new Uint8Array(16))).toBe(1);
  });

  it("takes a dead id again, crowded or not, and counts it once", () => {
    const table = new DedupeTable();
    for (let number = 0; number < 200; number++) table.add(colliding(number), 1, 1);
    table.add(counted(1), 1, 2);
    table.dropBefore(2);
    for (let number = 0; number < 200; number++) {
      expect(table.get(colliding(number))).toBeUndefined();
      table.add(colliding(number), 2, 2);
      expect(table.get(colliding(number))).toBe(2);
    }
    expect(table.size).toBe(201);
  });

  it("refuses a living id, a dropped bucket, and ids of another size", () => {
    const table = new DedupeTable();
    table.add(counted(1), 1, TABLE_BUCKET_MAX);
    expect(() => table.add(counted(1), 1, TABLE_BUCKET_MAX)).toThrow("added once");
    expect(() => table.add(counted(2), 1, TABLE_BUCKET_MAX + 1)).toThrow("dead");
    table.dropBefore(5);
    expect(() => table.add(counted(2), 1, 4)).toThrow("dead");
    expect(() => table.add(new Uint8Array(15), 1, 5)).toThrow("one size");
  });

  it("does not grow when ids die as fast as they come", () => {
    const table = new DedupeTable();
    const slots = new Set<number>();
    for (let number = 0; number < 20_000; number++) {
      const bucket = Math.floor(number / 100);
      table.dropBefore(bucket);
      table.add(counted(number), number, bucket + 1);
      if (number > 1_000) slots.add(table.slotsCount);
    }
    // 100 to 200 live at any time, and fill three eighths of the table at most when it is made.
    expect(Math.max(...slots)).toBe(512);
    table.dropBefore(1_000);
    expect(table.slotsCount).toBe(0);
  });
});
