/**
 * Turns a key's history into what the search (`search.ts`) works on, and finds what is wrong without
 * any search: a value that nobody wrote or that names two revisions, a refusal of a condition that
 * held.
 *
 * Every put that was answered, and every put whose value somebody saw, has a revision. Revisions
 * only grow, so these puts can take effect in one order alone: that of their revisions. This is
 * what makes the search cheap; the general problem is NP-complete (Gibbons and Korach, "Testing
 * shared memories", SIAM J. Comput. 26(4), 1997), with a known order of writes it is not.
 */
import type { KeyOperation, KeyState, WriteCondition } from "./operation.ts";

/** What an operation needs to find: a revision, 0 for no key, or one of these. */
export const ANYTHING = -1;
export const PRESENT = -2;

export type Step =
  /** Changes nothing: it was answered with what it found. */
  | { readonly kind: "observe"; readonly need: number }
  /** `rank`: place among the puts of known revision, from 0. */
  | { readonly kind: "put"; readonly need: number; readonly rank: number }
  | { readonly kind: "delete"; readonly need: number; readonly returnedAt: number }
  /** Of unknown outcome, and nobody saw its value: its revision is not known. */
  | { readonly kind: "hiddenPut"; readonly need: number }
  /** Of unknown outcome. */
  | { readonly kind: "hiddenDelete"; readonly need: number };

export type HistoryEvent = {
  readonly at: number;
  readonly isReturn: boolean;
  readonly step: Step;
  readonly operation: KeyOperation;
};

export type CompiledHistory = {
  /** In the order of time; at equal times calls come first, so that the operations overlap. */
  readonly events: readonly HistoryEvent[];
  /** Of the puts with a rank, growing. */
  readonly revisions: readonly number[];
};

export type Finding = { readonly rule: string; readonly operations: readonly KeyOperation[] };

/** What is wrong at first sight, or the history made ready for the search. */
export function compile(
  history: readonly KeyOperation[],
  initial: KeyState,
): CompiledHistory | Finding {
  const names = new Names(history, initial);
  const finding = names.bindAll(history) ?? findBadAnswer(history);
  if (finding !== undefined) return finding;
  const revisions = names.sortedRevisions();
  const rankOf = new Map(revisions.map((revision, rank) => [revision, rank]));
  const events: HistoryEvent[] = [];
  for (const operation of history) {
    const revision = names.revisionWrittenBy(operation);
    const rank = revision === undefined ? undefined : rankOf.get(revision);
    const step = stepOf(operation, rank);
    if (step === undefined) continue;
    const { calledAt, returnedAt, outcome } = operation;
    events.push({ at: calledAt, isReturn: false, step, operation });
    if (outcome.kind === "unknown") continue;
    if (returnedAt < calledAt) throw new Error("an operation returned before it was called");
    events.push({ at: returnedAt, isReturn: true, step, operation });
  }
  events.sort((a, b) => a.at - b.at || Number(a.isReturn) - Number(b.isReturn));
  return { events, revisions };
}

/** Which put wrote which value at which revision. */
class Names {
  readonly #initial: KeyState;
  readonly #writers = new Map<string, KeyOperation>();
  readonly #revisions = new Map<string, number>();
  readonly #values = new Map<number, string>();

  constructor(history: readonly KeyOperation[], initial: KeyState) {
    this.#initial = initial;
    if (initial.revision > 0) this.#bind(initial.value, initial.revision);
    for (const operation of history) {
      const { action } = operation;
      if (action.kind !== "put") continue;
      if (this.#writers.has(action.value) || this.#revisions.has(action.value)) {
        throw new Error(`two puts of ${action.value}: values have to be unique`);
      }
      this.#writers.set(action.value, operation);
    }
  }

  bindAll(history: readonly KeyOperation[]): Finding | undefined {
    for (const operation of history) {
      const rule = this.#bindOne(operation);
      if (rule === undefined) continue;
      const writer =
        operation.outcome.kind === "found" ? this.#writers.get(operation.outcome.value) : operation;
      const operations = writer === undefined || writer === operation ? [] : [writer];
      return { rule, operations: [...operations, operation] };
    }
    return undefined;
  }

