import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Roster } from "./roster.ts";

describe("a roster", () => {
  it("holds what was added and not taken off, also twice the same", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ item: fc.nat(20), off: fc.nat(40) })), (steps) => {
        const roster = new Roster<number>();
        const held: (number | undefined)[] = [];
        const removals: (() => void)[] = [];
        for (const { item, off } of steps) {
          removals.push(roster.add(item));
          held.push(item);
          removals[off]?.();
          if (off < held.length) held[off] = undefined;
          const expected = held.filter((one) => one !== undefined);
          expect(roster.values().toSorted()).toEqual(expected.toSorted());
          expect(roster.size).toBe(expected.length);
        }
      }),
    );
  });

  it("lets who walks through it take off what it finds", () => {
    const roster = new Roster<{ leave: () => void }>();
    for (let i = 0; i < 100; i++) {
      const item = { leave: () => {} };
      item.leave = roster.add(item);
    }
    for (const { leave } of roster.values()) leave();
    expect(roster.size).toBe(0);
  });
});
