import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runScenario, type Scenario } from "./testing/scenario.ts";

const anyScenario = (): fc.Arbitrary<Scenario> =>
  fc.record({
    seed: fc.nat(),
    nodes: fc.integer({ min: 1, max: 7 }),
    zones: fc.constantFrom(1, 1, 2, 3),
    replicationFactor: fc.constantFrom(1, 3, 3, 3, 5),
    movesAtOnceMax: fc.constantFrom(1, 2, 4, 16),
    vshards: fc.integer({ min: 1, max: 40 }),
    wild: fc.boolean(),
  });

describe("planner and reconcile, in a model of the cluster", () => {
  it("keep every group safe under disturbances, and bring the cluster to an even rest", () => {
    fc.assert(
      fc.property(anyScenario(), (scenario) => {
        expect(runScenario(scenario).restTicks).toBeGreaterThan(0);
      }),
      { numRuns: Number(process.env.MINIKV_MODEL_RUNS ?? 20), endOnFailure: true },
    );
  });
});
