import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { resolveRange } from "./range.ts";

describe("resolveRange()", () => {
  it.each([
    ["bytes=0-0", { kind: "part", first: 0, last: 0 }],
    ["bytes=2-4", { kind: "part", first: 2, last: 4 }],
    ["bytes=2-", { kind: "part", first: 2, last: 9 }],
    ["bytes=-3", { kind: "part", first: 7, last: 9 }],
    ["bytes=-99", { kind: "part", first: 0, last: 9 }],
    ["bytes=5-99", { kind: "part", first: 5, last: 9 }],
    ["Bytes= 5-6 ", { kind: "part", first: 5, last: 6 }],
    ["bytes=10-", { kind: "unsatisfiable" }],
    ["bytes=10-12", { kind: "unsatisfiable" }],
    ["bytes=-0", { kind: "unsatisfiable" }],
    ["bytes=4-2", { kind: "whole" }],
    ["bytes=0-1,3-4", { kind: "whole" }],
    ["bytes=-", { kind: "whole" }],
    ["bytes=a-b", { kind: "whole" }],
    ["items=0-1", { kind: "whole" }],
    ["", { kind: "whole" }],
  ])("resolves %s on ten bytes", (header, expected) => {
    expect(resolveRange(header, 10)).toEqual(expected);
  });

  it("finds nothing to serve in an empty value", () => {
    for (const header of ["bytes=0-", "bytes=0-0", "bytes=-1"]) {
      expect(resolveRange(header, 0)).toEqual({ kind: "unsatisfiable" });
    }
  });

  it("never leaves the value, whatever the header", () => {
    const end = fc.oneof(fc.constant(""), fc.nat(30).map(String));
    fc.assert(
      fc.property(end, end, fc.nat(20), (first, last, size) => {
        const outcome = resolveRange(`bytes=${first}-${last}`, size);
        if (outcome.kind !== "part") return;
        expect(outcome.first).toBeGreaterThanOrEqual(0);
        expect(outcome.last).toBeGreaterThanOrEqual(outcome.first);
        expect(outcome.last).toBeLessThan(size);
      }),
    );
  });
});
