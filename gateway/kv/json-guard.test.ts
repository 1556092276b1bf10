import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { exceededLimit } from "./json-guard.ts";

/** Depth and number of members and elements, with colons counted beside commas, as the guard does. */
function measure(value: unknown): { depth: number; elements: number } {
  if (typeof value !== "object" || value === null) return { depth: 0, elements: 0 };
  const isList = Array.isArray(value);
  const inner = Object.values(value).map(measure);
  const separators = Math.max(0, inner.length - 1) + (isList ? 0 : inner.length);
  return {
    depth: 1 + Math.max(0, ...inner.map(({ depth }) => depth)),
    elements: inner.reduce((sum, { elements }) => sum + elements, 1 + separators),
  };
}

describe("exceededLimit()", () => {
  it("measures any JSON, whatever its strings hold", () => {
    const anyText = fc.string({ unit: fc.constantFrom(...'\\"[]{},: é'.split("")), maxLength: 8 });
    const anyJson = fc.jsonValue({ stringUnit: "binary-ascii", maxDepth: 5 });
    const anyValue = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        anyText,
        anyJson,
        fc.array(tie("value"), { maxLength: 4 }),
        fc.dictionary(anyText, tie("value"), { maxKeys: 4 }),
      ),
    })).value;
    fc.assert(
      fc.property(anyValue, fc.constantFrom(undefined, 1), (value, indent) => {
        const body = Buffer.from(JSON.stringify(value, undefined, indent));
        const { depth, elements } = measure(JSON.parse(body.toString()));
        const exact = { depthMax: depth, elementsMax: elements };
        expect(exceededLimit(body, exact)).toBeUndefined();
        if (elements === 0) return;
        const flatter = exceededLimit(body, { ...exact, depthMax: depth - 1 });
        expect(flatter).toBe("depthMax");
        expect(exceededLimit(body, { ...exact, elementsMax: elements - 1 })).toBe("elementsMax");
      }),
      { numRuns: 500 },
    );
  });

  it.each(['"', '"\\', '"\\"', '["\\\\', "]]]", ""])("bears what is cut or no JSON: %s", (text) => {
    const limits = { depthMax: 1, elementsMax: 1 };
    expect(exceededLimit(Buffer.from(text), limits)).toBeUndefined();
  });

  it("looks at each byte a few times at most", () => {
    // A quadratic search would not come to its end here.
    for (const text of [
      '\\"'.repeat(4_000_000),
      `"${"\\".repeat(8_000_000)}`,
      '"'.repeat(8_000_000),
    ]) {
      const limits = { depthMax: 1, elementsMax: 1 };
      expect(exceededLimit(Buffer.from(`"${text}`), limits)).toBeUndefined();
    }
  });
});
