/**
 * Clusters under random faults. A failure names its seed and the last events before it; MINIKV_SEED
 * runs that seed alone.
 */
import { describe, expect, it } from "vitest";
import { runChaos } from "./testing/chaos.ts";

const EVENTS = 1500;

function runSeeds(members: number, first: number, count: number): void {
  const only = process.env.MINIKV_SEED;
  const seeds =
    only === undefined ? Array.from({ length: count }, (_, i) => first + i) : [Number(only)];
  let committed = 0;
  let elections = 0;
  let readsServed = 0;
  for (const seed of seeds) {
    const result = runChaos({ seed, members, events: EVENTS });
    committed += result.committed;
    elections += result.elections;
    readsServed += result.readsServed;
  }
  // A run in which nothing happens would prove nothing.
  expect(committed).toBeGreaterThan(5 * seeds.length);
  expect(elections).toBeGreaterThanOrEqual(seeds.length);
  if (only === undefined) expect(readsServed).toBeGreaterThan(seeds.length);
}

describe("Raft under random faults", () => {
  it("three members keep every safety property and recover", () => runSeeds(3, 1, 300));
  it("five members keep every safety property and recover", () => runSeeds(5, 10_001, 60));
  it("a single member keeps what it acknowledged", () => runSeeds(1, 20_001, 40));
});
