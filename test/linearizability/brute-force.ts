/**
 * The definition of linearizability, tried out in full: every order of the operations, every choice of
 * which unknown writes take effect, every revision that they may get. For histories of a handful of
 * operations; the measure of `check.ts`.
 */
import type { KeyOperation, KeyState, WriteCondition } from "./operation.ts";

type Model = KeyState & {
  /** The least revision that the last change can have had. */
  readonly last: number;
};

const holds = (condition: WriteCondition | undefined, { revision }: Model): boolean => {
  if (condition === undefined) return true;
  return revision === (condition.kind === "absent" ? 0 : condition.revision);
};

/** All that `model` may become by `operation`; empty when it could not answer like that. */
function after(model: Model, operation: KeyOperation, revisionMax: number): readonly Model[] {
  const { action, outcome } = operation;
  const condition = action.kind === "get" ? undefined : action.condition;
  const exists = model.revision !== 0;
  const put = (value: string, revision: number): readonly Model[] =>
    revision > model.last ? [{ revision, value, last: revision }] : [];
  const removed: Model = { revision: 0, value: "", last: model.last + 1 };
  switch (outcome.kind) {
    case "found":
      return exists && outcome.revision === model.revision && outcome.value === model.value
        ? [model]
        : [];
    case "absent":
      return exists ? [] : [model];
    case "refused":
      return !holds(condition, model) && outcome.revision === model.revision ? [model] : [];
    case "stored":
      if (action.kind !== "put" || !holds(condition, model) || outcome.created === exists)
        return [];
      return put(action.value, outcome.revision);
    case "deleted":
      return exists && holds(condition, model) ? [removed] : [];
    case "unknown": {
      if (!holds(condition, model)) return [model];
      if (action.kind === "delete") return [exists ? removed : model];
      if (action.kind === "get") return [model];
      const all: Model[] = [];
      for (let revision = model.last + 1; revision <= revisionMax; revision++) {
        all.push(...put(action.value, revision));
      }
      return all;
    }
    case "notApplied":
      return [];
    default:
      return outcome satisfies never;
  }
}

export function isLinearizableByBruteForce(
  history: readonly KeyOperation[],
  initial: KeyState,
): boolean {
  const operations = history.filter(({ outcome }) => outcome.kind !== "notApplied");
  const revisions = operations.flatMap(({ action, outcome }) => [
    "revision" in outcome ? outcome.revision : 0,
    "condition" in action && action.condition?.kind === "revision" ? action.condition.revision : 0,
  ]);
  const revisionMax = Math.max(initial.revision, ...revisions) + operations.length;
  const isUnknown = ({ outcome }: KeyOperation): boolean => outcome.kind === "unknown";
  const search = (model: Model, left: readonly KeyOperation[]): boolean => {
    if (left.every(isUnknown)) return true;
    return left.some((next) => {
      const isTooLate = left.some((o) => !isUnknown(o) && o.returnedAt < next.calledAt);
      if (isTooLate) return false;
      const rest = left.filter((operation) => operation !== next);
      return after(model, next, revisionMax).some((model) => search(model, rest));
    });
  };
  return search({ ...initial, last: initial.revision }, operations);
}
