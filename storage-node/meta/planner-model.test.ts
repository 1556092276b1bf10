import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NodeState } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import { drainProgress } from "./planner.ts";
import { MiB, makeNode, replicaCounts } from "./testing/fixtures.ts";
import { LOST_TICKS, type Model } from "./testing/model.ts";
import { makeModel, rest, runScenario, type Scenario } from "./testing/scenario.ts";

const anyScenario = (): fc.Arbitrary<Scenario> =>
  fc.record({
    seed: fc.nat(),
    nodes: fc.integer({ min: 1, max: 7 }),
    zones: fc.constantFrom(1, 1, 2, 3),
    replicationFactor: fc.constantFrom(1, 3, 3, 3, 5),
    movesAtOnceMax: fc.constantFrom(1, 2, 4, 16),
    vshards: fc.integer({ min: 1, max: 30 }),
    wild: fc.boolean(),
  });

/** A cluster without zones in which nothing is wrong. */
const anyPeace = (): fc.Arbitrary<Scenario> =>
  fc.record({
    seed: fc.nat(),
    nodes: fc.integer({ min: 3, max: 6 }),
    zones: fc.constant(1),
    replicationFactor: fc.constantFrom(1, 3),
    movesAtOnceMax: fc.constantFrom(2, 4, 16),
    vshards: fc.integer({ min: 16, max: 40 }),
    wild: fc.constant(false),
  });

const runs = (count: number) => ({ numRuns: count, endOnFailure: true });
const node = (id: number) => id as NodeId;

function setSizes(model: Model, sizeBytes: () => number): void {
  for (const group of model.groups.values()) group.sizeBytes = sizeBytes();
}

function run(model: Model, ticks: number): void {
  for (let tick = 0; tick < ticks; tick++) {
    model.tick();
    model.plan();
  }
}

describe("planner and reconcile, in a model of the cluster", () => {
  it("keep every group safe under disturbances, and bring the cluster to an even rest", () => {
    fc.assert(
      fc.property(anyScenario(), (scenario) => {
        expect(runScenario(scenario).restTicks).toBeGreaterThan(0);
      }),
      runs(15),
    );
  });

  it("give a node that joins its share, with no more moves than that takes", () => {
    fc.assert(
      fc.property(anyPeace(), fc.boolean(), (scenario, alike) => {
        const model = makeModel(scenario);
        setSizes(model, () => (alike ? 100 : model.random.below(400)) * MiB);
        rest(model);
        const before = model.added;
        model.join(makeNode(scenario.nodes + 1));
        rest(model);
        const share = replicaCounts(model.map).get(scenario.nodes + 1)!;
        const { vshards, replicationFactor, nodes } = scenario;
        const ideal = (vshards * replicationFactor) / (nodes + 1);
        expect(Math.abs(share - ideal)).toBeLessThan(1);
        // Vshards of different sizes may have to be exchanged afterwards.
        const exchanged = alike ? 0 : Math.max(6, share / 5);
        expect(model.added - before).toBeLessThanOrEqual(share + exchanged);
      }),
      runs(6),
    );
  });

  it("empty a node that drains, and fill it again when the drain is cancelled half way", () => {
    fc.assert(
      fc.property(anyPeace(), fc.integer({ min: 5, max: 60 }), (scenario, ticks) => {
        const model = makeModel({ ...scenario, nodes: scenario.nodes + 1 });
        rest(model);
        const even = [...replicaCounts(model.map).values()].toSorted();
        model.setState(node(1), NodeState.Draining);
        run(model, ticks);
        model.setState(node(1), NodeState.Up);
        rest(model);
        expect([...replicaCounts(model.map).values()].toSorted()).toEqual(even);
        model.setState(node(1), NodeState.Draining);
        rest(model);
        expect(drainProgress(model.map, node(1))).toEqual({ leaders: 0, replicas: 0 });
        expect(model.remove(node(1))).toBe(true);
        expect(model.plan().placements).toEqual([]);
      }),
      runs(4),
    );
  });

  it("take a dead node out by themselves: rebuilt elsewhere, or in smaller groups, always with a quorum", () => {
    fc.assert(
      fc.property(anyPeace(), fc.integer({ min: 0, max: 40 }), (scenario, returnsAfter) => {
        const model = makeModel({ ...scenario, replicationFactor: 3 });
        rest(model);
        model.kill(node(2));
        // Refused as long as groups that it led have not elected another.
        let ticks = 0;
        do run(model, 1);
        while (!model.remove(node(2)) && ticks++ < LOST_TICKS);
        expect(ticks).toBeLessThan(LOST_TICKS);
        for (let tick = 0; tick < returnsAfter; tick++) {
          run(model, 1);
          for (const group of model.groups.values()) expect(group.hasQuorum()).toBe(true);
        }
        // What comes back all the same goes all the same.
        if (scenario.seed % 2 === 0 && model.map.nodes.some(({ id }) => id === 2)) {
          model.revive(node(2));
        }
        rest(model);
        const left = scenario.nodes - 1;
        expect(model.map.nodes.map(({ id }) => id)).not.toContain(2);
        expect(replicaCounts(model.map).get(2)).toBeUndefined();
        for (const { replicas } of model.map.placements) {
          expect(replicas).toHaveLength(Math.min(3, left));
        }
        model.join(makeNode(99));
        rest(model);
        for (const { replicas } of model.map.placements) expect(replicas).toHaveLength(3);
      }),
      runs(6),
    );
  });

  it("rebuild what was on a lost node, and touch nothing while it may come back", () => {
    fc.assert(
      fc.property(anyPeace(), (scenario) => {
        const model = makeModel({ ...scenario, replicationFactor: 3, nodes: scenario.nodes + 1 });
        rest(model);
        const lost = replicaCounts(model.map).get(1)!;
        const before = model.added;
        model.kill(node(1));
        run(model, LOST_TICKS - 1);
        expect(model.added).toBe(before);
        rest(model);
        expect(replicaCounts(model.map).get(1)).toBe(0);
        // One for the meta group, and some because not every group can go where there is least.
        const rebuilt = model.added - before;
        expect(rebuilt).toBeGreaterThanOrEqual(lost);
        expect(rebuilt).toBeLessThanOrEqual(lost + 1 + Math.max(2, lost / 10));
        expect(model.remove(node(1))).toBe(true);
      }),
      runs(4),
    );
  });
});
