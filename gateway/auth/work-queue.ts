/** Runs costly work a few at a time; the rest waits in a bounded line, and more is refused. */
export class WorkQueue {
  readonly #atOnceMax: number;
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(bounds: { readonly atOnceMax: number; readonly waitingMax: number }) {
    this.#atOnceMax = bounds.atOnceMax;
    this.#waitingMax = bounds.waitingMax;
  }

  get hasRoom(): boolean {
    return this.#running < this.#atOnceMax || this.#waiting.length < this.#waitingMax;
  }

  /** Undefined when the line is full. Rejects when the work does. */
  run<T>(work: () => Promise<T>): Promise<T> | undefined {
    if (this.#running < this.#atOnceMax) {
      this.#running++;
      return this.#carryOut(work);
    }
    if (this.#waiting.length >= this.#waitingMax) return undefined;
    const turn = new Promise<void>((resolve) => this.#waiting.push(resolve));
    return turn.then(() => this.#carryOut(work));
  }

  async #carryOut<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      // The place is handed on: given back, somebody else could take it before the next one begins.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
