/**
 * Judges recorded histories: whether the operations on each key are linearizable, and whether
 * revisions keep their rules.
 *
 * Keys are judged one by one: linearizability is local (Herlihy and Wing, "Linearizability", ACM
 * TOPLAS 12(3), 1990). The model is a register with put, get, delete, and the condition of a write on
 * the key's revision. A write of unknown outcome takes effect at most once, at any time after its
 * call; one that is known not to be applied never does.
 *
 * A search that gives up proves nothing: whoever asks has to count that as a failure.
 */
import { compile } from "./compile.ts";
import { ABSENT, describeOperation, type KeyOperation, type KeyState } from "./operation.ts";
import { search } from "./search.ts";

export type Verdict =
  /** `expansions`: how many configurations had to be looked into; a measure of effort. */
  | { readonly kind: "linearizable"; readonly expansions: number }
  | {
      readonly kind: "violation";
      readonly rule: string;
      /** The last one is that which does not fit. */
      readonly operations: readonly KeyOperation[];
      /** What the key can have held just before. */
      readonly states: readonly string[];
    }
  | { readonly kind: "gaveUp"; readonly operation: KeyOperation };

/**
 * @param history of one key, in any order.
 * @param initial what the key held before the first of them.
 * @throws Error when the history is none: values twice, answers of another kind of request.
 */
export function checkKey(history: readonly KeyOperation[], initial: KeyState = ABSENT): Verdict {
  const compiled = compile(history, initial);
  if ("rule" in compiled) return { kind: "violation", states: [], ...compiled };
  const verdict = search(compiled, initial);
  if (verdict.kind !== "violation") return verdict;
  const { operation, states } = verdict;
  return { kind: "violation", rule: "linearizable", operations: [operation], states };
}

/**
 * Revisions count the changes of a vshard: no two keys of one share any.
 *
 * @param groupOf the vshard of a key.
 * @returns what is wrong, for people.
 */
export function findSharedRevisions(
  histories: ReadonlyMap<string, readonly KeyOperation[]>,
  groupOf: (key: string) => number,
): readonly string[] {
  const owners = new Map<string, string>();
  const wrong = new Set<string>();
  for (const [key, history] of histories) {
    const group = groupOf(key);
    for (const { outcome } of history) {
      if (!("revision" in outcome) || outcome.revision === 0) continue;
      const name = `${group} ${outcome.revision}`;
      const owner = owners.get(name);
      if (owner === undefined) owners.set(name, key);
      else if (owner !== key) {
        wrong.add(`vshard ${group}: revision ${outcome.revision} is of ${owner} and of ${key}`);
      }
    }
  }
  return [...wrong];
}

/** For people: what does not fit, and what happened around it. */
export function explain(history: readonly KeyOperation[], verdict: Verdict): string {
  if (verdict.kind === "linearizable") return "linearizable";
  if (verdict.kind === "gaveUp") return `gave up at ${describeOperation(verdict.operation)}`;
  const { rule, operations, states } = verdict;
  const last = operations.at(-1)!;
  const around = history
    .filter(({ calledAt }) => calledAt <= last.returnedAt)
    .sort((a, b) => a.calledAt - b.calledAt)
    .slice(-AROUND_MAX);
  return [
    `broken: ${rule}`,
    ...operations.map(describeOperation),
    "the key just before can have been:",
    ...(states.length === 0 ? ["  (not looked into)"] : states.slice(0, 8).map((s) => `  ${s}`)),
    `the last ${around.length} operations that were called by then:`,
    ...around.map((operation) => `  ${describeOperation(operation)}`),
  ].join("\n");
}

const AROUND_MAX = 24;
