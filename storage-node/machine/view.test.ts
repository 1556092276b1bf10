/** The view of one round: what it fetches, reads and writes. */
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { atOnce } from "./testing.ts";
import { ApplyView } from "./view.ts";

const A = utf8("a");
const B = utf8("b");

function setup() {
  const engine = openMemory();
  const batch = engine.batch();
  return { engine, batch, view: new ApplyView(batch) };
}

describe("ApplyView", () => {
  it("fetches each needed key once, in order", () => {
    const { view } = setup();
    for (const key of [B, A, utf8("b")]) view.need(key);
    expect(view.keys()).toEqual([B, A]);
    view.fill([utf8("1"), undefined]);
    expect([view.get(utf8("b")), view.get(A)]).toEqual([utf8("1"), undefined]);
  });

  it("refuses to read a key that nobody needed, or before it was filled", () => {
    const { view } = setup();
    view.need(A);
    expect(() => view.get(A)).toThrow("needed and filled");
    view.fill([undefined]);
    expect(() => view.get(B)).toThrow("needed and filled");
  });

  it("refuses another number of values than of needed keys", () => {
    const { view } = setup();
    view.need(A);
    expect(() => view.fill([])).toThrow("one value per needed key");
  });

  it("reads what the round wrote, and writes each key once with its last value", () => {
    const { engine, batch, view } = setup();
    view.need(A);
    view.fill([utf8("old")]);
    view.put(A, utf8("1"));
    expect(view.get(A)).toEqual(utf8("1"));
    view.delete(A);
    expect(view.get(A)).toBeUndefined();
    view.put(A, utf8("2"));
    view.put(B, utf8("3"));
    view.put(B, utf8("4"));
    expect(batch.count).toBe(0);
    view.finish();
    expect(batch.count).toBe(2);
    atOnce(engine.write(batch));
    expect(atOnce(engine.getMany([A, B])).map((value) => Buffer.from(value!).toString())).toEqual([
      ...["2", "4"],
    ]);
  });

  it("starts empty after reset(), which refuses to drop changes", () => {
    const { view } = setup();
    view.put(A, utf8("1"));
    expect(() => view.reset()).toThrow("after its changes went to the batch");
    view.finish();
    view.reset();
    expect(view.keys()).toEqual([]);
    expect(() => view.get(A)).toThrow("needed and filled");
  });
});
