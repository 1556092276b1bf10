/** Rows by name, and in the order of their names: all that begin with a prefix stand together. */
import type { DirectoryRow } from "./directory.ts";

export class RowSet {
  readonly #rows = new Map<string, DirectoryRow>();
  /** Sorted by UTF-16 units, which for ASCII is the order of bytes. */
  #names: string[] = [];

  get size(): number {
    return this.#names.length;
  }

  get(name: string): DirectoryRow | undefined {
    return this.#rows.get(name);
  }

  names(): readonly string[] {
    return this.#names;
  }

  list(prefix: string): readonly DirectoryRow[] {
    const found: DirectoryRow[] = [];
    for (let at = this.#place(prefix); at < this.#names.length; at++) {
      const name = this.#names[at]!;
      if (!name.startsWith(prefix)) break;
      found.push(this.#rows.get(name)!);
    }
    return found;
  }

  /** Undefined removes the row. */
  apply(changes: ReadonlyMap<string, DirectoryRow | undefined>): void {
    const added: string[] = [];
    for (const [name, row] of changes) {
      if (row === undefined) this.#remove(name);
      else {
        if (!this.#rows.has(name)) added.push(name);
        this.#rows.set(name, row);
      }
    }
    if (added.length < SORTED_ABOVE) for (const name of added) this.#insert(name);
    else this.#names = [...this.#names, ...added].sort((a, b) => (a < b ? -1 : 1));
  }

  #remove(name: string): void {
    if (this.#rows.delete(name)) this.#names.splice(this.#place(name), 1);
  }

  #insert(name: string): void {
    this.#names.splice(this.#place(name), 0, name);
  }

  /** Of the first name that does not stand before `name`. */
  #place(name: string): number {
    let low = 0;
    let high = this.#names.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#names[middle]! < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** So many names at once are sorted in with all others, rather than one by one. */
const SORTED_ABOVE = 64;
