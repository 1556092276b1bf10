/** The checker against the definition, on random small histories, and its speed on long ones. */
import { describe, expect, it } from "vitest";
import { isLinearizableByBruteForce } from "./brute-force.ts";
import { checkKey, explain } from "./check.ts";
import { ABSENT } from "./operation.ts";
import { mutate, randomHistory } from "./random-history.ts";

const SMALL_HISTORIES = 4_000;
const MUTATIONS_OF_EACH = 4;

describe("checkKey()", () => {
  it("agrees with brute force on small histories, true and mutated", () => {
    const counts = { linearizable: 0, violation: 0, gaveUp: 0 };
    for (let seed = 1; seed <= SMALL_HISTORIES; seed++) {
      const truth = randomHistory({
        seed,
        operations: 3 + (seed % 5),
        overlap: 1 + (seed % 4),
        unknownPercent: seed % 3 === 0 ? 60 : 25,
      });
      expect([seed, explain(truth, checkKey(truth))]).toEqual([seed, "linearizable"]);
      let history = truth;
      for (let mutation = 1; mutation <= MUTATIONS_OF_EACH; mutation++) {
        history = mutate(history, seed * 100 + mutation);
        const verdict = checkKey(history);
        counts[verdict.kind]++;
        const expected = isLinearizableByBruteForce(history, ABSENT);
        const told = [seed, mutation, verdict.kind === "linearizable"];
        expect(told, explain(history, verdict)).toEqual([seed, mutation, expected]);
      }
    }
    // Otherwise agreement would say little.
    expect(counts.violation).toBeGreaterThan(SMALL_HISTORIES);
    expect(counts.linearizable).toBeGreaterThan(SMALL_HISTORIES / 4);
    expect(counts.gaveUp).toBe(0);
  });

  it.each([
    { operations: 20_000, overlap: 4, unknownPercent: 1 },
    { operations: 20_000, overlap: 24, unknownPercent: 5 },
    { operations: 4_000, overlap: 64, unknownPercent: 20 },
    { operations: 20_000, overlap: 16, unknownPercent: 80 },
  ])("judges long histories of one key with bounded effort: %j", (options) => {
    const { operations } = options;
    const history = randomHistory({ seed: 7, ...options });
    const verdict = checkKey(history);
    expect(explain(history, verdict)).toBe("linearizable");
    expect(verdict).toMatchObject({ kind: "linearizable" });
    if (verdict.kind !== "linearizable") return;
    expect(verdict.expansions).toBeLessThan(operations * 25);
  });

  it.each([1, 2, 3, 4, 5])("finds one lie among 2,000 operations, seed %i", (seed) => {
    const truth = randomHistory({ seed, operations: 2_000, overlap: 12, unknownPercent: 5 });
    const end = Math.max(...truth.map(({ returnedAt }) => returnedAt));
    const [old] = truth.filter(({ outcome }) => outcome.kind === "stored");
    if (old?.action.kind !== "put" || old.outcome.kind !== "stored") throw new Error("no put");
    const { value } = old.action;
    const { revision } = old.outcome;
    // After everything, a value that was overwritten long before.
    const stale = { kind: "found", value, revision } as const;
    const action = { kind: "get" } as const;
    const history = [...truth, { action, outcome: stale, calledAt: end + 1, returnedAt: end + 2 }];
    expect(checkKey(history)).toMatchObject({ kind: "violation", rule: "linearizable" });
  });
});
