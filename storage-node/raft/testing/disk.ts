/**
 * A model of one replica's write-ahead log for tests: batches are queued, become durable in order
 * when told, and a crash loses those that are not.
 */
import { assert } from "#shared/assert.ts";
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type { Entry, HardState, LogStart, Message, Ready } from "#storage-node/raft/types.ts";

/** One write, and what may happen only once it is durable. */
export type Batch = {
  readonly number: number;
  readonly ready: Ready;
  readonly messages: Message[];
};

export class TestDisk {
  hardState: HardState = { term: 0 as Term, vote: 0 as ReplicaId, commit: 0 as LogIndex };
  start: LogStart = { index: 0 as LogIndex, term: 0 as Term };
  entries: Entry[] = [];
  #queue: Batch[] = [];
  #batches = 0;

  get pending(): readonly Batch[] {
    return this.#queue;
  }
  get lastIndex(): LogIndex {
    return (this.start.index + this.entries.length) as LogIndex;
  }

  /** Queues the write of a Ready; its `messagesAfterAppend` wait for it. */
  write(ready: Ready): Batch {
    const batch = { number: ++this.#batches, ready, messages: [...ready.messagesAfterAppend] };
    this.#queue.push(batch);
    return batch;
  }

  /** Messages of a Ready without a write: false when nothing is under way that they must await. */
  holdBehindWrites(messages: readonly Message[]): boolean {
    const last = this.#queue.at(-1);
    if (last === undefined) return false;
    last.messages.push(...messages);
    return true;
  }

  /** Makes the oldest queued batch durable. */
  sync(): Batch | undefined {
    const batch = this.#queue.shift();
    if (batch === undefined) return undefined;
    const { reset, hardState, truncateFrom, entries } = batch.ready;
    if (reset !== undefined) {
      this.start = reset.start;
      this.entries = [];
    }
    if (truncateFrom !== undefined) this.entries.length = truncateFrom - this.start.index - 1;
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, "a batch continues the log on disk exactly");
      this.entries.push(entry);
    }
    if (hardState !== undefined) {
      assert(hardState.term >= this.hardState.term, "the term on disk never goes back");
      assert(hardState.commit <= this.lastIndex, "the commit index on disk is within the log");
      this.hardState = hardState;
    }
    return batch;
  }

  /** Power is lost: batches not yet synced are gone. */
  crash(): void {
    this.#queue = [];
  }

  termAt(index: LogIndex): Term | undefined {
    if (index === this.start.index) return this.start.term;
    return this.entries[index - this.start.index - 1]?.term;
  }

  compact(index: LogIndex): void {
    const term = this.termAt(index);
    assert(term !== undefined && index <= this.lastIndex, "only durable entries are compacted");
    this.entries.splice(0, index - this.start.index);
    this.start = { index, term };
  }
}
