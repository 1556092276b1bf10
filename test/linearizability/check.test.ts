/** The checker of histories, on histories whose verdict is known by hand. */
import { describe, expect, it } from "vitest";
import { checkKey, explain, findSharedRevisions } from "./check.ts";
import type { KeyOperation, Outcome, WriteCondition } from "./operation.ts";

type Span = readonly [calledAt: number, returnedAt: number];

const get = ([calledAt, returnedAt]: Span, outcome: Outcome): KeyOperation => ({
  action: { kind: "get" },
  outcome,
  calledAt,
  returnedAt,
});
const found = (span: Span, value: string, revision: number) =>
  get(span, { kind: "found", value, revision });
const absent = (span: Span) => get(span, { kind: "absent" });

const put = (
  [calledAt, returnedAt]: Span,
  value: string,
  outcome: Outcome,
  condition?: WriteCondition,
): KeyOperation => ({
  action: condition === undefined ? { kind: "put", value } : { kind: "put", value, condition },
  outcome,
  calledAt,
  returnedAt,
});
const created = (revision: number): Outcome => ({ kind: "stored", revision, created: true });
const stored = (revision: number): Outcome => ({ kind: "stored", revision, created: false });
const refused = (revision: number): Outcome => ({ kind: "refused", revision });
const unknown: Outcome = { kind: "unknown" };
const notApplied: Outcome = { kind: "notApplied" };
const at = (revision: number): WriteCondition => ({ kind: "revision", revision });
const ifAbsent: WriteCondition = { kind: "absent" };

const remove = (
  [calledAt, returnedAt]: Span,
  outcome: Outcome = { kind: "deleted" },
  revision = 0,
): KeyOperation => ({
  action: revision === 0 ? { kind: "delete" } : { kind: "delete", condition: at(revision) },
  outcome,
  calledAt,
  returnedAt,
});

describe("checkKey() accepts", () => {
  it.each<[string, KeyOperation[]]>([
    ["nothing", []],
    ["a get of nothing", [absent([0, 1])]],
    ["one after the other", [put([0, 1], "a", created(1)), found([2, 3], "a", 1)]],
    [
      "a get that overlaps a put, old and new",
      [put([0, 9], "a", created(4)), absent([1, 2]), found([3, 4], "a", 4)],
    ],
    [
      "operations that touch in time, in either order",
      [put([0, 5], "a", created(1)), absent([5, 6]), found([6, 7], "a", 1)],
    ],
    [
      "overlapping puts in the order of their revisions",
      [put([0, 9], "a", stored(2)), put([1, 8], "b", created(1)), found([10, 11], "a", 2)],
    ],
    [
      "a chain of swaps, and one that lost",
      [
        put([0, 1], "a", created(1), ifAbsent),
        put([2, 9], "b", stored(2), at(1)),
        put([2, 9], "c", refused(2), at(1)),
        found([10, 11], "b", 2),
      ],
    ],
    [
      "an unknown put that took effect late, and one that never did",
      [
        put([0, 1], "a", created(1)),
        put([2, 3], "b", unknown),
        put([2, 3], "c", unknown),
        found([4, 5], "a", 1),
        found([6, 7], "b", 2),
      ],
    ],
    [
      "an unknown put whose value nobody saw, between a delete and a put that found a key",
      [
        put([0, 1], "a", created(1)),
        remove([2, 3]),
        put([4, 5], "b", unknown),
        put([6, 7], "c", stored(4)),
      ],
    ],
    [
      "an unknown put that only a refusal tells of",
      [
        put([0, 1], "a", created(1)),
        put([2, 3], "b", unknown),
        put([4, 5], "c", refused(2), at(1)),
        found([6, 7], "d", 3),
        put([3, 8], "d", stored(3), at(2)),
      ],
    ],
    [
      "an unknown delete, applied before or never",
      [
        put([0, 1], "a", created(1)),
        remove([2, 3], unknown),
        found([4, 5], "a", 1),
        absent([6, 7]),
        put([8, 9], "b", created(3)),
      ],
    ],
    [
      "an unknown swap that took effect, then another client's swap",
      [
        put([0, 1], "a", created(1)),
        put([2, 3], "b", unknown, at(1)),
        put([4, 5], "c", refused(2), at(1)),
        found([6, 7], "b", 2),
        put([8, 9], "d", stored(3), at(2)),
      ],
    ],
    [
      "a delete between two gets",
      [put([0, 1], "a", created(1)), remove([2, 5]), found([3, 4], "a", 1), absent([6, 7])],
    ],
    [
      "a deleted key that is created again",
      [put([0, 1], "a", created(1)), remove([2, 3], { kind: "deleted" }, 1)].concat(
        put([4, 5], "b", created(3), ifAbsent),
        found([6, 7], "b", 3),
      ),
    ],
    [
      "a write that was not applied, and shows nowhere",
      [put([0, 1], "a", notApplied), absent([2, 3]), remove([4, 5], { kind: "absent" })],
    ],
    [
      "overlapping deletes, of which one found the key",
      [
        put([0, 1], "a", created(1)),
        remove([2, 9]),
        remove([2, 9], { kind: "absent" }),
        absent([10, 11]),
      ],
    ],
    [
      "an unknown get, which says nothing",
      [put([0, 1], "a", created(1)), get([2, 3], unknown), found([4, 5], "a", 1)],
    ],
  ])("%s", (_, history) => {
    expect(explain(history, checkKey(history))).toBe("linearizable");
  });

  it("a history that begins with a value", () => {
    const initial = { revision: 5, value: "old" };
    expect(checkKey([found([0, 1], "old", 5)], initial).kind).toBe("linearizable");
    expect(checkKey([absent([0, 1])], initial).kind).toBe("violation");
    expect(checkKey([put([0, 1], "a", stored(5))], initial).kind).toBe("violation");
  });
});

