/** The view of one round: what it fetches, reads and writes. */
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import type { Revision } from "#shared/ids.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { decodeDataRowHead, encodeDataRow, type StoredHead } from "./data-row.ts";
import { RowHeads } from "./row-heads.ts";
import { atOnce } from "./testing.ts";
import { ApplyView, type ViewRow } from "./view.ts";

const A = utf8("a");
const B = utf8("b");
const OWNER = 1;

/** A row whose revision says which one it is. */
function row(revision: number): { readonly bytes: Uint8Array; readonly head: StoredHead } {
  const head = { revision: revision as Revision, expiresAtMs: 0, valueSizeBytes: 3 };
  const rest = { modifiedAtMs: 1, contentType: "text/plain", value: utf8("abc") };
  const plain = { encoding: 0, logicalSizeBytes: 3 };
  return { bytes: encodeDataRow({ ...head, ...rest, ...plain }), head };
}

const put = (view: ApplyView, at: ViewRow, { bytes, head }: ReturnType<typeof row>): void =>
  view.put(at, bytes, head);

function setup() {
  const engine = openMemory();
  const batch = engine.batch();
  return { engine, batch, view: new ApplyView(batch) };
}

describe("ApplyView", () => {
  it("fetches needed keys in order, and hands each value to its row", () => {
    const { view } = setup();
    const [b, a] = [view.need(OWNER, B), view.need(OWNER, A)];
    expect(view.keys()).toEqual([B, A]);
    view.fill([row(1).bytes, undefined]);
    expect(view.get(b)).toMatchObject(row(1).head);
    expect(view.get(a)).toBeUndefined();
  });

  it("refuses to read or write a row before it was filled", () => {
    const { view } = setup();
    const needed = view.need(OWNER, A);
    expect(() => view.get(needed)).toThrow("were filled");
    expect(() => put(view, needed, row(1))).toThrow("were filled");
    expect(() => view.delete(needed)).toThrow("were filled");
  });

  it("refuses another number of values than of needed keys", () => {
    const { view } = setup();
    view.need(OWNER, A);
    expect(() => view.fill([])).toThrow("one value per needed key");
  });

  it("reads what the round wrote, and writes each row once with its last value", () => {
    const { engine, batch, view } = setup();
    const [a, b] = [view.need(OWNER, A), view.need(OWNER, B)];
    view.fill([row(1).bytes, row(1).bytes]);
    put(view, a, row(2));
    expect(view.get(a)).toEqual(row(2).head);
    view.delete(a);
    expect(view.get(a)).toBeUndefined();
    put(view, a, row(3));
    put(view, b, row(4));
    view.delete(b);
    expect(batch.count).toBe(0);
    view.finish();
    expect(batch.count).toBe(2);
    atOnce(engine.write(batch));
    const found = atOnce(engine.getMany([A, B]));
    expect(found.map((value) => value && decodeDataRowHead(value).revision)).toEqual([
      3,
      undefined,
    ]);
  });

  it("does not fetch what an earlier round of the same machine has written or deleted", () => {
    const batch = openMemory().batch();
    const view = new ApplyView(batch, new RowHeads());
    const [a, b] = [view.need(OWNER, A), view.need(OWNER, B)];
    view.fill([undefined, row(1).bytes]);
    put(view, a, row(2));
    view.delete(b);
    view.finish();
    view.reset();
    expect(view.get(view.need(OWNER, A))).toEqual(row(2).head);
    expect(view.get(view.need(OWNER, B))).toBeUndefined();
    expect(view.keys()).toEqual([]);
    view.need(OWNER + 1, A);
    expect(view.keys()).toEqual([A]);
  });

  it("writes no row that was only read", () => {
    const { batch, view } = setup();
    view.need(OWNER, A);
    view.fill([row(1).bytes]);
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
    const needed = view.need(OWNER, A);
    view.fill([undefined]);
    put(view, needed, row(1));
    expect(() => view.reset()).toThrow("after its changes went to the batch");
    view.finish();
    view.reset();
    expect(view.keys()).toEqual([]);
  });
});
