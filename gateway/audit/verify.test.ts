import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CHAIN_START, chained, hashOf } from "./entry.ts";
import { ChainVerifier, type Verdict } from "./verify.ts";

function chain(count: number): string[] {
  const lines: string[] = [];
  let end = CHAIN_START;
  for (let n = 0; n < count; n++) {
    const next = chained({ time: "t", gateway: "g", event: "admin", status: 200 + n }, end);
    lines.push(next.line);
    end = next.end;
  }
  return lines;
}

function verify(lines: readonly string[], anchor?: string): Verdict {
  const verifier = new ChainVerifier({ flawsMax: 100, anchor });
  lines.forEach((line, at) => void verifier.add("audit.log", at + 1, line));
  return verifier.verdict();
}

const WHOLE = chain(10);

describe("ChainVerifier", () => {
  it("finds nothing in a whole chain, from its start or from anywhere", () => {
    expect(verify(WHOLE)).toMatchObject({
      ...{ flaws: [], lines: 10, firstSeq: 1, lastSeq: 10, fromStart: true },
      lastHash: hashOf(WHOLE[9]!),
    });
    expect(verify(WHOLE.slice(4))).toMatchObject({ flaws: [], firstSeq: 5, fromStart: false });
    expect(verify([])).toMatchObject({ flaws: [], lines: 0, lastHash: undefined });
  });

  it("finds a removed line, and says which", () => {
    const { flaws } = verify(WHOLE.toSpliced(3, 1));
    expect(flaws).toEqual([
      { file: "audit.log", line: 4, problem: "is number 5, and line 4 is missing before it" },
    ]);
  });

  it("finds a changed line at the one behind it", () => {
    const { flaws } = verify(WHOLE.with(3, WHOLE[3]!.replace("203", "204")));
    expect(flaws).toMatchObject([{ line: 5, problem: expect.stringContaining("was changed") }]);
  });

  it("finds lines that are moved, repeated or put in", () => {
    const swapped = WHOLE.with(3, WHOLE[4]!).with(4, WHOLE[3]!);
    expect(verify(swapped).flaws.map(({ line }) => line)).toEqual([4, 5, 6]);
    expect(verify(WHOLE.toSpliced(4, 0, WHOLE[3]!)).flaws).toMatchObject([
      { line: 5, problem: expect.stringContaining("repeated") },
    ]);
    const forged = chained(
      { time: "t", gateway: "g", event: "admin" },
      { seq: 4, hash: hashOf(WHOLE[3]!) },
    ).line;
    expect(verify(WHOLE.toSpliced(4, 0, forged)).flaws[0]).toMatchObject({ line: 6 });
    expect(verify(WHOLE.toSpliced(4, 0, "nonsense")).flaws[0]).toMatchObject({ line: 5 });
  });

  it("finds a line that is cut off", () => {
    const verifier = new ChainVerifier({ flawsMax: 1 });
    verifier.add("audit.log", 1, WHOLE[0]!);
    verifier.add("audit.log", 2, WHOLE[1]!.slice(0, 20), false);
    expect(verifier.verdict().flaws).toMatchObject([{ line: 2 }]);
  });

  it("sees with an anchor alone that the end was cut off, or all of it written anew", () => {
    const anchor = hashOf(WHOLE[9]!);
    expect(verify(WHOLE, anchor).anchoredSeq).toBe(10);
    expect(verify([...WHOLE, ...chain(12).slice(10)], anchor).anchoredSeq).toBe(10);
    const cut = verify(WHOLE.slice(0, 8), anchor);
    expect(cut).toMatchObject({ flaws: [], anchoredSeq: undefined });
    const anew = verify(
      chain(10).map((line) => line.replace('"g"', '"h"')),
      anchor,
    );
    expect(anew.anchoredSeq).toBeUndefined();
  });

  it("finds any change of any byte but in the last line, which an anchor finds", () => {
    const text = WHOLE.join("\n");
    const anchor = hashOf(WHOLE[9]!);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 1, max: 127 }), (at, change) => {
        const code = text.charCodeAt(at) ^ change;
        const changed = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
        const { flaws, anchoredSeq } = verify(changed.split("\n"), anchor);
        expect(flaws.length > 0 || anchoredSeq === undefined).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it("tells no more flaws than it was asked for", () => {
    const verifier = new ChainVerifier({ flawsMax: 2 });
    for (let n = 1; n <= 10; n++) verifier.add("x", n, "nonsense");
    expect(verifier.verdict().flaws).toHaveLength(2);
  });
});
