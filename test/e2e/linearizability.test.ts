/** The checker of histories, on histories whose verdict is known by hand. */
import { describe, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import {
  type HistoryEntry,
  isLinearizable,
  type RegisterOperation,
  type RegisterValue,
} from "./linearizability.ts";

const entry = (startedAt: number, endedAt: number, operation: RegisterOperation): HistoryEntry => ({
  startedAt,
  endedAt,
  operation,
});
const read = (value: RegisterValue): RegisterOperation => ({ kind: "read", value });
const write = (value: RegisterValue): RegisterOperation => ({ kind: "write", value });
const swap = (
  expected: RegisterValue,
  value: RegisterValue,
  succeeded = true,
): RegisterOperation => ({ kind: "swap", expected, value, succeeded });
const NEVER = Number.POSITIVE_INFINITY;

describe("isLinearizable() accepts", () => {
  it.each<[string, HistoryEntry[]]>([
    ["nothing", []],
    ["a read of nothing", [entry(0, 1, read(undefined))]],
    ["one after the other", [entry(0, 1, write("a")), entry(2, 3, read("a"))]],
    [
      "a read that overlaps a write, old or new value",
      [entry(0, 9, write("a")), entry(1, 2, read(undefined)), entry(3, 4, read("a"))],
    ],
    [
      "overlapping writes in the order that a later read shows",
      [entry(0, 9, write("a")), entry(1, 8, write("b")), entry(10, 11, read("a"))],
    ],
    [
      "a chain of swaps, and one that lost",
      [
        entry(0, 1, swap(undefined, "a")),
        entry(2, 9, swap("a", "b")),
        entry(2, 9, swap("a", "c", false)),
        entry(10, 11, read("b")),
      ],
    ],
    [
      "an unknown write that took effect late, or never",
      [
        entry(0, 1, write("a")),
        entry(2, NEVER, write("b")),
        entry(3, NEVER, write("c")),
        entry(4, 5, read("a")),
        entry(6, 7, read("b")),
      ],
    ],
    [
      "a delete between two reads",
      [entry(0, 1, write("a")), entry(2, 5, write(undefined)), entry(3, 4, read("a"))],
    ],
  ])("%s", (_, history) => {
    expect(isLinearizable(history)).toBe(true);
  });
});

describe("isLinearizable() refuses", () => {
  it.each<[string, HistoryEntry[]]>([
    ["a value that nobody wrote", [entry(0, 1, read("a"))]],
    ["a stale read", [entry(0, 1, write("a")), entry(2, 3, write("b")), entry(4, 5, read("a"))]],
    ["a lost write", [entry(0, 1, write("a")), entry(2, 3, read(undefined))]],
    [
      "a value that goes back",
      [entry(0, 9, write("b")), entry(1, 2, read("b")), entry(3, 4, read(undefined))],
    ],
    [
      "two swaps from one value",
      [entry(0, 1, write("a")), entry(2, 9, swap("a", "b")), entry(2, 9, swap("a", "c"))],
    ],
    [
      "a swap that failed though nothing else happened",
      [entry(0, 1, write("a")), entry(2, 3, swap("a", "b", false))],
    ],
    [
      "a swap that was answered as lost and shows",
      [entry(0, 1, write("a")), entry(2, 5, swap("x", "b", false)), entry(6, 7, read("b"))],
    ],
    [
      "an unknown write that shows before it began",
      [entry(0, 1, read("a")), entry(2, NEVER, write("a"))],
    ],
  ])("%s", (_, history) => {
    expect(isLinearizable(history)).toBe(false);
  });
});

/** What a correct register answers to `count` operations of `clients` overlapping clients. */
function simulated(seed: number, clients: number, count: number): HistoryEntry[] {
  const random = new SeededRandom(seed);
  const entries: HistoryEntry[] = [];
  const freeAt = Array.from({ length: clients }, () => 0);
  let value: RegisterValue;
  // Effects happen at the times 1, 2, 3, …; each operation spans its own.
  for (let time = 1; time <= count; time++) {
    const client = random.below(clients);
    if (freeAt[client]! > time) continue;
    const endedAt = time + random.float() * clients * 2;
    const startedAt = Math.max(freeAt[client]!, time - random.float() * clients * 2);
    freeAt[client] = endedAt;
    const kind = random.below(3);
    const expected = random.below(2) === 0 ? value : "other";
    const succeeded = expected === value;
    if (kind === 0) entries.push(entry(startedAt, endedAt, read(value)));
    else if (kind === 1) entries.push(entry(startedAt, endedAt, write((value = `v${time}`))));
    else {
      entries.push(entry(startedAt, endedAt, swap(expected, `v${time}`, succeeded)));
      if (succeeded) value = `v${time}`;
    }
  }
  return entries;
}

describe("isLinearizable() on simulated histories", () => {
  it.each([1, 2, 3, 4, 5])("accepts what a register answered, seed %i", (seed) => {
    const history = simulated(seed, 8, 400);
    expect(history.length).toBeGreaterThan(50);
    expect(isLinearizable(history)).toBe(true);
  });

  it.each([1, 2, 3, 4, 5])("refuses it with one read made stale, seed %i", (seed) => {
    const history = simulated(seed, 8, 400);
    const lastWrite = Math.max(...history.map(({ endedAt }) => endedAt));
    // After all writes have ended, a value that was overwritten long before.
    const old = history.find(({ operation }) => operation.kind === "write")!;
    history.push(entry(lastWrite + 1, lastWrite + 2, read(old.operation.value)));
    expect(isLinearizable(history)).toBe(false);
  });
});
