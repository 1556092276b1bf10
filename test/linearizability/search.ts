/**
 * The search for an order in which the operations of one key can have taken effect.
 *
 * Wing and Gong ("Testing and verifying concurrent objects", J. Parallel Distrib. Comput. 17, 1993)
 * try every operation that may come next. Lowe ("Testing for linearizability", Concurrency and
 * Computation 29(4), 2017) remembers which states, a set of operations done together with the
 * object they leave behind, were tried before; and lets an operation take effect only when a
 * return asks for it ("just in time"). This is that search, breadth first: it walks along time and
 * keeps all configurations that are possible so far. So it needs neither recursion nor the whole
 * history at once. Where nothing overlaps, one configuration is left: the history is cut at its
 * quiescent points by itself.
 *
 * What keeps the number of configurations small, each without changing the verdict:
 * - Puts of known revision take effect in the order of their revisions (`compile.ts`): how many
 *   have is a number instead of a set.
 * - What changes nothing is done as soon as the state fits: it can stand in nobody's way.
 * - Of several unconditional deletes that wait, the one that returned first goes first.
 * - Hidden writes (unknown outcome, never seen) of one kind can stand for each other; how many are
 *   used up is a number. A configuration that has used more of them for the same is dropped.
 * - Nothing ends the time of a hidden write. So it takes effect right before what needs its effect, or
 *   it can as well be left out.
 *
 * What is left to grow is the number of ways in which hidden writes can have been used up. Three searches
 * bound it: one that keeps the cheapest way alone, whose yes is a proof; one in which hidden writes never
 * run out, whose no is a proof; and the exact one, where both leave it open.
 *
 * Revisions count the changes of a whole vshard one by one, deletes too. `revisionLeast` is the least
 * that the last change of the key can have had; it keeps changes from being squeezed in where no
 * revision is left for them.
 */
import { ANYTHING, type CompiledHistory, PRESENT, type Step } from "./compile.ts";
import type { KeyOperation, KeyState } from "./operation.ts";

/** The state after a hidden put, as long as nothing tells its revision. */
const HIDDEN = -1;

/** Configurations looked at for one return, and for one history: beyond them the search gives up. */
const EXPANSIONS_PER_RETURN_MAX = 50_000;
const EXPANSIONS_PER_HISTORY_MAX = 1_000_000;

export type SearchVerdict =
  | { readonly kind: "linearizable"; readonly expansions: number }
  | {
      readonly kind: "violation";
      /** Can have taken effect at no time up to its return. */
      readonly operation: KeyOperation;
      /** The key just before that return, as far as it can be told, one line for each possibility. */
      readonly states: readonly string[];
    }
  | { readonly kind: "gaveUp"; readonly operation: KeyOperation };

type Configuration = {
  /** 0 for no key, `HIDDEN`, or a revision. */
  readonly revision: number;
  readonly revisionLeast: number;
  /** Puts of known revision that have taken effect. */
  readonly puts: number;
  /** Observations and deletes that have taken effect and not returned: a bit for each slot. */
  readonly observed: bigint;
  readonly deleted: bigint;
  readonly hiddenDeletes: number;
  readonly hiddenPuts: number;
  readonly hiddenCreates: number;
  /** The last change was a hidden one, and nothing has needed it yet. */
  readonly isUnused: boolean;
};

/** An observation or delete between its call and its return. */
type Pending = { readonly step: Step; readonly bit: bigint; readonly slot: number };

/** How the ways are bounded in which hidden writes can have been used up. */
type Economy = "thrifty" | "unlimited" | "exact";

/** Configurations that differ in more than what they have used up, each with the thriftiest of them. */
class Frontier {
  size = 0;
  /** Something was left out that is not worse than what was kept. */
  hasLeftOut = false;
  readonly #isThrifty: boolean;
  readonly #byKey = new Map<string, Configuration[]>();
  /** By their cost, so that the cheapest are looked into first. */
  readonly #byCost = new Map<number, Configuration[]>();
  #least = Number.POSITIVE_INFINITY;
  #most = 0;

  constructor(economy: Economy) {
    this.#isThrifty = economy === "thrifty";
  }

