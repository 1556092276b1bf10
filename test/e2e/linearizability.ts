/**
 * Whether a history of one key is linearizable: whether its operations can be put into one order
 * that a register would answer in the same way, in which no operation comes before another that
 * had ended when it began.
 *
 * The search of Wing and Gong, with Lowe's memory of states already tried: a set of operations
 * done together with the value they left behind is never explored twice. Keys are independent of
 * each other, and linearizability is local, so checking each key by itself is enough.
 *
 * Values have to be unique in a history: a value then names the write that made it.
 */

/** The value of the register; undefined while the key is absent. */
export type RegisterValue = string | undefined;

export type RegisterOperation =
  | { readonly kind: "read"; readonly value: RegisterValue }
  /** A put without a condition, or (value undefined) a delete that does not say what it found. */
  | { readonly kind: "write"; readonly value: RegisterValue }
  /** A put or delete on condition that the value is `expected`, and whether it was carried out. */
  | {
      readonly kind: "swap";
      readonly expected: RegisterValue;
      readonly value: RegisterValue;
      readonly succeeded: boolean;
    };

export type HistoryEntry = {
  readonly operation: RegisterOperation;
  /** Any clock of one process; units do not matter. */
  readonly startedAt: number;
  /** Infinity for an unknown outcome: it may have taken effect at any time, or may never. */
  readonly endedAt: number;
};

/** What a register at `before` becomes; undefined when it could not have answered like that. */
function step(
  before: RegisterValue,
  operation: RegisterOperation,
): { readonly after: RegisterValue } | undefined {
  switch (operation.kind) {
    case "read":
      return operation.value === before ? { after: before } : undefined;
    case "write":
      return { after: operation.value };
    case "swap":
      if ((operation.expected === before) !== operation.succeeded) return undefined;
      return { after: operation.succeeded ? operation.value : before };
    default:
      return operation satisfies never;
  }
}

/**
 * @param history in any order. A swap of unknown outcome is given as one that succeeded.
 * @param initial the value before the first operation.
 */
export function isLinearizable(
  history: readonly HistoryEntry[],
  initial: RegisterValue = undefined,
): boolean {
  const entries = [...history].sort((a, b) => a.startedAt - b.startedAt);
  const tried = new Set<string>();
  const done = new Uint8Array(Math.ceil(entries.length / 8));
  const isDone = (at: number): boolean => (done[at >> 3]! & (1 << (at & 7))) !== 0;

  const search = (value: RegisterValue): boolean => {
    const state = `${Buffer.from(done).toString("latin1")}${value === undefined ? "" : `=${value}`}`;
    if (tried.has(state)) return false;
    tried.add(state);
    // Only what began before everything that is not done ended may be next.
    let firstEnd = Number.POSITIVE_INFINITY;
    for (const [at, { endedAt }] of entries.entries()) {
      if (!isDone(at)) firstEnd = Math.min(firstEnd, endedAt);
    }
    // All that is left is of unknown outcome, and may never have taken effect.
    if (firstEnd === Number.POSITIVE_INFINITY) return true;
    for (const [at, { operation, startedAt }] of entries.entries()) {
      if (startedAt > firstEnd) break;
      if (isDone(at)) continue;
      const next = step(value, operation);
      if (next === undefined) continue;
      done[at >> 3]! |= 1 << (at & 7);
      if (search(next.after)) return true;
      done[at >> 3]! &= ~(1 << (at & 7));
    }
    return false;
  };
  return search(initial);
}
