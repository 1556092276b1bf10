import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ReplicaId } from "#shared/ids.ts";
import { decidesAlone, isVoter, majority, membersOf, quorumValue, voteOutcome } from "./quorum.ts";
import type { Configuration } from "./types.ts";

const ids = (...values: number[]): readonly ReplicaId[] => values as ReplicaId[];

const configurationOf = (
  voters: readonly number[],
  outgoing: readonly number[] = [],
  learners: readonly number[] = [],
): Configuration => ({
  voters: ids(...voters),
  outgoing: ids(...outgoing),
  learners: ids(...learners),
  learnersNext: [],
  highestId: 9 as ReplicaId,
});

const someIds = (minLength: number) =>
  fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength, maxLength: 7 });
const someConfiguration = fc.tuple(someIds(1), someIds(0)).map(([a, b]) => configurationOf(a, b));

/** By definition: tries every value, counting members of each half. */
function naiveQuorumValue(
  configuration: Configuration,
  reached: ReadonlyMap<number, number>,
): number {
  const halves = [configuration.voters, configuration.outgoing].filter((half) => half.length > 0);
  const holds = (value: number): boolean =>
    halves.every((half) => {
      const holders = half.filter((id) => (reached.get(id) ?? 0) >= value);
      return holders.length > half.length / 2;
    });
  let best = 0;
  while (holds(best + 1)) best++;
  return best;
}

function naiveOutcome(
  configuration: Configuration,
  votes: ReadonlyMap<ReplicaId, boolean>,
): string {
  const halves = [configuration.voters, configuration.outgoing].filter((half) => half.length > 0);
  // Half of an even number against rules out a majority already.
  const count = (half: readonly ReplicaId[], vote: boolean): number =>
    half.filter((id) => votes.get(id) === vote).length;
  if (halves.every((half) => count(half, true) > half.length / 2)) return "won";
  return halves.some((half) => count(half, false) >= half.length / 2) ? "lost" : "pending";
}

describe("quorumValue()", () => {
  it("equals the definition, also for joint configurations", () => {
    const reached = fc.dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.nat(12));
    fc.assert(
      fc.property(someConfiguration, reached, (configuration, values) => {
        const map = new Map(Object.entries(values).map(([id, value]) => [Number(id), value]));
        expect(quorumValue(configuration, (id) => map.get(id) ?? 0)).toBe(
          naiveQuorumValue(configuration, map),
        );
      }),
      { numRuns: 500 },
    );
  });

  it("ignores learners", () => {
    const configuration = configurationOf([1, 2, 3], [], [4, 5]);
    expect(quorumValue(configuration, (id) => (id >= 4 ? 100 : id))).toBe(2);
  });

  it("decides nothing without voters", () => {
    expect(quorumValue(configurationOf([]), () => 7)).toBe(0);
  });
});

describe("voteOutcome()", () => {
  it("equals the definition, also for joint configurations", () => {
    const votes = fc.dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.boolean());
    fc.assert(
      fc.property(someConfiguration, votes, (configuration, given) => {
        const map = new Map(
          Object.entries(given).map(([id, vote]) => [Number(id) as ReplicaId, vote]),
        );
        expect(voteOutcome(configuration, map)).toBe(naiveOutcome(configuration, map));
      }),
      { numRuns: 500 },
    );
  });

  it("needs both halves of a joint configuration", () => {
    const joint = configurationOf([1, 2, 3], [3, 4, 5]);
    const yes = (...members: number[]) => new Map(ids(...members).map((id) => [id, true] as const));
    expect(voteOutcome(joint, yes(1, 2))).toBe("pending");
    expect(voteOutcome(joint, yes(1, 3))).toBe("pending");
    expect(voteOutcome(joint, yes(1, 3, 4))).toBe("won");
  });

  it("is lost without voters", () => {
    expect(voteOutcome(configurationOf([]), new Map())).toBe("lost");
  });
});

describe("membership helpers", () => {
  it("majority() overlaps itself", () => {
    expect([1, 2, 3, 4, 5].map(majority)).toEqual([1, 2, 2, 3, 3]);
  });

  it("membersOf() names everybody once", () => {
    expect(membersOf(configurationOf([1, 2], [2, 3], [4]))).toEqual([1, 2, 3, 4]);
  });

  it("isVoter() counts both halves and no learners", () => {
    const joint = configurationOf([1, 2], [2, 3], [4]);
    expect(ids(1, 2, 3, 4, 5).map((id) => isVoter(joint, id))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it("decidesAlone() only where no other voter exists", () => {
    const [one, two] = ids(1, 2);
    expect(decidesAlone(configurationOf([1], [], [2]), one!)).toBe(true);
    expect(decidesAlone(configurationOf([1], [], [2]), two!)).toBe(false);
    expect(decidesAlone(configurationOf([1], [1]), one!)).toBe(true);
    expect(decidesAlone(configurationOf([1], [1, 2]), one!)).toBe(false);
    expect(decidesAlone(configurationOf([1, 2]), one!)).toBe(false);
  });
});
