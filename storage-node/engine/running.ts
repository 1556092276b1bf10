/** The calls of an engine that run on other threads; the engine closes when they have settled. */
export class Running {
  readonly #promises = new Set<Promise<unknown>>();

  /** The same promise, remembered until it settles. */
  track<T>(promise: Promise<T>): Promise<T> {
    this.#promises.add(promise);
    const forget = () => this.#promises.delete(promise);
    promise.then(forget, forget);
    return promise;
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#promises);
  }
}
