/** Waiting for a client that takes its answer slowly. */
import type { Writable } from "node:stream";

/** Resolves when writing may go on, or never needs to again. */
export function drained(stream: Writable): Promise<void> {
  if (stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const go = (): void => {
      stream.off("drain", go);
      stream.off("close", go);
      resolve();
    };
    stream.on("drain", go);
    stream.on("close", go);
  });
}
