/** Values that may be there already. */
import { describe, expect, it } from "vitest";
import { isPromise } from "./maybe-promise.ts";

describe("isPromise()", () => {
  it("tells a promise from a value, undefined included", () => {
    expect([Promise.resolve(1), 1, undefined, []].map((value) => isPromise(value))).toEqual([
      ...[true, false, false, false],
    ]);
    const derived = (async () => 1)().then((value) => value);
    expect(isPromise(derived)).toBe(true);
  });
});
