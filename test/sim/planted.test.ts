/**
 * Planted bugs still fit the source they are planted in, and some of those that are found quickly are
 * found. The whole list is run by `npm run sim:planted`; its result stands in docs/simulation.md.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAst } from "vitest/node";
import { BUGS, MUTATIONS } from "./planted/bugs.ts";
import { bugOf, edited, type Mutation } from "./planted/mutation.ts";
import { ROOT, runMutation } from "./planted/runner.ts";

/** One of each simulator, of those that the first seeds find. */
const QUICK = [
  "2 vote leaves before it is on disk",
  "11 second change before the first is applied",
  "16 clients wait by index alone",
  "19 torn end is taken for damage",
  "26 batch is dropped while the transport pauses",
];

/** Files of the source as the mutation leaves them. */
function mutated({ edits }: Mutation): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const edit of edits) {
    const text = files.get(edit.file) ?? readFileSync(join(ROOT, edit.file), "utf8");
    files.set(edit.file, edited(text, edit));
  }
  return files;
}

describe("planted bugs", () => {
  it.each(MUTATIONS)("fits the source, which still parses: $name", (mutation) => {
    for (const text of mutated(mutation).values()) {
      expect(() => parseAst(text, { lang: "ts" })).not.toThrow();
    }
  });

  it("are at least one of every kind, under names of their own", () => {
    expect(new Set(MUTATIONS.map(bugOf))).toEqual(new Set(BUGS.keys()));
    expect(new Set(MUTATIONS.map(({ name }) => name)).size).toBe(MUTATIONS.length);
  });

  it("edited() refuses an edit that fits nowhere, or twice", () => {
    const edit = { file: "x.ts", find: "a", replace: "b" };
    expect(edited("cac", edit)).toBe("cbc");
    expect(() => edited("c", edit)).toThrow("found 0 times");
    expect(() => edited("aa", edit)).toThrow("found 2 times");
  });

  it.each(QUICK)("is found: %s", async (name) => {
    const mutation = MUTATIONS.find((each) => each.name === name)!;
    const { rule } = await runMutation(mutation, { seedsMax: 100, timeoutMs: 60_000 });
    expect(rule).toBeDefined();
  });
});
