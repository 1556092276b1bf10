/**
 * Who is there, of those that come and go all the time, such as connections: a `Set` would keep the dead ones alive
 * (`shared/number-table.ts` says why).
 */
import { NumberTable } from "./number-table.ts";

export class Roster<T extends NonNullable<unknown>> {
  readonly #table = new NumberTable<T>();
  #last = 0;

  get size(): number {
    return this.#table.size;
  }

  /** @returns takes it off again; to call that twice does nothing */
  add(item: T): () => void {
    const number = ++this.#last;
    this.#table.set(number, item);
    return () => {
      this.#table.delete(number);
    };
  }

  /** A copy, in no order: what happens to the roster meanwhile is not seen. */
  values(): T[] {
    return this.#table.values();
  }
}