  add(candidate: Configuration): void {
    const { revision, puts, deleted, observed, isUnused } = candidate;
    const key = `${revision} ${puts} ${deleted} ${observed} ${isUnused}`;
    const alike = this.#byKey.get(key);
    if (alike === undefined) this.#byKey.set(key, [candidate]);
    else {
      if (alike.some((known) => isAtLeastAsGood(known, candidate))) return;
      // Cheaper ones came before it: it is kept for the sake of revisions that it leaves free.
      const isLess = alike.every((known) => candidate.revisionLeast < known.revisionLeast);
      if (this.#isThrifty && !isLess) {
        this.hasLeftOut = true;
        return;
      }
      alike.push(candidate);
    }
    this.size++;
    const cost = candidate.hiddenDeletes + candidate.hiddenPuts + candidate.hiddenCreates;
    const same = this.#byCost.get(cost);
    if (same === undefined) this.#byCost.set(cost, [candidate]);
    else same.push(candidate);
    this.#least = Math.min(this.#least, cost);
    this.#most = Math.max(this.#most, cost);
  }

  /** Removes the cheapest; undefined when none is left. */
  take(): Configuration | undefined {
    for (; this.#least <= this.#most; this.#least++) {
      const next = this.#byCost.get(this.#least)?.pop();
      if (next !== undefined) return next;
    }
    return undefined;
  }

  all(): readonly Configuration[] {
    return [...this.#byKey.values()].flat();
  }
}

function isAtLeastAsGood(a: Configuration, b: Configuration): boolean {
  return (
    a.revisionLeast <= b.revisionLeast &&
    a.hiddenDeletes <= b.hiddenDeletes &&
    a.hiddenPuts <= b.hiddenPuts &&
    a.hiddenCreates <= b.hiddenCreates
  );
}

class GaveUp extends Error {}

class Search {
  expansions = 0;
  hasLeftOut = false;
  readonly #economy: Economy;
  /** Of a hidden write. */
  readonly #price: number;
  #configurations: readonly Configuration[];
  readonly #revisions: readonly number[];
  readonly #known: ReadonlySet<number>;
  /** By rank: whether the put has been called, and what it needs. */
  readonly #puts: (Step | undefined)[];
  readonly #pending = new Map<Step, Pending>();
  readonly #freeSlots: number[] = [];
  #slots = 0;
  // Hidden writes called so far.
  #deletes = 0;
  #unconditionalPuts = 0;
  #creates = 0;
  /** By the revision that their condition names. */
  readonly #conditionalDeletes = new Set<number>();
  readonly #conditionalPuts = new Set<number>();
  /** Those of them that no known put has, growing. */
  readonly #conditionalUnknown: number[] = [];

  constructor(revisions: readonly number[], initial: KeyState, economy: Economy) {
    const { revision } = initial;
    this.#economy = economy;
    this.#price = economy === "unlimited" ? 0 : 1;
    this.#revisions = revisions;
    this.#known = new Set([...revisions, revision]);
    this.#puts = revisions.map(() => undefined);
    this.#configurations = [
      {
        revision,
        revisionLeast: revision,
        puts: 0,
        observed: 0n,
        deleted: 0n,
        hiddenDeletes: 0,
        hiddenPuts: 0,
        hiddenCreates: 0,
        isUnused: false,
      },
    ];
  }

  onCall(step: Step): void {
    switch (step.kind) {
      case "put":
        this.#puts[step.rank] = step;
        return;
      case "hiddenDelete":
        if (step.need === PRESENT) this.#deletes++;
        else this.#addConditional(this.#conditionalDeletes, step.need);
        return;
      case "hiddenPut":
        if (step.need === ANYTHING) this.#unconditionalPuts++;
        else if (step.need === 0) this.#creates++;
        else this.#addConditional(this.#conditionalPuts, step.need);
        return;
      case "observe":
      case "delete": {
        const slot = this.#freeSlots.pop() ?? this.#slots++;
        this.#pending.set(step, { step, slot, bit: 1n << BigInt(slot) });
        if (step.kind === "observe") this.#configurations = this.#configurations.map(this.#settle);
        return;
      }
      default:
        step satisfies never;
    }
  }

