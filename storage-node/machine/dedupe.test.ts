/** The dedupe window: what it keeps, in which form, and for how long. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type MutationResult, MutationStatus, type WriteResult } from "#proto/codec/messages.ts";
import type { Revision } from "#shared/ids.ts";
import { bucketOf, DEDUPE_BUCKET_MS, DedupeWindow } from "./dedupe.ts";
import { requestId } from "./testing.ts";

const result = (applied: boolean, ...mutations: MutationResult[]): WriteResult => ({
  kind: "write",
  applied,
  mutations,
});

const one = (status: MutationStatus, revision: number, created = false): MutationResult => ({
  status,
  revision: revision as Revision,
  created,
});

const IDS_MAX = 30;

const anyResult = (): fc.Arbitrary<WriteResult> =>
  fc
    .array(
      fc.record({
        status: fc.constantFrom(...Object.values(MutationStatus)),
        revision: fc.oneof(fc.nat(100), fc.maxSafeNat()).map((revision) => revision as Revision),
        created: fc.boolean(),
      }),
      { minLength: 1, maxLength: 2 },
    )
    .map((mutations) => {
      const applied = mutations.every(({ status }) => status !== MutationStatus.ConditionFailed);
      return result(applied, ...mutations);
    });

const anySteps = () =>
  fc.array(
    fc.record({
      id: fc.integer({ min: 0, max: IDS_MAX }),
      stepMs: fc.constantFrom(0, 0, 0, 1_000, 5_000, 61_000),
      aheadMs: fc.integer({ min: 0, max: 60_000 }),
      recorded: anyResult(),
    }),
    { maxLength: 60 },
  );

describe("DedupeWindow", () => {
  it.each([
    ["a stored key", result(true, one(MutationStatus.Applied, 1, true))],
    ["a replaced key", result(true, one(MutationStatus.Applied, 2 ** 40))],
    [
      "the last revision that is packed",
      result(true, one(MutationStatus.Applied, 2 ** 49 - 1, true)),
    ],
    ["the first that is not", result(true, one(MutationStatus.Applied, 2 ** 49, true))],
    ["a failed condition", result(false, one(MutationStatus.ConditionFailed, 5))],
    ["a delete that found nothing", result(true, one(MutationStatus.NotFound, 0))],
    [
      "several mutations",
      result(false, one(MutationStatus.ConditionFailed, 5), one(MutationStatus.Skipped, 0)),
    ],
  ])("gives back the result of %s", (_, recorded) => {
    const window = new DedupeWindow();
    window.record(requestId(1), 1_000, recorded);
    expect(window.get(requestId(1))).toEqual(recorded);
    expect(window.get(requestId(2))).toBeUndefined();
  });

  it("keeps a record until log time is in a later bucket than its deadline", () => {
    const window = new DedupeWindow();
    const recorded = result(true, one(MutationStatus.Applied, 1));
    window.record(requestId(1), DEDUPE_BUCKET_MS, recorded);
    window.record(requestId(2), 2 * DEDUPE_BUCKET_MS - 1, recorded);
    window.record(requestId(3), 2 * DEDUPE_BUCKET_MS, recorded);
    window.advance(2 * DEDUPE_BUCKET_MS - 1);
    expect(window.size).toBe(3);
    window.advance(2 * DEDUPE_BUCKET_MS);
    expect([1, 2, 3].map((id) => window.get(requestId(id)) !== undefined)).toEqual([
      ...[false, false, true],
    ]);
  });

  it("finds a record under whichever deadline its copy comes", () => {
    // `get` is not told a deadline at all: every bucket that is alive is asked.
    const window = new DedupeWindow();
    const recorded = result(true, one(MutationStatus.Applied, 1));
    const several = result(true, one(MutationStatus.Applied, 2), one(MutationStatus.Applied, 3));
    for (let i = 0; i < 13; i++) {
      window.record(requestId(i), i * DEDUPE_BUCKET_MS, i % 2 === 0 ? recorded : several);
    }
    for (let i = 0; i < 13; i++) {
      expect(window.get(requestId(i))).toEqual(i % 2 === 0 ? recorded : several);
    }
  });

  it("keeps results of many mutations outside of the heap, each as it was", () => {
    const window = new DedupeWindow();
    const recorded = Array.from({ length: 200 }, (_, id) =>
      result(
        id % 3 > 0,
        ...Array.from({ length: 1 + (id % 40) }, (_unused, i) =>
          one(
            id % 3 > 0 ? MutationStatus.Applied : MutationStatus.ConditionFailed,
            id * 2 ** 40 + i,
          ),
        ),
      ),
    );
    for (const [id, each] of recorded.entries()) window.record(requestId(id), id * 300, each);
    for (const [id, each] of recorded.entries()) expect(window.get(requestId(id))).toEqual(each);
    window.advance(30_000);
    for (const [id, each] of recorded.entries()) {
      expect(window.get(requestId(id))).toEqual(id * 300 >= 30_000 ? each : undefined);
    }
  });

  it("tells apart buckets that fall on one place", () => {
    const window = new DedupeWindow();
    const several = (revision: number) =>
      result(
        true,
        one(MutationStatus.Applied, revision),
        one(MutationStatus.Applied, revision + 1),
      );
    for (let i = 0; i < 3; i++) {
      window.record(requestId(i), i * 4096 * DEDUPE_BUCKET_MS, several(10 * i));
    }
    for (let i = 0; i < 3; i++) expect(window.get(requestId(i))).toEqual(several(10 * i));
    window.advance(4096 * DEDUPE_BUCKET_MS);
    expect(window.get(requestId(0))).toBeUndefined();
    window.record(requestId(3), 8192 * DEDUPE_BUCKET_MS, several(70));
    for (const [id, revision] of [
      [1, 10],
      [2, 20],
      [3, 70],
    ] as const) {
      expect(window.get(requestId(id))).toEqual(several(revision));
    }
  });

  it("finds nothing under an id of another size", () => {
    const window = new DedupeWindow();
    window.record(new Uint8Array(16), 1_000, result(true, one(MutationStatus.Applied, 1)));
    for (const size of [0, 4, 15, 17]) expect(window.get(new Uint8Array(size))).toBeUndefined();
  });

  it("holds records of any log time", () => {
    const window = new DedupeWindow();
    const recorded = result(true, one(MutationStatus.Applied, 1));
    const farMs = Number.MAX_SAFE_INTEGER - 100_000;
    window.advance(farMs);
    window.record(requestId(1), farMs, recorded);
    expect(window.get(requestId(1))).toEqual(recorded);
    window.advance(farMs + DEDUPE_BUCKET_MS);
    expect(window.get(requestId(1))).toBeUndefined();
  });

  it("answers as a list that is searched from the beginning does, whatever comes", () => {
    fc.assert(
      fc.property(anySteps(), (steps) => {
        const window = new DedupeWindow();
        const model: { id: number; bucket: number; recorded: WriteResult }[] = [];
        let nowMs = 1_700_000_000_000;
        for (const { id, stepMs, aheadMs, recorded } of steps) {
          nowMs += stepMs;
          window.advance(nowMs);
          const alive = model.filter(({ bucket }) => bucket >= bucketOf(nowMs));
          expect(window.size).toBe(alive.length);
          for (let other = 0; other <= IDS_MAX; other++) {
            const known = alive.find((record) => record.id === other);
            expect(window.get(requestId(other))).toEqual(known?.recorded);
          }
          if (alive.some((record) => record.id === id)) continue;
          window.record(requestId(id), nowMs + aheadMs, recorded);
          model.push({ id, bucket: bucketOf(nowMs + aheadMs), recorded });
        }
      }),
      { numRuns: 100 },
    );
  });
});
