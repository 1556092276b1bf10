/** A short run of each parser, and again what once broke one. `npm run fuzz` is the long run. */
import { describe, expect, it } from "vitest";
import { runSlice } from "./run.ts";
import { storedCases } from "./stored.ts";
import { Broken } from "./target.ts";
import { WIRE_TARGETS } from "./targets/wire.ts";
import { TARGETS } from "./targets.ts";

const CASES = 200;
/** Codecs have no other test of bytes that nobody wrote, and a case costs them little. */
const CODEC_CASES = 2_000;
const SEED = 20_261_126;

describe("parsers of outside bytes", () => {
  it.each(TARGETS)("$name: refuse as documented, or accept what comes back", async (target) => {
    const cases = WIRE_TARGETS.includes(target) ? CODEC_CASES : CASES;
    const { found, outcomes } = await runSlice(target, SEED, cases);
    expect(found).toBeUndefined();
    // Else the parser was not reached.
    expect(outcomes.accepted).toBeGreaterThan(0);
    expect(outcomes.refused + Number(target.name === "range")).toBeGreaterThan(0);
  });

  it.each(storedCases())("$file holds", async ({ target: name, input }) => {
    const target = TARGETS.find((one) => one.name === name)!;
    await target.check(input);
  });
});

describe("a broken parser", () => {
  it("is found, with the smallest input that shows it", async () => {
    const target = {
      name: "planted",
      samples: () => [Buffer.from("hello world")],
      check: (input: Uint8Array) => {
        if (input.includes(0xff)) throw new Broken("0xff");
        return true;
      },
    };
    const { found } = await runSlice(target, 1, 10_000);
    expect(found).toMatchObject({ reason: "0xff", input: Uint8Array.of(0xff), seed: 1 });
  });

  it("has names that are told apart", () => {
    expect(new Set(TARGETS.map(({ name }) => name)).size).toBe(TARGETS.length);
  });
});
