import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { shortestChain } from "./chain.ts";

const sumOfSquares = (counts: readonly number[]): number =>
  counts.reduce((sum, count) => sum + count * count, 0);

/** Things, each with the nodes that it may be on; it begins on the first. */
const anyThings = (nodes: number) =>
  fc.array(fc.uniqueArray(fc.nat({ max: nodes - 1 }), { minLength: 1, maxLength: 3 }), {
    maxLength: 7,
  });

function bestPossible(things: readonly (readonly number[])[], counts: number[]): number {
  const [first, ...rest] = things;
  if (first === undefined) return sumOfSquares(counts);
  let best = Number.POSITIVE_INFINITY;
  for (const node of first) {
    counts[node]!++;
    best = Math.min(best, bestPossible(rest, counts));
    counts[node]!--;
  }
  return best;
}

describe("shortestChain()", () => {
  it("leads to the most even distribution that there is", () => {
    const nodes = 5;
    fc.assert(
      fc.property(anyThings(nodes), (things) => {
        const all = [...Array(nodes).keys()];
        const places = things.map(([first]) => first!);
        const counts = all.map((node) => places.filter((place) => place === node).length);
        for (let moves = 0; ; moves++) {
          const canMove = (from: number, to: number) =>
            things.some((may, thing) => places[thing] === from && may.includes(to));
          const chain = shortestChain({ counts, givers: all, takers: all, canMove });
          if (chain === undefined) break;
          expect(moves).toBeLessThan(100);
          for (let i = chain.length - 1; i > 0; i--) {
            const [from, to] = [chain[i - 1]!, chain[i]!];
            const thing = things.findIndex((may, at) => places[at] === from && may.includes(to));
            places[thing] = to;
            counts[from]!--;
            counts[to]!++;
          }
        }
        expect(sumOfSquares(counts)).toBe(bestPossible(things, Array(nodes).fill(0)));
      }),
      { numRuns: 300 },
    );
  });

  it("prefers the direct way, from the highest to the lowest", () => {
    const question = { counts: [3, 5, 2, 0], givers: [0, 1, 2, 3], takers: [0, 1, 2, 3] };
    expect(shortestChain({ ...question, canMove: () => true })).toEqual([1, 3]);
    const notDirect = (from: number, to: number) => to !== 3 || from === 2;
    expect(shortestChain({ ...question, canMove: notDirect })).toEqual([1, 2]);
    expect(shortestChain({ ...question, counts: [1, 1, 0, 0], canMove: () => true })).toBe(
      undefined,
    );
  });

  it("goes only over nodes that may give and take", () => {
    const counts = [2, 1, 0];
    const canMove = (from: number, to: number) => to === from + 1;
    expect(shortestChain({ counts, givers: [0, 1], takers: [1, 2], canMove })).toEqual([0, 1, 2]);
    expect(shortestChain({ counts, givers: [0], takers: [1, 2], canMove })).toBe(undefined);
    expect(shortestChain({ counts, givers: [0, 1], takers: [2], canMove })).toBe(undefined);
  });
});
