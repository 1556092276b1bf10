/** Parts of watches that are tested best by themselves. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { DEFAULT_TENANT, type Revision, Space, type TenantId, type VshardId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { WatchEvent } from "./event.ts";
import { FilterIndex, matches } from "./filter-index.ts";
import { RecentEvents } from "./recent-events.ts";
import type { WatchFilter } from "./watches.ts";

const key = fc
  .array(fc.constantFrom(0, 97, 98, 255), { maxLength: 4 })
  .map((bytes) => Uint8Array.from(bytes));
const filter: fc.Arbitrary<WatchFilter> = fc.oneof(
  key.map((prefix): WatchFilter => ({ kind: "prefix", prefix })),
  key.map((one): WatchFilter => ({ kind: "key", key: one })),
);
const V = 0 as VshardId;
const tenant = fc.constantFrom(1, 2).map((id) => id as TenantId);

function eventOf(vshard: VshardId, revision: number, value = "", bytes = utf8("key")): WatchEvent {
  return new WatchEvent(vshard, {
    ...{ kind: ChangeKind.Put, tenant: DEFAULT_TENANT, space: Space.Kv, key: bytes },
    ...{ revision: revision as Revision, previousRevision: 0 as Revision },
    ...{ valueSizeBytes: value.length, expiresAtMs: 0, timeMs: 1_700_000_000_000 },
    ...{ transactionId: EMPTY_BYTES, traceContext: EMPTY_BYTES },
    value: { value: utf8(value), encoding: 0, contentType: "" },
  });
}

describe("FilterIndex", () => {
  it("finds what a look at each filter finds, as filters come and go", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ tenant, filter }), { maxLength: 20 }),
        fc.array(fc.nat({ max: 19 })),
        fc.array(fc.record({ tenant, key }), { minLength: 1 }),
        (queries, removed, changes) => {
          const index = new FilterIndex<{ query: (typeof queries)[number] }>(new SeededRandom(1));
          const groups = queries.map((query) => ({ query }));
          for (const group of groups) index.add(group);
          for (const place of removed) {
            const [group] = groups.splice(place, 1);
            if (group !== undefined) index.remove(group);
          }
          for (const change of changes) {
            const found: typeof groups = [];
            index.find(change.tenant, change.key, found);
            expect(new Set(found)).toEqual(
              new Set(groups.filter(({ query }) => matches(query, change))),
            );
            expect(found.length).toBe(new Set(found).size);
          }
        },
      ),
    );
  });
});

describe("FilterIndex under many lengths", () => {
  it("looks up prefixes that the key has, and next to none beside them", () => {
    const index = new FilterIndex<{ query: { tenant: TenantId; filter: WatchFilter } }>(
      new SeededRandom(1),
    );
    const prefixes = Array.from({ length: 1_024 }, (_, i) => utf8(`${"x".repeat(i)}y`));
    const groups = prefixes.map((prefix) => ({
      query: { tenant: DEFAULT_TENANT, filter: { kind: "prefix", prefix } as const },
    }));
    for (const group of groups) index.add(group);
    const found: typeof groups = [];
    index.find(DEFAULT_TENANT, utf8("z".repeat(1_024)), found);
    index.find(DEFAULT_TENANT, utf8("x".repeat(1_024)), found);
    expect(found).toEqual([]);
    expect(index.lookups).toBeLessThan(8);
    index.find(DEFAULT_TENANT, utf8(`xxyx${"x".repeat(1_000)}`), found);
    expect(found).toEqual([groups[2]]);
    for (const group of groups) index.remove(group);
    index.find(DEFAULT_TENANT, utf8("xxy"), found);
    expect(found.length).toBe(1);
  });
});

describe("RecentEvents", () => {
  it("keeps nothing of vshards that come and go, though its bytes never run out", () => {
    const recent = new RecentEvents(1_000_000);
    const other = 1 as VshardId;
    recent.reset(other, 0);
    for (let round = 0; round < 50; round++) {
      const event = eventOf(other, round + 1);
      event.settle();
      recent.add(event);
      recent.reset(V, 0);
      for (let i = 1; i <= 100; i++) {
        const passing = eventOf(V, i);
        passing.settle();
        recent.add(passing);
      }
    }
    recent.reset(V, 0);
    expect(recent.places).toBeLessThan(2_000);
    expect(recent.after(other, 0, 100)!.length).toBe(50);
  });

  it("has the newest of all vshards within its bytes, without a hole", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 2 }), { maxLength: 300 }), (vshards) => {
        const bytesMax = 20_000;
        const recent = new RecentEvents(bytesMax);
        const heads = [0, 0, 0];
        for (let v = 0; v < 3; v++) recent.reset(v as VshardId, 0);
        for (const v of vshards) {
          const event = eventOf(v as VshardId, ++heads[v]!, "v".repeat(v * 100));
          event.settle();
          recent.add(event);
          expect(recent.bytes).toBeLessThanOrEqual(bytesMax);
        }
        for (let v = 0; v < 3; v++) {
          const vshard = v as VshardId;
          const head = heads[v]!;
          expect(recent.after(vshard, head, 10)).toEqual([]);
          let oldest = head;
          while (oldest > 0 && recent.covers(vshard, oldest - 1)) oldest--;
          const events = recent.after(vshard, oldest, 1_000)!;
          const revisions = events.map(({ record }) => record.revision);
          expect(revisions).toEqual(
            Array.from({ length: head - oldest }, (_, i) => oldest + 1 + i),
          );
          if (oldest > 0) expect(recent.after(vshard, oldest - 1, 10)).toBeUndefined();
        }
      }),
    );
  });

  it("forgets a vshard that begins anew, and what it had counts no more", () => {
    const recent = new RecentEvents(10_000);
    const vshard = 1 as VshardId;
    recent.reset(vshard, 4);
    const event = eventOf(vshard, 5);
    event.settle();
    recent.add(event);
    recent.reset(vshard, 9);
    expect(recent.bytes).toBe(0);
    expect(recent.covers(vshard, 5)).toBe(false);
    expect(recent.after(vshard, 9, 10)).toEqual([]);
  });
});

describe("WatchEvent", () => {
  it("shows keys and values that are no text in base64", () => {
    const event = eventOf(0 as VshardId, 7, "", Uint8Array.of(0xff, 1));
    event.value = { value: Uint8Array.of(0xfe), contentType: "application/octet-stream" };
    expect(JSON.parse(event.json(true).toString())).toEqual({
      op: "put",
      key64: "_wE",
      revision: 7,
      value_base64: "/g==",
      content_type: "application/octet-stream",
      time: "2023-11-14T22:13:20.000Z",
    });
  });

  it("keeps a small text, and neither a large one nor the value", () => {
    for (const [size, isKept] of [
      [100, true],
      [20_000, false],
    ] as const) {
      const event = eventOf(0 as VshardId, 1, "x");
      event.value = { value: utf8("v".repeat(size)), contentType: "" };
      const text = event.json(true);
      event.settle();
      expect(event.value).toBeUndefined();
      expect(event.isReady(true)).toBe(isKept);
      expect(event.isReady(false)).toBe(true);
      if (isKept) expect(event.json(true)).toBe(text);
      expect(event.sizeBytes).toBeLessThan(1_000);
    }
  });
});