  #bindOne({ action, outcome }: KeyOperation): string | undefined {
    if (outcome.kind === "stored" && action.kind === "put") {
      return this.#bind(action.value, outcome.revision);
    }
    if (outcome.kind !== "found") return undefined;
    const { value, revision } = outcome;
    const isInitial = this.#initial.revision > 0 && value === this.#initial.value;
    const writer = this.#writers.get(value);
    if (writer === undefined && !isInitial) return "a value was read that nobody wrote";
    if (writer?.outcome.kind === "notApplied") return "a write was seen that was never applied";
    if (writer?.outcome.kind === "refused") return "a write was seen whose condition had failed";
    return this.#bind(value, revision);
  }

  #bind(value: string, revision: number): string | undefined {
    if (!Number.isSafeInteger(revision) || revision < 1) return `${revision} is no revision`;
    if ((this.#revisions.get(value) ?? revision) !== revision) return "a value has two revisions";
    if ((this.#values.get(revision) ?? value) !== value) return "a revision names two values";
    this.#revisions.set(value, revision);
    this.#values.set(revision, value);
    return undefined;
  }

  revisionWrittenBy({ action }: KeyOperation): number | undefined {
    return action.kind === "put" ? this.#revisions.get(action.value) : undefined;
  }

  /** Without the initial one. */
  sortedRevisions(): number[] {
    const all = [...this.#values.keys()].filter((revision) => revision !== this.#initial.revision);
    return all.sort((a, b) => a - b);
  }
}

/** Answers that contradict themselves. */
function findBadAnswer(history: readonly KeyOperation[]): Finding | undefined {
  for (const operation of history) {
    const { action, outcome } = operation;
    const condition = action.kind === "get" ? undefined : action.condition;
    const fail = (rule: string): Finding => ({ rule, operations: [operation] });
    if (outcome.kind === "refused") {
      if (condition === undefined) return fail("a request without a condition was refused");
      const wanted = condition.kind === "absent" ? 0 : condition.revision;
      if (wanted === outcome.revision) return fail("a condition that held was refused");
    }
    if (outcome.kind === "stored" && condition !== undefined) {
      if ((condition.kind === "absent") !== outcome.created) {
        return fail("a put says of the key what its condition excludes");
      }
    }
  }
  return undefined;
}

/** Undefined for what can have had no effect and says nothing. */
function stepOf(operation: KeyOperation, rank: number | undefined): Step | undefined {
  const { action, outcome, returnedAt } = operation;
  const misfit = (): Error => new Error(`a ${action.kind} was answered with ${outcome.kind}`);
  switch (outcome.kind) {
    case "notApplied":
      return undefined;
    case "found":
      if (action.kind !== "get") throw misfit();
      return { kind: "observe", need: outcome.revision };
    case "absent":
      if (action.kind === "put") throw misfit();
      return { kind: "observe", need: 0 };
    case "refused":
      return { kind: "observe", need: outcome.revision };
    case "stored": {
      if (action.kind !== "put" || rank === undefined) throw misfit();
      const found = outcome.created ? 0 : PRESENT;
      return { kind: "put", need: needOf(action.condition) ?? found, rank };
    }
    case "deleted":
      if (action.kind !== "delete") throw misfit();
      return { kind: "delete", need: needOf(action.condition) ?? PRESENT, returnedAt };
    case "unknown": {
      if (action.kind === "get") return undefined;
      const need = needOf(action.condition);
      if (action.kind === "delete") return { kind: "hiddenDelete", need: need ?? PRESENT };
      if (rank === undefined) return { kind: "hiddenPut", need: need ?? ANYTHING };
      return { kind: "put", need: need ?? ANYTHING, rank };
    }
    default:
      return outcome satisfies never;
  }
}

function needOf(condition: WriteCondition | undefined): number | undefined {
  if (condition === undefined) return undefined;
  return condition.kind === "absent" ? 0 : condition.revision;
}
