/**
 * The disk under one replica's Raft log, as the simulator needs it, and a model of it.
 *
 * `SimDisk` is asynchronous throughout: nothing is durable, and nothing is open, before the disk says
 * so from within `advance`. The model queues batches and makes them durable in order; a crash keeps
 * any number of the queued ones, of which nobody was told, and tears the next: a torn batch is gone as
 * a whole, as checksums make it in the real log. Another implementation can stand on a real
 * write-ahead log: it keeps a `LogImage` of what it has reported, for the checker to look at.
 */
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type { Entry, HardState, LogReset, LogStart } from "#storage-node/raft/types.ts";
import type { EventRandom } from "./random.ts";
import { violated } from "./violation.ts";

/** One batch, as a Ready hands it out. */
export type LogWrite = {
  readonly reset: LogReset | undefined;
  readonly truncateFrom: LogIndex | undefined;
  readonly entries: readonly Entry[];
  readonly hardState: HardState | undefined;
};

/** What a start finds. */
export type RecoveredLog = {
  readonly hardState: HardState;
  readonly start: LogStart;
  readonly entries: readonly Entry[];
};

export type SimDiskOwner = {
  /** This batch is durable, and with it every earlier one. Called in order, once for each write. */
  readonly onDurable: (write: LogWrite) => void;
  readonly onOpen: (recovered: RecoveredLog) => void;
};

export interface SimDisk {
  /** What certainly survives a crash at this moment. */
  readonly durable: LogImage;
  /** There is something to do for `advance`. */
  readonly busy: boolean;
  /** Starts reading what is there; `onOpen` follows. For a first start and after each crash. */
  open(): void;
  /** Queues one batch; `onDurable` follows. The disk keeps the object and must not change it. */
  write(write: LogWrite): void;
  /** Queues dropping all entries up to and with `start`, which are durable. Nothing follows. */
  compact(start: LogStart): void;
  /** Some of the work gets done: one sync, or the whole of an `open`. */
  advance(random: EventRandom, syncedMax: number): void;
  /**
   * Power is lost: any part of what is not durable may be gone, and nothing that is queued is reported
   * any more. Returns what was lost, for the statistics.
   */
  crash(random: EventRandom): { readonly lost: number; readonly torn: boolean };
}

const NOTHING: HardState = { term: 0 as Term, vote: 0 as ReplicaId, commit: 0 as LogIndex };
const BEGINNING: LogStart = { index: 0 as LogIndex, term: 0 as Term };

/** The contents of a log after some number of batches. */
export class LogImage {
  hardState: HardState = NOTHING;
  start: LogStart = BEGINNING;
  entries: Entry[] = [];

  get lastIndex(): LogIndex {
    return (this.start.index + this.entries.length) as LogIndex;
  }

  termAt(index: LogIndex): Term | undefined {
    if (index === this.start.index) return this.start.term;
    return this.entries[index - this.start.index - 1]?.term;
  }

  apply({ reset, truncateFrom, entries, hardState }: LogWrite): void {
    if (reset !== undefined) {
      this.start = reset.start;
      this.entries = [];
    }
    if (truncateFrom !== undefined) this.#cut(truncateFrom);
    for (const entry of entries) {
      if (entry.index !== this.lastIndex + 1) {
        violated("core", `a batch writes entry ${entry.index} behind ${this.lastIndex}`);
      }
      this.entries.push(entry);
    }
    if (hardState === undefined) return;
    if (hardState.term < this.hardState.term) {
      violated("term never goes back", `on disk from ${this.hardState.term} to ${hardState.term}`);
    }
    if (hardState.commit > this.lastIndex) {
      violated("core", `commit ${hardState.commit} on disk, the log ends at ${this.lastIndex}`);
    }
    this.hardState = hardState;
  }

  #cut(from: LogIndex): void {
    if (from <= this.start.index || from > this.lastIndex) {
      violated("core", `a cut from ${from} in a log ${this.start.index}..${this.lastIndex}`);
    }
    this.entries.length = from - this.start.index - 1;
  }

  compact(start: LogStart): void {
    if (start.index <= this.start.index) return;
    if (this.termAt(start.index) !== start.term) {
      violated("core", `compaction to ${start.index}@${start.term}, which is not on disk`);
    }
    this.entries.splice(0, start.index - this.start.index);
    this.start = start;
  }
}

type Queued =
  | { readonly kind: "write"; readonly write: LogWrite }
  | { readonly kind: "compact"; readonly start: LogStart };

/** The model. */
export class ModelDisk implements SimDisk {
  readonly durable = new LogImage();
  readonly #owner: SimDiskOwner;
  #queue: Queued[] = [];
  #opening = false;

  constructor(owner: SimDiskOwner) {
    this.#owner = owner;
  }

  get busy(): boolean {
    return this.#opening || this.#queue.length > 0;
  }

  open(): void {
    this.#opening = true;
  }

  write(write: LogWrite): void {
    this.#queue.push({ kind: "write", write });
  }

  compact(start: LogStart): void {
    this.#queue.push({ kind: "compact", start });
  }

  advance(random: EventRandom, syncedMax: number): void {
    if (this.#opening) {
      this.#opening = false;
      this.#owner.onOpen(this.durable);
      return;
    }
    const synced = Math.min(this.#queue.length, syncedMax === 1 ? 1 : 1 + random.below(syncedMax));
    // One sync covers them all: all of them are durable before the first is reported.
    const done = this.#queue.splice(0, synced);
    for (const each of done) this.#settle(each);
    for (const each of done) if (each.kind === "write") this.#owner.onDurable(each.write);
  }

  #settle(queued: Queued): void {
    if (queued.kind === "write") this.durable.apply(queued.write);
    else this.durable.compact(queued.start);
  }

  crash(random: EventRandom): { readonly lost: number; readonly torn: boolean } {
    const kept = random.below(this.#queue.length + 1);
    const lost = this.#queue.length - kept;
    for (let i = 0; i < kept; i++) this.#settle(this.#queue[i]!);
    this.#queue = [];
    this.#opening = false;
    return { lost, torn: lost > 0 && random.below(2) === 0 };
  }
}
