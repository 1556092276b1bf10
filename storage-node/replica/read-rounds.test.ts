import { describe, expect, it } from "vitest";
import { ReadRounds } from "./read-rounds.ts";
import type { ReadRound } from "./waiting.ts";

const roundAt = (startedMs: number): ReadRound => ({ startedMs, reads: [] });

function started() {
  const rounds = new ReadRounds();
  const all = [roundAt(10), roundAt(20), roundAt(20), roundAt(30)];
  for (const [i, round] of all.entries()) rounds.add(i + 1, round);
  return { rounds, all };
}

describe("ReadRounds", () => {
  it("gives each round once, in whatever order they are asked for", () => {
    const { rounds, all } = started();
    for (const token of [3, 1, 4, 2]) {
      expect(rounds.take(token)).toBe(all[token - 1]);
      expect(rounds.take(token)).toBeUndefined();
    }
    expect(rounds.size).toBe(0);
  });

  it("gives up those that were started before a time, and no others", () => {
    const { rounds, all } = started();
    expect(rounds.takeStartedBefore(10)).toEqual([]);
    expect(rounds.takeStartedBefore(30)).toEqual(all.slice(0, 3));
    expect(rounds.size).toBe(1);
    expect(rounds.takeStartedBefore(31)).toEqual([all[3]]);
    expect(rounds.size).toBe(0);
  });

  it("gives all at once, and has none then", () => {
    const { rounds, all } = started();
    expect(rounds.takeAll()).toEqual(all);
    expect(rounds.takeAll()).toEqual([]);
  });
});
