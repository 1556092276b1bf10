/** The entries that a replica has proposed and not answered, in the order of their index. */
import type { Entry } from "#storage-node/raft/types.ts";
import type { ProposedEntry } from "./waiting.ts";

export class ProposedEntries {
  #entries: ProposedEntry[] = [];

  get all(): readonly ProposedEntry[] {
    return this.#entries;
  }

  add(
    { index, term }: Pick<ProposedEntry, "index" | "term">,
    { writes, body }: Pick<ProposedEntry, "writes" | "body">,
    { receivedMs, proposedMs }: Pick<ProposedEntry, "receivedMs" | "proposedMs">,
  ): ProposedEntry {
    const entry: ProposedEntry = {
      index,
      term,
      writes,
      body,
      trace: undefined,
      receivedMs,
      proposedMs,
      syncedMs: 0,
      committedMs: 0,
      appliedMs: 0,
    };
    this.#entries.push(entry);
    return entry;
  }

  /** The one that the log has there, unless another leader's has taken its place. */
  find({ index, term }: Pick<Entry, "index" | "term">): ProposedEntry | undefined {
    for (const entry of this.#entries) {
      if (entry.index === index) return entry.term === term ? entry : undefined;
      if (entry.index > index) return undefined;
    }
    return undefined;
  }

  /** The entries up to `index` are on this node's disk. */
  synced(index: number, nowMs: number): void {
    for (const entry of this.#entries) {
      if (entry.index > index) return;
      if (entry.syncedMs === 0) entry.syncedMs = nowMs;
    }
  }

  /** The entries up to `index` are committed. */
  committed(index: number, nowMs: number): void {
    for (const entry of this.#entries) {
      if (entry.index > index) return;
      if (entry.committedMs === 0) entry.committedMs = nowMs;
    }
  }

  /** Takes out the first one, if its index is at most `index`. */
  takeUpTo(index: number): ProposedEntry | undefined {
    const first = this.#entries[0];
    if (first === undefined || first.index > index) return undefined;
    this.#entries.shift();
    return first;
  }

  takeAll(): readonly ProposedEntry[] {
    const entries = this.#entries;
    this.#entries = [];
    return entries;
  }
}
