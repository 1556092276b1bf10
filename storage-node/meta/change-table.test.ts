import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ChangeReader, ChangeTable } from "./change-table.ts";

type Copy = { readonly reader: ChangeReader<string, number>; readonly seen: Map<string, number> };

function follow({ reader, seen }: Copy, entriesMax: number): void {
  for (let i = 0; i < entriesMax; i++) {
    const entry = reader.next();
    if (entry === undefined) return;
    if (entry.value === undefined) seen.delete(entry.key);
    else seen.set(entry.key, entry.value);
  }
}

const key = fc.constantFrom("a", "b", "c", "d", "e");
const step = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), key, value: fc.nat() }),
  fc.record({ kind: fc.constant("remove" as const), key }),
  fc.record({ kind: fc.constant("join" as const) }),
  fc.record({ kind: fc.constant("leave" as const) }),
  fc.record({ kind: fc.constant("read" as const), reader: fc.nat(), count: fc.nat(4) }),
  fc.record({ kind: fc.constant("tidy" as const) }),
);

describe("ChangeTable", () => {
  it("shows every reader the table as it is, whatever it did before and however slow it was", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const table = new ChangeTable<string, number>();
        const model = new Map<string, number>();
        const copies: Copy[] = [];
        for (const one of steps) {
          if (one.kind === "set") {
            table.set(one.key, one.value);
            model.set(one.key, one.value);
          } else if (one.kind === "remove") {
            table.remove(one.key);
            model.delete(one.key);
          } else if (one.kind === "join") copies.push({ reader: table.reader(), seen: new Map() });
          else if (one.kind === "leave") copies.shift()?.reader.close();
          else if (one.kind === "tidy") table.tidy();
          else if (copies.length > 0) follow(copies[one.reader % copies.length]!, one.count);
        }
        copies.push({ reader: table.reader(), seen: new Map() });
        for (const copy of copies) {
          follow(copy, Number.POSITIVE_INFINITY);
          expect(copy.seen).toEqual(model);
          expect(copy.reader.isAtEnd).toBe(true);
        }
        expect(new Map(table.entries())).toEqual(model);
        expect(table.size).toBe(model.size);
      }),
    );
  });

  it("keeps marks of removals only as long as a reader has yet to pass them", () => {
    const table = new ChangeTable<number, string>();
    const reader = table.reader();
    for (let i = 0; i < 100; i++) {
      table.set(i, "x");
      table.remove(i);
    }
    expect(table.removals).toBe(100);
    while (reader.next() !== undefined);
    table.tidy();
    expect(table.removals).toBe(1);
    reader.close();
    for (let i = 0; i < 100; i++) {
      table.set(i, "x");
      table.remove(i);
    }
    expect(table.removals).toBe(1);
  });

  it("gives a slow reader the newest value of what changed often, once", () => {
    const table = new ChangeTable<string, number>();
    const reader = table.reader();
    for (let i = 1; i <= 1_000; i++) table.set("a", i);
    expect(reader.next()).toMatchObject({ key: "a", value: 1_000 });
    expect(reader.next()).toBeUndefined();
  });
});
