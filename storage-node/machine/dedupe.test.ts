/** The dedupe window: what it keeps, in which form, and for how long. */
import { describe, expect, it } from "vitest";
import { type MutationResult, MutationStatus, type WriteResult } from "#proto/codec/messages.ts";
import type { Revision } from "#shared/ids.ts";
import { DEDUPE_BUCKET_MS, DedupeWindow } from "./dedupe.ts";
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
});
