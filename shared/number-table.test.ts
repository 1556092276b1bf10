import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NumberTable } from "./number-table.ts";

type Step = { readonly op: "set" | "delete" | "get"; readonly key: number };

// Few keys, so that deletions meet them; close together and far apart, so that places collide.
const key = fc.oneof(
  fc.integer({ min: 0, max: 40 }),
  fc.integer({ min: 0, max: 8 }).map((n) => n * 2 ** 40),
  fc.constantFrom(Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, -1, 2 ** 31, 2 ** 32),
);
const steps = fc.array(
  fc.record({ op: fc.constantFrom("set", "set", "delete", "get"), key }) as fc.Arbitrary<Step>,
  { maxLength: 400 },
);

describe("NumberTable", () => {
  it("does as a Map does", () => {
    fc.assert(
      fc.property(steps, (all) => {
        const table = new NumberTable<{ readonly at: number }>();
        const model = new Map<number, { readonly at: number }>();
        for (const [at, step] of all.entries()) {
          if (step.op === "get") expect(table.get(step.key)).toBe(model.get(step.key));
          else if (step.op === "delete") {
            expect(table.delete(step.key)).toBe(model.delete(step.key));
          } else {
            const value = { at };
            table.set(step.key, value);
            model.set(step.key, value);
          }
          expect(table.size).toBe(model.size);
        }
        for (const [known, value] of model) expect(table.get(known)).toBe(value);
        const inOrder = (values: Iterable<{ readonly at: number }>) =>
          [...values].sort((a, b) => a.at - b.at);
        expect(inOrder(table.values())).toEqual(inOrder(model.values()));
      }),
    );
  });

  it("lets go of what was deleted, and of nothing else, through a window of keys that moves on", () => {
    const table = new NumberTable<number>();
    for (let i = 0; i < 100_000; i++) {
      table.set(i, i);
      if (i >= 64) expect(table.delete(i - 64)).toBe(true);
    }
    expect(table.size).toBe(64);
    expect(table.values().sort((a, b) => a - b)).toEqual(
      Array.from({ length: 64 }, (_, i) => 100_000 - 64 + i),
    );
  });

  it("values() is not disturbed by deletions under way", () => {
    const table = new NumberTable<number>();
    for (let i = 0; i < 100; i++) table.set(i, i);
    for (const value of table.values()) expect(table.delete(value)).toBe(true);
    expect(table.size).toBe(0);
  });

  it("takes whole numbers only", () => {
    const table = new NumberTable<number>();
    expect(() => table.set(0.5, 1)).toThrow();
    expect(() => table.set(Number.NaN, 1)).toThrow();
    expect(table.get(0.5)).toBeUndefined();
    expect(table.delete(Number.NaN)).toBe(false);
  });
});
