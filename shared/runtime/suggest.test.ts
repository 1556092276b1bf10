/** Suggestions for words that a person mistyped. */
import { describe, expect, it } from "vitest";
import { didYouMean, editDistance, nearestWord } from "./suggest.ts";

describe("editDistance()", () => {
  it.each([
    ["", "", 0],
    ["", "abc", 3],
    ["abc", "abc", 0],
    ["abc", "abd", 1],
    ["abc", "acb", 1],
    ["listen", "lisen", 1],
    ["kitten", "sitting", 3],
  ])("of %j and %j is %d, both ways", (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
    expect(editDistance(b, a)).toBe(distance);
  });
});

describe("nearestWord()", () => {
  const known = ["listen", "data-dir", "log-level"];
  it("finds a near word, whatever its case", () => {
    expect(nearestWord("LISTNE", known)).toBe("listen");
    expect(nearestWord("datadir", known)).toBe("data-dir");
  });
  it("returns undefined when no word is near", () => {
    expect(nearestWord("compression", known)).toBeUndefined();
    expect(nearestWord("x", ["ab"])).toBeUndefined();
  });
});

describe("didYouMean()", () => {
  it("is empty without a near word", () => {
    expect(didYouMean("zzzzzz", ["listen"])).toBe("");
    expect(didYouMean("lisen", ["listen"])).toBe("; did you mean listen?");
  });
});
