import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeNode } from "#storage-node/meta/testing/fixtures.ts";
import { viewNodesOfMap } from "./nodes.ts";
import { bestSpreadCost, exchangeCost, spreadCost } from "./spread.ts";

const anyNodes = () =>
  fc
    .array(fc.tuple(fc.constantFrom("", "a", "b", "c"), fc.constantFrom("", "h", "i")), {
      minLength: 1,
      maxLength: 7,
    })
    .map((domains) => domains.map(([zone, host], i) => makeNode(i + 1, { zone, host })))
    .map((nodes) => viewNodesOfMap(nodes).list);

/** All sets of `size` of `count` nodes. */
function* sets(count: number, size: number, from = 0): Generator<readonly number[]> {
  if (size === 0) yield [];
  for (let first = from; first < count && size > 0; first++) {
    for (const rest of sets(count, size - 1, first + 1)) yield [first, ...rest];
  }
}

describe("spreadCost()", () => {
  it("counts pairs: zones first, then hosts, and a host without a name is its own", () => {
    const nodes = ["a/h", "a/h", "a/", "a/", "b/h"].map((text, i) => {
      const [zone, host] = text.split("/") as [string, string];
      return makeNode(i + 1, { zone, host });
    });
    const { list } = viewNodesOfMap(nodes);
    expect(spreadCost(list, [0, 4])).toBe(0);
    expect(spreadCost(list, [2, 3])).toBe(1024);
    expect(spreadCost(list, [0, 1])).toBe(1025);
    expect(spreadCost(list, [0, 1, 2, 4])).toBe(3 * 1024 + 1);
  });

  it("has no local minimum: what no exchange improves is as good as anything", () => {
    fc.assert(
      fc.property(anyNodes(), fc.integer({ min: 1, max: 5 }), (nodes, wanted) => {
        const size = Math.min(wanted, nodes.length);
        const all = nodes.map(({ index }) => index);
        const costs = [...sets(nodes.length, size)].map((set) => spreadCost(nodes, set));
        const best = Math.min(...costs);
        expect(bestSpreadCost(nodes, all, size)).toBe(best);
        for (const set of sets(nodes.length, size)) {
          const cost = spreadCost(nodes, set);
          const others = all.filter((node) => !set.includes(node));
          const improves = set.some((from) =>
            others.some((to) => exchangeCost(nodes, set, from, to) < 0),
          );
          expect(improves).toBe(cost > best);
        }
      }),
    );
  });

  it("exchangeCost() is the difference", () => {
    fc.assert(
      fc.property(anyNodes(), fc.nat({ max: 6 }), fc.nat({ max: 6 }), (nodes, a, b) => {
        const from = a % nodes.length;
        const to = b % nodes.length;
        const set = nodes.map(({ index }) => index).filter((node) => node !== to || node === from);
        fc.pre(from !== to);
        const after = set.map((node) => (node === from ? to : node));
        expect(exchangeCost(nodes, set, from, to)).toBe(
          spreadCost(nodes, after) - spreadCost(nodes, set),
        );
      }),
    );
  });
});
