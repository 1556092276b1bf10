/**
 * One replica for tests: a `Raft`, its modelled disk, and a Ready loop that keeps the contract of
 * types.ts to the letter. Sending, and looking on, are callbacks.
 */
import type { GroupId, LogIndex, ReplicaId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type {
  Configuration,
  Entry,
  Message,
  RaftOptions,
  ReadState,
  ReadToken,
  Ready,
} from "#storage-node/raft/types.ts";
import { TestDisk } from "./disk.ts";

export type Tuning = Partial<
  Pick<
    RaftOptions,
    | "preVote"
    | "checkQuorum"
    | "inflightMessagesMax"
    | "inflightBytesMax"
    | "appendBytesMax"
    | "uncommittedBytesMax"
    | "electionTicks"
    | "heartbeatTicks"
  >
>;

export type MemberHooks = {
  readonly send: (message: Message) => void;
  /** Before the Ready's duties are carried out; `batch` numbers its write, 0 for none. */
  readonly onReady?: (member: Member, ready: Ready, batch: number) => void;
  readonly onApply?: (member: Member, entry: Entry) => void;
  readonly onRead?: (member: Member, read: ReadState) => void;
  readonly onDroppedRead?: (member: Member, token: ReadToken) => void;
};

export type MemberOptions = {
  readonly id: ReplicaId;
  readonly configuration: Configuration;
  readonly random: Random;
  readonly tuning?: Tuning;
  readonly hooks: MemberHooks;
};

export const simpleConfiguration = (count: number): Configuration => ({
  voters: Array.from({ length: count }, (_, i) => (i + 1) as ReplicaId),
  outgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
});

const TUNING_DEFAULT = {
  electionTicks: { min: 10, max: 20 },
  heartbeatTicks: 1,
  inflightMessagesMax: 16,
  inflightBytesMax: 1 << 20,
  appendBytesMax: 1 << 16,
  uncommittedBytesMax: 1 << 20,
};

export class Member {
  readonly id: ReplicaId;
  readonly disk = new TestDisk();
  readonly #options: MemberOptions;
  raft: Raft;
  alive = true;
  appliedIndex = 0 as LogIndex;
  #reads: ReadState[] = [];

  constructor(options: MemberOptions) {
    this.id = options.id;
    this.#options = options;
    this.raft = this.#open();
  }

  #open(): Raft {
    const { id, configuration, random, tuning } = this.#options;
    return new Raft({
      ...TUNING_DEFAULT,
      ...tuning,
      group: 7 as GroupId,
      id,
      configuration,
      random,
      hardState: this.disk.hardState,
      start: this.disk.start,
      entries: this.disk.entries,
      applied: this.appliedIndex,
    });
  }

  /** Takes and carries out Readys until there are none. Writes stay queued until `persist`. */
  pump(): void {
    while (this.raft.hasReady()) this.#handle(this.raft.ready());
  }

  #handle(ready: Ready): void {
    const { hooks } = this.#options;
    const batch = ready.mustSync ? this.disk.write(ready).number : 0;
    hooks.onReady?.(this, ready, batch);
    for (const message of ready.messagesNow) hooks.send(message);
    if (batch === 0 && !this.disk.holdBehindWrites(ready.messagesAfterAppend)) {
      for (const message of ready.messagesAfterAppend) hooks.send(message);
    }
    for (const entry of ready.committed) {
      this.appliedIndex = entry.index;
      hooks.onApply?.(this, entry);
    }
    if (ready.committed.length > 0) this.raft.applied(this.appliedIndex);
    for (const token of ready.droppedReads) hooks.onDroppedRead?.(this, token);
    this.#reads.push(...ready.reads);
    this.#reads = this.#reads.filter((read) => {
      if (read.index > this.appliedIndex) return true;
      hooks.onRead?.(this, read);
      return false;
    });
  }

  /** Makes the oldest write durable, reports it, and sends what waited for it. */
  persist(): boolean {
    const batch = this.disk.sync();
    if (batch === undefined) return false;
    this.raft.appended(batch.ready.ticket);
    for (const message of batch.messages) this.#options.hooks.send(message);
    return true;
  }

  /** Power loss. The first `synced` queued writes had reached the disk, though nobody was told. */
  crash(synced = 0): void {
    for (let i = 0; i < synced; i++) this.disk.sync();
    this.disk.crash();
    this.#reads = [];
    this.alive = false;
  }

  /** Comes back; the engine had kept the effects of all entries up to and with `applied`. */
  restart(applied: LogIndex): void {
    this.appliedIndex = applied;
    this.raft = this.#open();
    this.alive = true;
  }

  compact(index: LogIndex): void {
    this.raft.compact(index);
    this.disk.compact(index);
  }
}
