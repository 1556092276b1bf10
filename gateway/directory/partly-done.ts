/**
 * For what takes more than one change of the directory: once the first is made, no failure of a later one may
 * say that nothing was done.
 */
import { KvError } from "#shared/errors.ts";

/** What to throw instead of `cause`. `done` says what is so already, as a clause. */
export function partlyDone(done: string, cause: unknown): unknown {
  // What is no KvError is answered with outcome `unknown` anyway.
  if (!(cause instanceof KvError)) return cause;
  return new KvError(cause.code, `${done}; then: ${cause.message}`, { outcome: "unknown", cause });
}
