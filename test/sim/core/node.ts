/**
 * One replica in the simulator: a core, its disk and engine, and the owner between them, which keeps
 * the contract of `Ready` to the letter while everything takes its time.
 *
 * Batches go to the disk in the order in which they were handed out. One that installs a snapshot, and
 * all behind it, wait until the engine has taken the snapshot over.
 */
import type { GroupId, LogIndex, ReplicaId } from "#shared/ids.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type {
  AppendTicket,
  Entry,
  Message,
  ReadState,
  ReadToken,
  Ready,
} from "#storage-node/raft/types.ts";
import { type Checker, Seen } from "./checker.ts";
import type { LogWrite, RecoveredLog, SimDisk, SimDiskOwner } from "./disk.ts";
import { type EngineState, SimEngine } from "./engine.ts";
import type { History } from "./history.ts";
import type { SimOptions } from "./options.ts";
import type { EventRandom } from "./random.ts";

export const GROUP = 7 as GroupId;

/** What a replica tells the world around it. */
export type NodeHooks = {
  readonly send: (message: Message) => void;
  readonly onReady: (node: SimNode, ready: Ready) => void;
  readonly onApplied: (node: SimNode, entry: Entry) => void;
  readonly onRead: (node: SimNode, read: ReadState) => void;
  readonly onReadDropped: (node: SimNode, token: ReadToken) => void;
  readonly onInstalled: (node: SimNode, index: LogIndex) => void;
  /** The log was reset at a start, behind a snapshot that the engine had taken over. */
  readonly onReset: (node: SimNode) => void;
};

export type NodeParts = {
  readonly id: ReplicaId;
  /** What a first start finds in the engine. */
  readonly first: EngineState;
  readonly options: SimOptions;
  readonly random: EventRandom;
  readonly checker: Checker;
  readonly history: History;
  readonly makeDisk: (owner: SimDiskOwner) => SimDisk;
  readonly hooks: NodeHooks;
};

/** Down: crashed or not started. Opening: the log is being read. Gone: it never comes back. */
export type NodeState = "down" | "opening" | "running" | "paused" | "gone";

export type SnapshotOutcome = "received" | "failed";

/** A batch on its way to the disk, with what may happen only then. */
type Pending = {
  readonly write: LogWrite;
  readonly ticket: AppendTicket;
  readonly installs: LogIndex | undefined;
  messages: readonly Message[];
};

export class SimNode {
  readonly id: ReplicaId;
  readonly disk: SimDisk;
  readonly engine: SimEngine;
  readonly seen = new Seen();
  readonly #parts: NodeParts;
  /** Only while it is running or paused. */
  raft!: Raft;
  state: NodeState = "down";
  /** Since the last start, messages that came while it was paused. */
  readonly inbox: Message[] = [];
  /** To whom a snapshot is to be offered. */
  readonly snapshotsDue: ReplicaId[] = [];
  /** Snapshots that are here complete, and being synced aside. */
  readonly staging: { readonly message: Message; readonly state: EngineState }[] = [];
  /** Reports about snapshots sent that did not come in time. */
  readonly overdue: { readonly to: ReplicaId; readonly outcome: SnapshotOutcome }[] = [];
  /** Handed to the disk, or held for it, in order. */
  #pending: Pending[] = [];
  /** How many of `#pending` the disk has; the rest waits for the engine. */
  #submitted = 0;
  #toApply: Entry[] = [];
  #reads: ReadState[] = [];

  constructor(parts: NodeParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.engine = new SimEngine(parts.first);
    this.disk = parts.makeDisk({
      onDurable: (write) => this.#durable(write),
      onOpen: (recovered) => this.#opened(recovered),
    });
  }

  /** It has a core; paused or not. */
  get running(): boolean {
    return this.state === "running" || this.state === "paused";
  }
  get writing(): boolean {
    return this.#pending.length > 0;
  }
  /** The engine has something to do. */
  get engineBusy(): boolean {
    return this.engine.installing || this.#toApply.length > 0 || this.staging.length > 0;
  }

  start(): void {
    this.state = "opening";
    this.disk.open();
  }

