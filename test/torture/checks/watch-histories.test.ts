/** Judges of watchers and change logs: what they accept, and that they tell each kind of fault. */
import { describe, expect, it } from "vitest";
import type { KeyOperation } from "#test/linearizability/operation.ts";
import { makeValue, valueId } from "#test/torture/load/value.ts";
import type { SeenChange } from "#test/torture/watch/watcher.ts";
import { judgeLog, judgeWatcher } from "./watch-histories.ts";

const put = (key: string, revision: number, value?: string): SeenChange => ({
  ...{ op: "put", key, revision, value },
});
const removal = (key: string, revision: number): SeenChange => ({
  ...{ op: "delete", key, revision, value: undefined },
});
const LOG = [put("a", 1), put("b", 2), put("a", 3), removal("a", 4), put("c", 9)];
const told = (seen: readonly SeenChange[], wants: (change: SeenChange) => boolean = () => true) =>
  judgeWatcher({ name: "w", seen, wants }, LOG);

describe("judgeWatcher()", () => {
  it("accepts the whole log, repeats, and any order between keys", () => {
    expect(told(LOG)).toEqual([]);
    expect(told([...LOG, ...LOG.slice(2)])).toEqual([]);
    expect(told([LOG[4]!, LOG[1]!, LOG[0]!, LOG[2]!, LOG[0]!, LOG[2]!, LOG[3]!])).toEqual([]);
    expect(told([LOG[1]!], ({ key }) => key === "b")).toEqual([]);
  });

  it.each([
    ["a lost change", LOG.toSpliced(2, 1), ["watcher w: a: misses revisions 3"]],
    ["a lost key", LOG.slice(0, 4), ["watcher w: c: misses revisions 9"]],
    [
      "a change that was told behind a later one",
      [LOG[2]!, LOG[0]!, LOG[1]!, LOG[3]!, LOG[4]!],
      ["watcher w: a: revisions 1 came behind later ones"],
    ],
    ["what nobody wrote", [...LOG, put("a", 5)], ["watcher w: a: has revisions 5 of no change"]],
    [
      "another operation",
      [...LOG, put("a", 4)],
      ["watcher w: a: revision 4 is a delete and was told as a put"],
    ],
  ])("tells %s", (_, seen, faults) => {
    expect(told(seen)).toEqual(faults);
  });

  it("tells what the filter should have kept away", () => {
    expect(told(LOG.slice(0, 2), ({ key }) => key === "b")).toEqual([
      "watcher w: a: has revisions 1 of no change",
    ]);
  });
});

describe("judgeLog()", () => {
  const [first, second, other] = [valueId("x", 40), valueId("y", 40), valueId("z", 40)];
  const times = { calledAt: 0, returnedAt: 1, client: "c" };
  const stored = (value: string, revision: number): KeyOperation => ({
    ...times,
    action: { kind: "put", value },
    outcome: { kind: "stored", revision, created: false },
  });
  const HISTORY: readonly KeyOperation[] = [
    stored(first, 1),
    { ...times, action: { kind: "put", value: second }, outcome: { kind: "unknown" } },
    { ...times, action: { kind: "delete" }, outcome: { kind: "deleted" } },
  ];
  const judged = (log: readonly SeenChange[], seen: readonly SeenChange[] = []) =>
    judgeLog(new Map([["a", HISTORY]]), log, seen);

  it("accepts what was acknowledged, and what may have been carried out", () => {
    const log = [put("a", 1), put("a", 3), removal("a", 4)];
    const values = [put("a", 1, makeValue(first)), put("a", 3, makeValue(second))];
    expect(judged(log, values)).toEqual([]);
  });

  it("tells of acknowledged writes that the log does not have", () => {
    expect(judged([removal("a", 4)])).toEqual([
      "change log: a: the put of revision 1 is not in the change log",
    ]);
    expect(judged([put("a", 1)])).toEqual([
      "change log: a: 1 deletes were acknowledged, the change log has 0",
    ]);
  });

  it("tells of values that belong to another revision, or to nobody", () => {
    const log = [put("a", 1), put("a", 3), removal("a", 4)];
    for (const [revision, value] of [
      [1, second],
      [3, other],
    ] as const) {
      expect(judged(log, [put("a", revision, makeValue(value))])).toEqual([
        `change log: a: revision ${revision} was told with the value ${value}`,
      ]);
    }
  });
});
