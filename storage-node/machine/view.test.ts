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
  it("fetches needed keys in order, and hands each value to its row", () => {
    const { view } = setup();
    const [b, a] = [view.need(B), view.need(A)];
    expect(view.keys()).toEqual([B, A]);
    view.fill([utf8("1"), undefined]);
    expect([view.get(b), view.get(a)]).toEqual([utf8("1"), undefined]);
  });

  it("refuses to read or write a row before it was filled", () => {
    const { view } = setup();
    const row = view.need(A);
    expect(() => view.get(row)).toThrow("were filled");
    expect(() => view.put(row, utf8("1"))).toThrow("were filled");
    expect(() => view.delete(row)).toThrow("were filled");
  });

  it("refuses another number of values than of needed keys", () => {
    const { view } = setup();
    view.need(A);
    expect(() => view.fill([])).toThrow("one value per needed key");
  });

  it("reads what the round wrote, and writes each row once with its last value", () => {
    const { engine, batch, view } = setup();
    const [a, b] = [view.need(A), view.need(B)];
    view.fill([utf8("old"), utf8("old")]);
    view.put(a, utf8("1"));
    expect(view.get(a)).toEqual(utf8("1"));
    view.delete(a);
    expect(view.get(a)).toBeUndefined();
    view.put(a, utf8("2"));
    view.put(b, utf8("3"));
    view.delete(b);
    expect(batch.count).toBe(0);
    view.finish();
    expect(batch.count).toBe(2);
    atOnce(engine.write(batch));
    const found = atOnce(engine.getMany([A, B]));
    expect(found.map((value) => value && Buffer.from(value).toString())).toEqual(["2", undefined]);
  });

  it("writes no row that was only read", () => {
    const { batch, view } = setup();
    view.need(A);
    view.fill([utf8("old")]);
    view.finish();
    expect(batch.count).toBe(0);
  });

  it("asks for what is saved at the end of each round once", () => {
    const { batch, view } = setup();
    let saved = 0;
    const owner = {
      save(of: ApplyView) {
        of.putUnread(A, utf8(String(++saved)));
      },
    };
    view.saveAtFinish(owner);
    expect(() => view.reset()).toThrow("after its changes went to the batch");
    view.finish();
    view.reset();
    view.finish();
    expect([saved, batch.count]).toEqual([1, 1]);
  });

  it("starts empty after reset(), which refuses to drop changes", () => {
    const { view } = setup();
    const row = view.need(A);
    view.fill([undefined]);
    view.put(row, utf8("1"));
    expect(() => view.reset()).toThrow("after its changes went to the batch");
    view.finish();
    view.reset();
    expect(view.keys()).toEqual([]);
  });
});