  #opened(recovered: RecoveredLog): void {
    const { id, options, random, checker } = this.#parts;
    const { index, term, configuration } = this.engine.state;
    this.state = "running";
    this.raft = new Raft({
      ...options.tuning,
      group: GROUP,
      id,
      configuration,
      random,
      hardState: recovered.hardState,
      start: recovered.start,
      entries: recovered.entries,
      applied: { index, term },
    });
    checker.opened(this, recovered);
    this.pump();
  }

  /** Power loss. `swapped`: see `SimEngine.crash`. */
  crash(): { readonly lost: number; readonly torn: boolean } {
    const { random, history, first } = this.#parts;
    const result = this.disk.crash(random);
    const swapped = random.below(2) === 0;
    this.engine.crash((from, to) => {
      const index = (from + random.below(to - from + 1)) as LogIndex;
      return index === 0 ? first : history.stateAt(index);
    }, swapped);
    this.state = "down";
    this.#pending = [];
    this.#submitted = 0;
    this.#toApply = [];
    this.#reads = [];
    this.inbox.length = 0;
    this.snapshotsDue.length = 0;
    this.staging.length = 0;
    this.overdue.length = 0;
    this.seen.reads.clear();
    return result;
  }

  step(message: Message): void {
    this.raft.step(message);
    this.#parts.checker.observe(this);
    if (message.kind === "appendReply") this.#parts.checker.replied(this);
  }

  tick(): void {
    this.raft.tick();
    this.#parts.checker.observe(this);
  }

  /** Takes and carries out Readys until there are none. */
  pump(): void {
    const { raft } = this;
    while (raft.hasReady()) this.#carryOut(raft.ready());
  }

  #carryOut(ready: Ready): void {
    const { hooks, checker, random, options } = this.#parts;
    checker.ready(this, ready);
    hooks.onReady(this, ready);
    for (const message of ready.messagesNow) this.#send(message);
    if (ready.reset?.install) {
      this.#toApply.length = 0;
      this.engine.install(ready.reset.start);
    } else if (ready.reset !== undefined) hooks.onReset(this);
    if (ready.mustSync) this.#write(ready);
    else if (ready.messagesAfterAppend.length > 0) this.#sendBehindWrites(ready);
    if (ready.committed.length > 0) {
      this.#toApply.push(...ready.committed);
      if (!random.chance(options.applyLagChance)) this.applyAll();
    }
    for (const token of ready.droppedReads) {
      checker.readDropped(this, token);
      hooks.onReadDropped(this, token);
    }
    if (ready.reads.length > 0) {
      this.#reads.push(...ready.reads);
      this.#serveReads();
    }
    if (ready.snapshotsDue.length > 0) this.snapshotsDue.push(...ready.snapshotsDue);
  }

  #send(message: Message): void {
    this.#parts.checker.sent(this, message);
    this.#parts.hooks.send(message);
  }

  #write(ready: Ready): void {
    this.#pending.push({
      write: ready,
      ticket: ready.ticket,
      installs: ready.reset?.install ? ready.reset.start.index : undefined,
      messages: ready.messagesAfterAppend,
    });
    this.#submit();
  }

  /** Hands the disk what is in order: nothing overtakes a snapshot that is being installed. */
  #submit(): void {
    while (this.#submitted < this.#pending.length) {
      const next = this.#pending[this.#submitted]!;
      if (next.installs !== undefined && this.engine.index < next.installs) return;
      this.#submitted++;
      this.disk.write(next.write);
    }
  }

  #sendBehindWrites({ messagesAfterAppend }: Ready): void {
    const last = this.#pending.at(-1);
    if (last !== undefined) last.messages = [...last.messages, ...messagesAfterAppend];
    else for (const message of messagesAfterAppend) this.#send(message);
  }

  #durable(write: LogWrite): void {
    const { checker, hooks } = this.#parts;
    const done = this.#pending.shift();
    if (done?.write !== write) throw new Error("the disk reports another batch than the oldest");
    this.#submitted--;
    checker.durable(this, write);
    this.raft.appended(done.ticket);
    checker.observe(this);
    if (done.installs !== undefined) {
      this.raft.applied(done.installs);
      checker.observe(this);
      hooks.onInstalled(this, done.installs);
    }
    for (const message of done.messages) this.#send(message);
  }

  /** The engine gets to its work: one step of it. */
  advanceEngine(): void {
    const staged = this.staging.shift();
    if (staged !== undefined) {
      this.engine.stage(staged.state);
      this.step(staged.message);
    } else if (this.engine.finishInstall()) {
      this.#parts.history.checkState(this.engine.state, this.id);
      this.#submit();
      this.#serveReads();
    } else this.applyAll();
  }

  /** Applies what was handed out, unless a snapshot has to be taken over first. */
  applyAll(): void {
    const entries = this.#toApply;
    if (entries.length === 0 || this.engine.installing) return;
    this.#toApply = [];
    for (const entry of entries) {
      this.engine.apply(entry);
      this.#parts.hooks.onApplied(this, entry);
    }
    this.#parts.history.checkState(this.engine.state, this.id);
    this.raft.applied(this.engine.index);
    this.#parts.checker.observe(this);
    if (this.#reads.length > 0) this.#serveReads();
  }

  #serveReads(): void {
    const { checker, hooks } = this.#parts;
    let kept = 0;
    for (const read of this.#reads) {
      if (read.index > this.engine.index) this.#reads[kept++] = read;
      else {
        checker.readServed(this, read);
        hooks.onRead(this, read);
      }
    }
    this.#reads.length = kept;
  }
}
