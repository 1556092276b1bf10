import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { busSubjects, clusterToken } from "./bus-subjects.ts";
import type { VshardId } from "./ids.ts";

describe("busSubjects()", () => {
  it("has a subject for each vshard, and one for heads", () => {
    const { heads, changesOf } = busSubjects("minikv-1a2b3c4d");
    expect(changesOf(0 as VshardId)).toBe("minikv.minikv-1a2b3c4d.changes.0");
    expect(changesOf(255 as VshardId)).toBe("minikv.minikv-1a2b3c4d.changes.255");
    expect(heads).toBe("minikv.minikv-1a2b3c4d.heads");
  });
});

describe("clusterToken()", () => {
  it.each([
    ["a.b", "a%2Eb"],
    ["a_b", "a_b"],
    ["*", "%2A"],
    [">", "%3E"],
    ["a b\n", "a%20b%0A"],
    ["é", "%C3%A9"],
    ["%", "%25"],
    ["", "%"],
  ])("of %j is %s", (id, token) => {
    expect(clusterToken(id)).toBe(token);
  });

  it("is one token of a subject, and another for another id", () => {
    const anyId = fc.string({ unit: "grapheme", maxLength: 12 });
    fc.assert(
      fc.property(anyId, anyId, (one, other) => {
        expect(clusterToken(one)).toMatch(/^[A-Za-z0-9_%-]+$/);
        expect(clusterToken(one) === clusterToken(other)).toBe(one === other);
      }),
    );
  });
});
