/**
 * A value that may be there already. Engines answer synchronously where they can; awaiting such an
 * answer would cost a turn of the microtask queue for every operation.
 */
export type MaybePromise<T> = T | Promise<T>;

export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise;
}
