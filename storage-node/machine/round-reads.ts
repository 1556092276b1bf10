/**
 * The rows that one group needs in one round of apply: collected entry by entry before the round's
 * one read, and taken in the same order while the entries are applied.
 *
 * Two mutations of one key must meet in one row, or the second would not see what the first wrote.
 * Keys of different groups differ, so each group finds its own repetitions: mostly it has one
 * mutation in a round and nothing to compare, seldom more than a few, and only for many of them is a
 * `Map` worth its price.
 *
 * Invariant: nothing is left over from a round. What is kept here are views of log entries, which
 * may be large.
 */
import type { Mutation } from "#proto/codec/messages.ts";
import { assert } from "#shared/assert.ts";
import { equalBytes, latin1 } from "#shared/bytes.ts";
import type { ApplyView, ViewRow } from "./view.ts";

/** Up to so many different rows are compared one by one. */
const ROWS_COMPARED_MAX = 8;

type Read = {
  readonly mutation: Mutation;
  /** None for a mutation that will not be carried out. */
  readonly row: ViewRow | undefined;
};

export class RoundReads {
  /** The machine whose rows they are; see `RowHeads`. */
  readonly #owner: number;
  /** Of all mutations of the round, in log order. */
  readonly #reads: Read[] = [];
  #taken = 0;
  /** Each row once. */
  readonly #rows: ViewRow[] = [];
  /** The same by their keys, once there are many. */
  #rowsByKey: Map<string, ViewRow> | undefined;

  constructor(owner: number) {
    this.#owner = owner;
  }

  /** Registers the row with `rowKey` for `mutation`. The buffer must not change during the round. */
  collect(mutation: Mutation, rowKey: Uint8Array, view: ApplyView): void {
    const row = this.#find(rowKey) ?? this.#add(rowKey, view);
    this.#reads.push({ mutation, row });
  }

  /** Registers a mutation that needs no row, because it will not be carried out. */
  collectNothing(mutation: Mutation): void {
    this.#reads.push({ mutation, row: undefined });
  }

  /** Takes the reads of the next `count` mutations; returns where they begin, for `rowAt`. */
  take(count: number): number {
    const first = this.#taken;
    this.#taken += count;
    return first;
  }

  /** The row of `mutation`, which must be the one that was collected at this place. */
  rowAt(place: number, mutation: Mutation): ViewRow {
    const read = this.#reads[place];
    assert(read?.mutation === mutation, "entries are applied in the order of their reads");
    assert(read.row !== undefined, "apply reads only rows that were needed");
    return read.row;
  }

  /** To be called after each entry: forgets the round when that was its last one. */
  entryEnds(): void {
    if (this.#taken < this.#reads.length) return;
    assert(this.#taken === this.#reads.length, "apply takes what was collected, no more");
    if (this.#taken === 0) return;
    this.#reads.length = 0;
    this.#taken = 0;
    this.#rows.length = 0;
    this.#rowsByKey = undefined;
  }

  #find(rowKey: Uint8Array): ViewRow | undefined {
    if (this.#rowsByKey !== undefined) return this.#rowsByKey.get(latin1(rowKey));
    for (const row of this.#rows) if (equalBytes(row.key, rowKey)) return row;
    return undefined;
  }

  #add(rowKey: Uint8Array, view: ApplyView): ViewRow {
    const row = view.need(this.#owner, rowKey);
    if (this.#rowsByKey !== undefined) this.#rowsByKey.set(latin1(rowKey), row);
    else if (this.#rows.push(row) > ROWS_COMPARED_MAX) {
      this.#rowsByKey = new Map(this.#rows.map((known) => [latin1(known.key), known]));
    }
    return row;
  }
}
