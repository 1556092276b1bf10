/** Against a map that forgets nothing: what is found is right, and what was lost is unknown. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { latin1, utf8 } from "#shared/bytes.ts";
import type { Revision } from "#shared/ids.ts";
import {
  ROW_HEADS_KEPT_MAX,
  ROW_HEADS_KEPT_MIN,
  ROW_HEADS_KEY_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import type { StoredHead } from "./data-row.ts";
import { RowHeads, rowHash } from "./row-heads.ts";

const head = (revision: number, valueSizeBytes = 1): StoredHead => ({
  revision: revision as Revision,
  expiresAtMs: 0,
  valueSizeBytes,
});

function keep(heads: RowHeads, key: string, kept: StoredHead): void {
  heads.keep(1, utf8(key), rowHash(utf8(key)), kept);
}

const find = (heads: RowHeads, key: string) => heads.find(1, utf8(key), rowHash(utf8(key)));

describe("RowHeads", () => {
  it("tells what was kept last, of keys of any bytes and owners with the same keys", () => {
    const anyKey = fc.uint8Array({ maxLength: ROW_HEADS_KEY_SIZE_BYTES_MAX + 2 });
    const anyHead = fc.record({
      revision: fc.maxSafeNat().map((value) => value as Revision),
      expiresAtMs: fc.maxSafeNat(),
      valueSizeBytes: fc.nat({ max: 2 ** 31 - 1 }),
    });
    const anyStep = fc.record({
      owner: fc.integer({ min: 1, max: 3 }),
      key: anyKey,
      head: fc.option(anyHead, { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
        const heads = new RowHeads();
        const known = new Map<string, StoredHead | undefined>();
        const nameOf = (owner: number, key: Uint8Array) => `${owner} ${latin1(key)}`;
        for (const step of steps) {
          heads.keep(step.owner, step.key, rowHash(step.key), step.head);
          known.set(nameOf(step.owner, step.key), step.head);
        }
        for (const { owner, key } of steps) {
          const found = heads.find(owner, key, rowHash(key));
          if (key.length > ROW_HEADS_KEY_SIZE_BYTES_MAX) expect(found).toBe("unknown");
          else if (found !== "unknown") expect(found).toEqual(known.get(nameOf(owner, key)));
        }
        const any = steps[0]?.key ?? utf8("a");
        expect(heads.find(4, any, rowHash(any))).toBe("unknown");
      }),
    );
  });

  it("never tells of another key, however many have given way", () => {
    const heads = new RowHeads();
    const count = 3 * ROW_HEADS_KEPT_MAX;
    for (let i = 0; i < count; i++) keep(heads, `key ${i}`, head(i));
    let found = 0;
    for (let i = 0; i < count; i++) {
      const kept = find(heads, `key ${i}`);
      if (kept === "unknown") continue;
      found++;
      if (kept?.revision !== i) expect(kept).toEqual(head(i));
    }
    // Two ways fill up unevenly, but not so unevenly that less than half would be of use.
    expect(found).toBeGreaterThan(ROW_HEADS_KEPT_MAX / 2);
    expect(found).toBeLessThanOrEqual(ROW_HEADS_KEPT_MAX);
  });

  it("grows with what it is used for, until nearly all of it is kept", () => {
    const heads = new RowHeads();
    const count = 4 * ROW_HEADS_KEPT_MIN;
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < count; i++) keep(heads, `key ${i}`, head(round));
    }
    let found = 0;
    for (let i = 0; i < count; i++) if (find(heads, `key ${i}`) !== "unknown") found++;
    expect(found).toBeGreaterThan(0.8 * count);
  });
});
