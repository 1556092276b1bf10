/**
 * The ReadIndex rounds of a replica that are neither confirmed nor given up, in the order in which they were started.
 *
 * A list and not a `Map`, see `shared/number-table.ts`: there are few of them, and the oldest is mostly the one asked for.
 */
import type { ReadToken } from "#storage-node/raft/types.ts";
import type { ReadRound } from "./waiting.ts";

type Started = { readonly token: ReadToken; readonly round: ReadRound };

export class ReadRounds {
  readonly #started: Started[] = [];

  get size(): number {
    return this.#started.length;
  }

  /** Tokens grow. */
  add(token: ReadToken, round: ReadRound): void {
    this.#started.push({ token, round });
  }

  take(token: ReadToken): ReadRound | undefined {
    const at = this.#started.findIndex((one) => one.token === token);
    return at === -1 ? undefined : this.#started.splice(at, 1)[0]!.round;
  }

  /** Those that were started before, which are the first. */
  takeStartedBefore(monotonicMs: number): readonly ReadRound[] {
    const end = this.#started.findIndex(({ round }) => round.startedMs >= monotonicMs);
    return this.#take(end === -1 ? this.#started.length : end);
  }

  takeAll(): readonly ReadRound[] {
    return this.#take(this.#started.length);
  }

  #take(count: number): readonly ReadRound[] {
    return this.#started.splice(0, count).map(({ round }) => round);
  }
}
