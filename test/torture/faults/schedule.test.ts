/** The schedule of faults: bounds and repeatability. */
import { describe, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import {
  endOf,
  FAULT_TYPES,
  type FaultKind,
  minorityOf,
  type PlannedFault,
  planFaults,
} from "./schedule.ts";

const ALL = new Set(Object.keys(FAULT_TYPES) as FaultKind[]);
const names = (letter: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${letter}${i + 1}`);

const plan = (seed: number, nodes: number, withBlackout = false): readonly PlannedFault[] =>
  planFaults(new SeededRandom(seed), {
    nodes: names("n", nodes),
    gateways: names("g", 2),
    durationMs: 60_000,
    kinds: ALL,
    withBlackout,
  });

const isRunning = ({ startMs, durationMs }: PlannedFault, timeMs: number): boolean =>
  startMs <= timeMs && timeMs < startMs + durationMs;

describe("planFaults()", () => {
  it.each([1, 3, 5])("touches a minority of %i nodes at a time", (nodes) => {
    for (let seed = 1; seed <= 100; seed++) {
      const planned = plan(seed, nodes);
      for (let timeMs = 0; timeMs < endOf(planned); timeMs += 100) {
        const touched = planned.filter((fault) => isRunning(fault, timeMs));
        const count = new Set(touched.flatMap((fault) => fault.nodes)).size;
        expect([seed, timeMs, count <= minorityOf(nodes)]).toEqual([seed, timeMs, true]);
      }
    }
  });

  it.each([1, 2, 3])("gives an hour of rounds every kind, several times (seed %i)", (seed) => {
    const random = new SeededRandom(seed);
    const counts = new Map<FaultKind, number>();
    // Rounds of 40 s of faults take about 80 s with their checks.
    for (let round = 1; round <= 45; round++) {
      const planned = planFaults(random, {
        nodes: names("n", 3),
        gateways: names("g", 2),
        durationMs: 40_000,
        kinds: ALL,
        withBlackout: round % 3 === 0,
      });
      for (const { kind } of planned) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    const rare = [...ALL].filter((kind) => (counts.get(kind) ?? 0) < 3);
    expect(rare).toEqual([]);
  });

  it("draws every kind, several at once, and each within its bounds", () => {
    const kinds = new Set<FaultKind>();
    let atOnce = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const planned = plan(seed, 3, true);
      expect(planned.length).toBeGreaterThan(3);
      for (const fault of planned) {
        kinds.add(fault.kind);
        const [least, most] = FAULT_TYPES[fault.kind].durationMs;
        expect(fault.durationMs).toBeGreaterThanOrEqual(least);
        expect(fault.durationMs).toBeLessThanOrEqual(most);
        const others = planned.filter((other) => isRunning(other, fault.startMs));
        atOnce = Math.max(atOnce, others.length);
      }
    }
    expect(kinds).toEqual(ALL);
    expect(atOnce).toBeGreaterThan(2);
  });

  it("ends with the loss of a majority, alone", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const planned = plan(seed, 3, true);
      const last = planned.at(-1)!;
      expect(["blackout", "powerOff"]).toContain(last.kind);
      expect(last.nodes.length).toBeGreaterThan(1);
      expect(new Set(last.nodes).size).toBe(last.nodes.length);
      for (const fault of planned.slice(0, -1)) {
        expect(fault.startMs + fault.durationMs).toBeLessThan(last.startMs);
      }
    }
  });

  it("gives the same for the same seed, and nothing that is not asked for", () => {
    expect(plan(7, 3)).toEqual(plan(7, 3));
    const options = { nodes: ["n1"], gateways: ["g1"], durationMs: 60_000, withBlackout: false };
    const kinds = new Set<FaultKind>(["kill", "pauseGateway"]);
    const planned = planFaults(new SeededRandom(1), { ...options, kinds });
    expect(new Set(planned.map(({ kind }) => kind))).toEqual(kinds);
    expect(planFaults(new SeededRandom(1), { ...options, kinds: new Set() })).toEqual([]);
  });
});
