/**
 * Sends values of which only the newest matters to a reader that may be slow: while its stream is full,
 * all but the last one are skipped. So a reader that has stopped costs a bounded amount of memory, also
 * while a rebalancing cluster makes a thousand maps of tens of kilobytes.
 */
export type LatestStream<T> = {
  readonly destroyed: boolean;
  write(value: T): boolean;
  once(event: "drain", listener: () => void): unknown;
};

/** `encode` is called only for what is sent. */
export function sendLatest<V, T>(stream: LatestStream<T>, encode: (value: V) => T) {
  let isFull = false;
  let next: { readonly value: V } | undefined;
  const send = (value: V): void => {
    if (stream.destroyed) return;
    if (isFull) {
      next = { value };
      return;
    }
    if (stream.write(encode(value))) return;
    isFull = true;
    stream.once("drain", () => {
      isFull = false;
      const waiting = next;
      next = undefined;
      if (waiting !== undefined) send(waiting.value);
    });
  };
  return send;
}
