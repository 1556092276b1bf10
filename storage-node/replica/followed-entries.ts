/**
 * Traced entries of another leader on their way through this replica. Almost always empty.
 *
 * A trace may come without its entry, twice, or for one that is overwritten: nothing is owed to it.
 */
import { TRACED_ENTRIES_PER_GROUP_MAX } from "#shared/limits.ts";
import type { Entry } from "#storage-node/raft/types.ts";
import type { CarriedTrace } from "#storage-node/transport/transport.ts";
import type { FollowedEntry } from "./timeline.ts";

export class FollowedEntries {
  #entries: FollowedEntry[] = [];
  #appliedIndex = 0;

  /** `trace` came together with its entry. */
  expect(trace: CarriedTrace, receivedMs: number): void {
    const { index, term } = trace;
    if (index <= this.#appliedIndex) return;
    if (this.#entries.some((entry) => entry.index === index && entry.term === term)) return;
    if (this.#entries.length >= TRACED_ENTRIES_PER_GROUP_MAX) this.#entries.shift();
    this.#entries.push({ ...trace, receivedMs, syncedMs: 0, committedMs: 0, appliedMs: 0 });
  }

  synced(entries: readonly Entry[], nowMs: number): void {
    if (this.#entries.length === 0 || entries.length === 0) return;
    const first = entries[0]!.index;
    for (const entry of this.#entries) {
      const written = entries[entry.index - first];
      if (written?.term === entry.term && entry.syncedMs === 0) entry.syncedMs = nowMs;
    }
  }

  committed(index: number, nowMs: number): void {
    for (const entry of this.#entries) {
      if (entry.index <= index && entry.committedMs === 0) entry.committedMs = nowMs;
    }
  }

  /** @returns those that were applied with the entries up to `last`, and had been written here */
  applied({ index }: Pick<Entry, "index">, nowMs: number): readonly FollowedEntry[] {
    this.#appliedIndex = index;
    if (this.#entries.length === 0) return this.#entries;
    const done = this.#entries.filter((entry) => entry.index <= index && entry.syncedMs !== 0);
    this.#entries = this.#entries.filter((entry) => entry.index > index);
    for (const entry of done) entry.appliedMs = nowMs;
    return done;
  }
}
