/**
 * One replica for tests: a `Raft`, its modelled disk, and a Ready loop that keeps the contract of
 * types.ts to the letter. Sending, and looking on, are callbacks.
 */
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { decodeConfiguration, simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import {
  type Configuration,
  type Entry,
  EntryKind,
  type LogReset,
  type Message,
  type RaftOptions,
  type ReadState,
  type ReadToken,
  type Ready,
} from "#storage-node/raft/types.ts";
import { TestDisk } from "./disk.ts";

export type Tuning = Partial<
  Pick<
    RaftOptions,
    | "saveMessages"
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
  /** Absent: nobody gets a snapshot. */
  readonly onSnapshotDue?: (member: Member, to: ReplicaId) => void;
  readonly onDroppedRead?: (member: Member, token: ReadToken) => void;
};

export type MemberOptions = {
  readonly id: ReplicaId;
  readonly configuration: Configuration;
  readonly random: Random;
  readonly tuning?: Tuning;
  readonly hooks: MemberHooks;
};

/** Replicas 1 to `count`, all voters. */
export const votersUpTo = (count: number): Configuration =>
  simpleConfiguration(Array.from({ length: count }, (_, i) => (i + 1) as ReplicaId));

const TUNING_DEFAULT = {
  electionTicks: { min: 10, max: 20 },
  heartbeatTicks: 1,
  inflightMessagesMax: 16,
  inflightBytesMax: 1 << 20,
  appendBytesMax: 1 << 16,
  uncommittedBytesMax: 1 << 20,
};

type EngineState = { readonly term: Term; readonly configuration: Configuration };

export class Member {
  readonly id: ReplicaId;
  readonly disk = new TestDisk();
  readonly #options: MemberOptions;
  raft: Raft;
  alive = true;
  /** Of the engine; during an installation ahead of what the core was told. */
  appliedIndex = 0 as LogIndex;
  /** Every state that the engine has been in, by applied index. */
  readonly #engine = new Map<LogIndex, EngineState>();
  #reads: ReadState[] = [];

  constructor(options: MemberOptions) {
    this.id = options.id;
    this.#options = options;
    this.#engine.set(this.appliedIndex, {
      term: 0 as Term,
      configuration: options.configuration,
    });
    this.raft = this.#open();
  }

  #open(): Raft {
    const { id, random, tuning } = this.#options;
    const { term, configuration } = this.#engine.get(this.appliedIndex)!;
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
      applied: { index: this.appliedIndex, term },
    });
  }

  /** Takes and carries out Readys until there are none. Writes stay queued until `persist`. */
  pump(): void {
    while (this.raft.hasReady()) this.#handle(this.raft.ready());
  }

  #handle(ready: Ready): void {
    const { hooks } = this.#options;
    if (ready.reset?.install) this.#install(ready.reset);
    const batch = ready.mustSync ? this.disk.write(ready).number : 0;
    hooks.onReady?.(this, ready, batch);
    for (const message of ready.messagesNow) hooks.send(message);
    if (batch === 0 && !this.disk.holdBehindWrites(ready.messagesAfterAppend)) {
      for (const message of ready.messagesAfterAppend) hooks.send(message);
    }
    for (const entry of ready.committed) {
      const { configuration } = this.#engine.get(this.appliedIndex)!;
      this.appliedIndex = entry.index;
      const isChange = entry.kind === EntryKind.Configuration;
      this.#engine.set(entry.index, {
        term: entry.term,
        configuration: isChange ? decodeConfiguration(entry.data) : configuration,
      });
      hooks.onApply?.(this, entry);
    }
    if (ready.committed.length > 0) this.raft.applied(this.appliedIndex);
    for (const to of ready.snapshotsDue) hooks.onSnapshotDue?.(this, to);
    for (const token of ready.droppedReads) hooks.onDroppedRead?.(this, token);
    this.#reads.push(...ready.reads);
    this.#reads = this.#reads.filter((read) => {
      if (read.index > this.appliedIndex) return true;
      hooks.onRead?.(this, read);
      return false;
    });
  }

  /** The engine takes the snapshot over, durably; the log is reset by the batch that follows. */
  #install({ start, configuration }: LogReset): void {
    this.appliedIndex = start.index;
    this.#engine.set(start.index, { term: start.term, configuration });
  }

  /** Makes the oldest write durable, reports it, and sends what waited for it. */
  persist(): boolean {
    const batch = this.disk.sync();
    if (batch === undefined) return false;
    const { ticket, reset } = batch.ready;
    this.raft.appended(ticket);
    if (reset?.install) this.raft.applied(reset.start.index);
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
