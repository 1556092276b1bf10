/**
 * Transcripts of small clusters, testdata/*.txt: every message, write and decision in words. Set
 * MINIKV_REWRITE=1 to write what really happens, and review the difference.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runScript } from "./testing/script.ts";

const folder = new URL("./testdata/", import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith(".txt"));

describe("scripted transcripts", () => {
  it("exist", () => {
    expect(names.length).toBeGreaterThanOrEqual(15);
  });

  for (const name of names) {
    it(`${name} happens as written`, () => {
      const file = new URL(name, folder);
      const expected = readFileSync(file, "utf8");
      const actual = runScript(expected);
      if (process.env.MINIKV_REWRITE === "1") writeFileSync(file, actual);
      else expect(actual).toBe(expected);
    });
  }
});