  #addConditional(to: Set<number>, revision: number): void {
    to.add(revision);
    if (this.#known.has(revision)) return;
    const at = this.#conditionalUnknown.findIndex((other) => other >= revision);
    if (at < 0) this.#conditionalUnknown.push(revision);
    else if (this.#conditionalUnknown[at] !== revision) {
      this.#conditionalUnknown.splice(at, 0, revision);
    }
  }

  /** @returns false when no configuration lets the operation have taken effect by now. */
  onReturn(step: Step): boolean {
    const pending = this.#pending.get(step);
    const found = new Frontier(this.#economy);
    const tried = new Frontier(this.#economy);
    for (const configuration of this.#configurations) tried.add(configuration);
    for (let next = tried.take(); next !== undefined; next = tried.take()) {
      const configuration = next;
      if (this.#isDone(configuration, step, pending)) {
        found.add(pending === undefined ? configuration : without(configuration, pending));
        continue;
      }
      this.expansions++;
      const isTooMuch =
        tried.size > EXPANSIONS_PER_RETURN_MAX || this.expansions > EXPANSIONS_PER_HISTORY_MAX;
      if (isTooMuch) throw new GaveUp();
      for (const successor of this.#successors(configuration)) tried.add(this.#settle(successor));
    }
    this.hasLeftOut ||= tried.hasLeftOut || found.hasLeftOut;
    if (found.size === 0) return false;
    this.#configurations = found.all();
    if (pending !== undefined) {
      this.#pending.delete(step);
      this.#freeSlots.push(pending.slot);
    }
    return true;
  }

  #isDone(configuration: Configuration, step: Step, pending: Pending | undefined): boolean {
    if (step.kind === "put") return configuration.puts > step.rank;
    return ((configuration.observed | configuration.deleted) & pending!.bit) !== 0n;
  }

  readonly #settle = (configuration: Configuration): Configuration => {
    const { revision } = configuration;
    let { observed } = configuration;
    for (const { step, bit } of this.#pending.values()) {
      if (step.kind !== "observe" || step.need !== revision || (observed & bit) !== 0n) continue;
      observed |= bit;
    }
    if (observed === configuration.observed) return configuration;
    return { ...configuration, observed, isUnused: false };
  };

  *#successors(from: Configuration): Generator<Configuration> {
    const { revision, revisionLeast, puts } = from;
    // What comes before the next put of known revision must have a smaller one.
    const revisionBound = this.#revisions[puts] ?? Number.POSITIVE_INFINITY;
    const put = this.#puts[puts];
    const isPutNext =
      put !== undefined && fits(revision, put.need) && revisionLeast < revisionBound;
    if (isPutNext && !(from.isUnused && put.need === ANYTHING)) {
      const after = { revision: revisionBound, revisionLeast: revisionBound, puts: puts + 1 };
      yield { ...from, ...after, isUnused: false };
    }
    const askedFor = this.#revisionsAskedFor(from, revisionBound);
    if (revision === HIDDEN) {
      for (const told of askedFor) yield { ...from, revision: told, revisionLeast: told };
    }
    if (revisionLeast + 1 >= revisionBound) return;
    const changed = { ...from, revisionLeast: revisionLeast + 1, isUnused: false };
    if (revision !== 0) yield* this.#deletesFrom({ ...changed, revision: 0 }, from);
    yield* this.#hiddenFrom({ ...changed, isUnused: true }, from, askedFor.size > 0);
  }

  *#hiddenFrom(
    changed: Configuration,
    from: Configuration,
    isRevisionAskedFor: boolean,
  ): Generator<Configuration> {
    const { revision, isUnused } = from;
    const deleted = { ...changed, revision: 0 };
    if (revision !== 0 && !isUnused && from.hiddenDeletes < this.#deletes) {
      yield { ...deleted, hiddenDeletes: from.hiddenDeletes + this.#price };
    }
    // Once used it cannot be used again: the key never comes back to that revision.
    if (this.#conditionalDeletes.has(revision)) yield deleted;
    // Where a key is, another one in its place helps only who waits for a certain revision.
    if (revision !== 0 && !isRevisionAskedFor) return;
    const hidden = { ...changed, revision: HIDDEN };
    if (!isUnused && from.hiddenPuts < this.#unconditionalPuts) {
      yield { ...hidden, hiddenPuts: from.hiddenPuts + this.#price };
    }
    if (revision === 0 && from.hiddenCreates < this.#creates) {
      yield { ...hidden, hiddenCreates: from.hiddenCreates + this.#price };
    }
    if (this.#conditionalPuts.has(revision)) yield hidden;
  }

  *#deletesFrom(deleted: Configuration, from: Configuration): Generator<Configuration> {
    let first: Pending | undefined;
    let firstReturnedAt = Number.POSITIVE_INFINITY;
    for (const pending of this.#pending.values()) {
      const { step, bit } = pending;
      if (step.kind !== "delete" || (from.deleted & bit) !== 0n) continue;
      if (step.need === from.revision) yield { ...deleted, deleted: deleted.deleted | bit };
      else if (step.need === PRESENT && step.returnedAt < firstReturnedAt) {
        first = pending;
        firstReturnedAt = step.returnedAt;
      }
    }
    if (first !== undefined) yield { ...deleted, deleted: deleted.deleted | first.bit };
  }

  /** Revisions that somebody waits to find, and that only a hidden put can have had. */
  #revisionsAskedFor(from: Configuration, revisionBound: number): ReadonlySet<number> {
    const asked = new Set<number>();
    const ask = (need: number): void => {
      const isPossible = need >= Math.max(1, from.revisionLeast) && need < revisionBound;
      if (isPossible && !this.#known.has(need)) asked.add(need);
    };
    for (const { step, bit } of this.#pending.values()) {
      if (((from.observed | from.deleted) & bit) === 0n) ask(step.need);
    }
    const put = this.#puts[from.puts];
    if (put !== undefined) ask(put.need);
    for (let at = this.#conditionalUnknown.length - 1; at >= 0; at--) {
      const revision = this.#conditionalUnknown[at]!;
      if (revision < from.revisionLeast) break;
      ask(revision);
    }
    return asked;
  }

  describeStates(): readonly string[] {
    return this.#configurations.map(({ revision, revisionLeast, puts }) => {
      const state = revision === 0 ? "absent" : `at ${revision}`;
      const next = this.#revisions[puts];
      const hidden = `there by a write of unknown outcome, at ${revisionLeast} or later`;
      const then = next === undefined ? "" : `, next known revision ${next}`;
      return `${revision === HIDDEN ? hidden : state}${then}`;
    });
  }
}

const fits = (revision: number, need: number): boolean =>
  need === ANYTHING || (need === PRESENT ? revision !== 0 : need === revision);

function without(configuration: Configuration, { step, bit }: Pending): Configuration {
  if (step.kind === "delete") {
    return { ...configuration, deleted: configuration.deleted & ~bit };
  }
  return { ...configuration, observed: configuration.observed & ~bit };
}

function searchOnce(
  { events, revisions }: CompiledHistory,
  initial: KeyState,
  economy: Economy,
): SearchVerdict & { readonly isProof: boolean } {
  const state = new Search(revisions, initial, economy);
  for (const { isReturn, step, operation } of events) {
    if (!isReturn) state.onCall(step);
    else {
      try {
        if (state.onReturn(step)) continue;
      } catch (error) {
        if (error instanceof GaveUp) return { kind: "gaveUp", operation, isProof: false };
        throw error;
      }
      const states = state.describeStates();
      return { kind: "violation", operation, states, isProof: !state.hasLeftOut };
    }
  }
  const { expansions } = state;
  return { kind: "linearizable", expansions, isProof: economy !== "unlimited" };
}

export function search(compiled: CompiledHistory, initial: KeyState): SearchVerdict {
  for (const economy of ["thrifty", "unlimited"] as const) {
    const { isProof, ...verdict } = searchOnce(compiled, initial, economy);
    if (isProof) return verdict;
  }
  const { isProof: _, ...verdict } = searchOnce(compiled, initial, "exact");
  return verdict;
}