describe("checkKey() refuses", () => {
  it.each<[string, string, KeyOperation[]]>([
    ["a value that nobody wrote", "a value was read that nobody wrote", [found([0, 1], "a", 1)]],
    [
      "a stale read",
      "linearizable",
      [put([0, 1], "a", created(1)), put([2, 3], "b", stored(2)), found([4, 5], "a", 1)],
    ],
    ["a lost write", "linearizable", [put([0, 1], "a", created(1)), absent([2, 3])]],
    [
      "a lost update: two swaps of the same revision",
      "linearizable",
      [
        put([0, 1], "a", created(1)),
        put([2, 9], "b", stored(2), at(1)),
        put([2, 9], "c", stored(3), at(1)),
      ],
    ],
    [
      "two creations without a delete between them",
      "linearizable",
      [put([0, 9], "a", created(1), ifAbsent), put([0, 9], "b", created(2), ifAbsent)],
    ],
    [
      "a resurrected delete",
      "linearizable",
      [put([0, 1], "a", created(1)), remove([2, 3]), absent([4, 5]), found([6, 7], "a", 1)],
    ],
    [
      "a key deleted twice",
      "linearizable",
      [put([0, 1], "a", created(1)), remove([2, 9]), remove([2, 9])],
    ],
    [
      "a value that goes back within one put",
      "linearizable",
      [put([0, 9], "b", created(1)), found([1, 2], "b", 1), absent([3, 4])],
    ],
    [
      "an unknown write applied twice",
      "linearizable",
      [
        put([0, 1], "a", unknown),
        found([2, 3], "a", 1),
        put([4, 5], "b", stored(2)),
        found([6, 7], "a", 1),
      ],
    ],
    [
      "an unknown write applied twice, with a new revision",
      "a value has two revisions",
      [
        put([0, 1], "a", unknown),
        found([2, 3], "a", 1),
        put([4, 5], "b", stored(2)),
        found([6, 7], "a", 3),
      ],
    ],
    [
      "an unknown delete applied twice",
      "linearizable",
      [
        put([0, 1], "a", created(1)),
        remove([2, 3], unknown),
        absent([4, 5]),
        put([6, 7], "b", created(5)),
        absent([8, 9]),
      ],
    ],
    [
      "an unknown put, seen by nobody, that would have to be applied twice",
      "linearizable",
      [
        put([0, 1], "a", unknown),
        put([2, 3], "b", stored(5)),
        remove([4, 5]),
        put([6, 7], "c", stored(9)),
      ],
    ],
    [
      "an unknown write that shows before it began",
      "linearizable",
      [found([0, 1], "a", 1), put([2, 3], "a", unknown)],
    ],
    [
      "an unknown write that comes, goes and comes again around a get",
      "linearizable",
      [
        put([0, 1], "a", created(1)),
        put([2, 3], "b", unknown),
        found([4, 5], "b", 2),
        found([6, 7], "a", 1),
      ],
    ],
    [
      "a write that was said not to be applied, and shows",
      "a write was seen that was never applied",
      [put([0, 1], "a", notApplied), found([2, 3], "a", 1)],
    ],
    [
      "a swap that was refused, and shows",
      "a write was seen whose condition had failed",
      [put([0, 1], "a", created(1)), put([2, 5], "b", refused(1), ifAbsent), found([6, 7], "b", 2)],
    ],
    [
      "a swap refused although nothing else happened",
      "a condition that held was refused",
      [put([0, 1], "a", created(1)), put([2, 3], "b", refused(1), at(1))],
    ],
    [
      "a swap refused for a revision that was long gone",
      "linearizable",
      [
        put([0, 1], "a", created(1)),
        put([2, 3], "b", stored(2)),
        put([4, 5], "c", refused(1), at(7)),
      ],
    ],
    [
      "a swap of a revision that was overwritten",
      "linearizable",
      [
        put([0, 1], "a", created(1)),
        put([2, 3], "b", stored(2)),
        put([4, 5], "c", stored(3), at(1)),
      ],
    ],
    [
      "a put that says it created what was there",
      "linearizable",
      [put([0, 1], "a", created(1)), put([2, 3], "b", created(2))],
    ],
    [
      "a put that says it replaced what was not there",
      "linearizable",
      [put([0, 1], "a", stored(1))],
    ],
    [
      "a put under If-None-Match that says it replaced",
      "a put says of the key what its condition excludes",
      [put([0, 1], "a", stored(1), ifAbsent)],
    ],
    [
      "revisions that go back in real time",
      "linearizable",
      [put([0, 1], "a", created(7)), put([2, 3], "b", stored(6))],
    ],
    [
      "a revision that names two values",
      "a revision names two values",
      [put([0, 5], "a", created(1)), put([0, 5], "b", stored(1))],
    ],
    [
      "a value with two revisions",
      "a value has two revisions",
      [put([0, 1], "a", created(1)), found([2, 3], "a", 2)],
    ],
    [
      "a delete between neighbouring revisions, where there is no room for it",
      "linearizable",
      [put([0, 1], "a", created(5)), remove([2, 3]), put([4, 5], "b", created(6))],
    ],
    ["a delete of nothing", "linearizable", [remove([0, 1]), put([2, 3], "a", created(2))]],
    [
      "a key that a delete did not find",
      "linearizable",
      [put([0, 1], "a", created(1)), remove([2, 3], { kind: "absent" })],
    ],
    [
      "a refusal at a revision that no write can have had",
      "linearizable",
      [put([0, 1], "a", created(1)), put([2, 3], "b", refused(4), at(9))],
    ],
    [
      "a revision that comes back after another one",
      "linearizable",
      [
        put([0, 1], "a", unknown),
        put([0, 1], "b", unknown),
        put([2, 3], "c", refused(3), at(9)),
        put([4, 5], "d", refused(4), at(9)),
        put([6, 7], "e", refused(3), at(9)),
      ],
    ],
    [
      "a request without a condition refused",
      "a request without a condition was refused",
      [put([0, 1], "a", refused(1))],
    ],
  ])("%s", (_, rule, history) => {
    const verdict = checkKey(history);
    expect(verdict).toMatchObject({ kind: "violation", rule });
    expect(explain(history, verdict)).toContain(`broken: ${rule}`);
  });
});

