/** Invariants that fail loudly. */
import { describe, expect, it } from "vitest";
import { AssertionError, assert, unreachable } from "./assert.ts";

describe("assert()", () => {
  it("throws an AssertionError with its message when the condition does not hold", () => {
    assert(true, "holds");
    expect(() => assert(false, "rows are sorted")).toThrow(new AssertionError("rows are sorted"));
  });
});

describe("unreachable()", () => {
  it("names the kind that nobody handled", () => {
    expect(() => unreachable({ kind: "new" } as never)).toThrow('unexpected {"kind":"new"}');
  });
});
