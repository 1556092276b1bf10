/**
 * What clients write down of one operation on one key: what they asked, what they were told, and when.
 * The language between recorders (`test/torture/`) and the checker (`check.ts`).
 *
 * Times are of one monotonic clock of one process; only their order is used. Values have to be unique
 * among the puts of a key, so that a value names the put that wrote it.
 */

/** `If-None-Match: *`, or `If-Match` with one entity tag. */
export type WriteCondition =
  | { readonly kind: "absent" }
  | { readonly kind: "revision"; readonly revision: number };

export type Action =
  | { readonly kind: "get" }
  | { readonly kind: "put"; readonly value: string; readonly condition?: WriteCondition }
  | { readonly kind: "delete"; readonly condition?: WriteCondition };

export type Outcome =
  | { readonly kind: "found"; readonly revision: number; readonly value: string }
  /** A get or a delete found no key. */
  | { readonly kind: "absent" }
  /** A put was carried out; `created` says that there was no key before. */
  | { readonly kind: "stored"; readonly revision: number; readonly created: boolean }
  /** A delete found the key and removed it. */
  | { readonly kind: "deleted" }
  /** The condition did not hold for `revision`, the current one; 0 for an absent key. */
  | { readonly kind: "refused"; readonly revision: number }
  /** No answer, or one that leaves it open: may take effect at any later time, once, or never. */
  | { readonly kind: "unknown" }
  /** The server vouches that it never takes effect. */
  | { readonly kind: "notApplied" };

export type KeyOperation = {
  readonly action: Action;
  readonly outcome: Outcome;
  readonly calledAt: number;
  /** When the answer was there, or waiting for it was given up. */
  readonly returnedAt: number;
  /** Who asked, through what, and under which request id: for people. */
  readonly client?: string;
};

/** What a key held; revision 0 for an absent key. */
export type KeyState = { readonly revision: number; readonly value: string };

export const ABSENT: KeyState = { revision: 0, value: "" };

/** One line for people. */
export function describeOperation(operation: KeyOperation): string {
  const { action, outcome, calledAt, returnedAt, client } = operation;
  const condition = "condition" in action ? describeCondition(action.condition) : "";
  const value = action.kind === "put" ? ` ${action.value}` : "";
  const who = client === undefined ? "" : ` (${client})`;
  const times = `[${calledAt.toFixed(3)}, ${outcome.kind === "unknown" ? "…" : returnedAt.toFixed(3)}]`;
  return `${times} ${action.kind}${value}${condition}: ${describeOutcome(outcome)}${who}`;
}

function describeCondition(condition: WriteCondition | undefined): string {
  if (condition === undefined) return "";
  return condition.kind === "absent" ? " if absent" : ` if at ${condition.revision}`;
}

function describeOutcome(outcome: Outcome): string {
  switch (outcome.kind) {
    case "found":
      return `${outcome.value} at ${outcome.revision}`;
    case "stored":
      return `${outcome.created ? "created" : "stored"} at ${outcome.revision}`;
    case "refused":
      return outcome.revision === 0 ? "refused, absent" : `refused, at ${outcome.revision}`;
    case "absent":
    case "deleted":
    case "unknown":
      return outcome.kind;
    case "notApplied":
      return "not applied";
    default:
      return outcome satisfies never;
  }
}