describe("checkKey() does not take for a history", () => {
  it.each<[string, KeyOperation[]]>([
    ["two puts of one value", [put([0, 1], "a", created(1)), put([2, 3], "a", stored(2))]],
    ["a get that was answered like a put", [get([0, 1], created(1))]],
    ["a put that was answered like a get", [put([0, 1], "a", { kind: "absent" })]],
    ["a delete that was answered like a put", [remove([0, 1], created(1))]],
    ["a return before its call", [absent([2, 1])]],
  ])("%s", (_, history) => {
    expect(() => checkKey(history)).toThrow();
  });
});

describe("findSharedRevisions()", () => {
  const histories = new Map([
    ["a", [put([0, 1], "a", created(1))]],
    ["b", [put([0, 1], "b", created(1)), found([2, 3], "b", 1)]],
    ["c", [put([0, 1], "c", created(2)), put([0, 1], "c2", refused(0), at(9))]],
  ]);

  it("tells of two keys of one vshard with the same revision, once", () => {
    expect(findSharedRevisions(histories, () => 3)).toEqual([
      "vshard 3: revision 1 is of a and of b",
    ]);
  });

  it("has nothing against it in different vshards", () => {
    expect(findSharedRevisions(histories, (key) => key.charCodeAt(0))).toEqual([]);
  });
});
