/**
 * The last events of all vshards, for watches that are a little behind: the oldest go first, whichever vshard
 * they are of, when all together are too many bytes. Those of a vshard are gapless, up to the newest that
 * watches have been given.
 */
import type { VshardId } from "#shared/ids.ts";
import type { WatchEvent } from "./event.ts";

type Row = {
  /** Revision behind which `events` begin. */
  floor: number;
  /** From `start` on; what lies before it has gone. */
  events: WatchEvent[];
  start: number;
  isGone: boolean;
};

/** So many places that find nothing are not worth clearing away. */
const SPENT_PLACES_MIN = 1_024;

export class RecentEvents {
  readonly #bytesMax: number;
  /** By vshard. */
  readonly #rows = new Map<VshardId, Row>();
  /** Of each event the vshard, in the order in which they came; from `#orderStart` on. */
  #order: Row[] = [];
  #orderStart = 0;
  /** Places in the order whose events went with their row. */
  #spent = 0;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What the order of events holds, with those that are gone and not cleared away. */
  get places(): number {
    return this.#order.length;
  }

  /** The next event of the vshard has the revision behind this one; what was kept is forgotten. */
  reset(vshard: VshardId, revision: number): void {
    const row = this.#rows.get(vshard);
    if (row !== undefined) {
      for (let i = row.start; i < row.events.length; i++) {
        this.#bytes -= row.events[i]!.sizeBytes;
      }
      this.#spent += row.events.length - row.start;
      row.events = [];
      row.start = 0;
      row.isGone = true;
      this.#clearSpent();
    }
    this.#rows.set(vshard, { floor: revision, events: [], start: 0, isGone: false });
  }

  add(event: WatchEvent): void {
    const row = this.#rows.get(event.vshard);
    if (row === undefined) return;
    row.events.push(event);
    this.#order.push(row);
    this.#bytes += event.sizeBytes;
    while (this.#bytes > this.#bytesMax) this.#dropOldest();
  }

  /** Whether all behind this revision are here. */
  covers(vshard: VshardId, revision: number): boolean {
    const row = this.#rows.get(vshard);
    return row !== undefined && revision >= row.floor;
  }

  /** Up to `countMax` of the events behind this revision; undefined when they are not all here. */
  after(vshard: VshardId, revision: number, countMax: number): readonly WatchEvent[] | undefined {
    const row = this.#rows.get(vshard);
    if (row === undefined || revision < row.floor) return undefined;
    const first = row.start + revision - row.floor;
    return row.events.slice(first, first + countMax);
  }

  #dropOldest(): void {
    const row = this.#order[this.#orderStart++]!;
    if (row.isGone) this.#spent--;
    else if (row.start < row.events.length) {
      this.#bytes -= row.events[row.start]!.sizeBytes;
      row.floor++;
      row.start++;
      if (row.start > 64 && row.start * 2 > row.events.length) {
        row.events = row.events.slice(row.start);
        row.start = 0;
      }
    }
    if (this.#orderStart > 1_024 && this.#orderStart * 2 > this.#order.length) {
      this.#order = this.#order.slice(this.#orderStart);
      this.#orderStart = 0;
    }
  }

  /** Nothing else does where vshards come and go before the bytes run out. */
  #clearSpent(): void {
    const count = this.#order.length - this.#orderStart;
    if (this.#spent < SPENT_PLACES_MIN || this.#spent * 2 < count) return;
    this.#order = this.#order.slice(this.#orderStart).filter(({ isGone }) => !isGone);
    this.#orderStart = 0;
    this.#spent = 0;
  }
}
