/** What is to happen, in the order of true time; what is due at the same time, in the order of asking. */

type Item = { readonly dueMs: number; readonly order: number; readonly work: () => void };

const isBefore = (a: Item, b: Item): boolean =>
  a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);

export class Agenda {
  nowMs = 0;
  /** Items that were carried out. */
  done = 0;
  readonly #heap: Item[] = [];
  #order = 0;

  after(delayMs: number, work: () => void): void {
    const item = { dueMs: this.nowMs + delayMs, order: this.#order++, work };
    const heap = this.#heap;
    let at = heap.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(item, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = item;
  }

  /** Carries out what is due until then, including what that adds. */
  advance(byMs: number): void {
    const untilMs = this.nowMs + byMs;
    while (this.#heap.length > 0 && this.#heap[0]!.dueMs <= untilMs) {
      const { dueMs, work } = this.#pop();
      this.nowMs = dueMs;
      this.done++;
      work();
    }
    this.nowMs = untilMs;
  }

  #pop(): Item {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}
