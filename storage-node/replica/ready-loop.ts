/**
 * The loop that carries out what the Raft cores of a node ask for.
 *
 * One pass looks at every dirty replica: turns gathered writes into entries (when the log is idle or
 * a batch has just ended, so that what arrives during a sync becomes one entry per group; or when it
 * hangs), takes its
 * Ready, and collects all groups' records into **one** log batch. The batch is started before
 * committed entries are applied, so the disk syncs while the engine works.
 *
 * Order (durability rules 1–4, 6): messages marked *now* leave at once; those marked *after append*
 * leave when the batch that holds their state is durable; `committed` holds only what is durable
 * here already, and is applied at once.
 */
import type { Clock } from "#shared/clock.ts";
import { DISK_HANG_MS } from "#shared/limits.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import type { LogReset, Message } from "#storage-node/raft/types.ts";
import type { Transport } from "#storage-node/transport/transport.ts";
import type { Wal, WalRecord } from "#storage-node/wal/types.ts";
import type { ApplyPump } from "./apply-pump.ts";
import { Installations, type Issued, noSnapshots, type Snapshots } from "./installations.ts";
import type { Reader } from "./reader.ts";
import type { Replica } from "./replica.ts";
import { SyncTime } from "./sync-time.ts";

export type ReadyLoopOptions = {
  readonly wal: Wal;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly pump: (onApplied: (replica: Replica) => void) => ApplyPump;
  readonly reader: Reader;
  /** Absent: this node neither sends nor receives any. */
  readonly snapshots?: Snapshots | undefined;
  /** Of all cores of the node; see `RaftOptions.readRounds`. */
  readonly readRounds: { current: number };
  /** After entries of it were applied, or a snapshot was installed. */
  readonly onApplied?: (replica: Replica) => void;
  /** It has gained or lost the lead. */
  readonly onRole?: (replica: Replica) => void;
  readonly onFatal: (error: unknown) => void;
};

export class ReadyLoop {
  readonly #options: ReadyLoopOptions;
  readonly #pump: ApplyPump;
  readonly #snapshots: Snapshots;
  readonly #installations: Installations;
  #dirty: Replica[] = [];
  #scheduled = false;
  /** Monotonic: when the next pass was asked for, by the first that came for it. */
  #scheduledMs = 0;
  #stopped = false;
  /** Log batches handed over and not yet durable. */
  #outstanding = 0;
  /** A log batch ended since the last pass: what gathered meanwhile may be proposed. */
  #batchEnded = false;
  readonly #syncTime = new SyncTime();
  /** Of log batches that have become durable; leave with the next pass. */
  #released: Message[] = [];
  /** Bytes of entries handed to the log since the last call of `takeLogBytes`. */
  #logBytes = 0;

  constructor(options: ReadyLoopOptions) {
    this.#options = options;
    this.#pump = options.pump((replica) => {
      this.#options.reader.serve(replica);
      this.#options.onApplied?.(replica);
      if (replica.raft.hasReady()) this.markDirty(replica);
    });
    this.#snapshots = options.snapshots ?? noSnapshots;
    this.#installations = new Installations({
      snapshots: this.#snapshots,
      pump: this.#pump,
      issue: (issued) => this.#writeHeld(issued),
      onFatal: options.onFatal,
    });
  }

  get pump(): ApplyPump {
    return this.#pump;
  }

  /** Asks for a pass at the end of this turn of the event loop, once for all who ask. */
  markDirty(replica: Replica): void {
    if (!replica.dirty) {
      replica.dirty = true;
      this.#dirty.push(replica);
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#scheduledMs = this.#options.clock.monotonicMs();
    setImmediate(this.#pass);
  }

  /** Time from handing a batch to the log until it is durable, smoothed; ages when nothing is written. */
  get syncMicros(): number {
    return this.#syncTime.micros(this.#options.clock.monotonicMs());
  }

  /** For how long batches have been waiting for the log without any of them ending. */
  get stalledMs(): number {
    return this.#syncTime.stalledMs(this.#options.clock.monotonicMs());
  }

  takeLogBytes(): number {
    const bytes = this.#logBytes;
    this.#logBytes = 0;
    return bytes;
  }

  /** No pass runs after this. */
  stop(): void {
    this.#stopped = true;
  }

  readonly #pass = (): void => {
    this.#scheduled = false;
    if (this.#stopped) return;
    try {
      this.#runPass();
    } catch (error) {
      this.#stopped = true;
      this.#options.onFatal(error);
    }
  };

  #runPass(): void {
    const dirty = this.#dirty;
    this.#dirty = [];
    if (this.#released.length > 0) {
      const released = this.#released;
      this.#released = [];
      this.#options.transport.send(released);
    }
    const { clock, readRounds } = this.#options;
    const monotonicMs = clock.monotonicMs();
    // Behind a disk that hangs nothing is gathered any more: what followers then hold, and this node does not,
    // is how a group finds a successor (hand-over.ts). Gathered, it would wait here for the end of the hang.
    const hangs = this.#syncTime.stalledMs(monotonicMs) > DISK_HANG_MS;
    const mayPropose = this.#outstanding === 0 || this.#batchEnded || hangs;
    this.#batchEnded = false;
    const nowMs = mayPropose ? clock.nowMs() : 0;
    // Reads that wait in several groups share this number (see RaftOptions.readRounds).
    readRounds.current++;
    const records: WalRecord[] = [];
    const issued: Issued[] = [];
    for (const replica of dirty) {
      replica.dirty = false;
      if (replica.isGone) continue;
      replica.startReadRound(monotonicMs);
      replica.noteGathering(this.#scheduledMs);
      if (mayPropose) replica.proposePending(nowMs, monotonicMs);
      this.#takeReady(replica, records, issued, monotonicMs);
      if (replica.noticeRole()) this.#options.onRole?.(replica);
      // Stays in the list until the log is idle; the end of the running batch starts a pass.
      if (replica.hasGathered && !replica.dirty) {
        replica.dirty = true;
        this.#dirty.push(replica);
      }
    }
    this.#append(records, issued);
    this.#pump.run();
  }

  #takeReady(replica: Replica, records: WalRecord[], issued: Issued[], monotonicMs: number): void {
    const { raft } = replica;
    while (raft.hasReady()) {
      const ready = raft.ready();
      if (ready.messagesNow.length > 0) this.#options.transport.send(ready.messagesNow);
      if (!this.#installations.hold(replica, ready)) {
        this.#write({ replica, ready }, records, issued);
      }
      const { committed } = ready;
      if (committed.length > 0) {
        replica.noteCommitted(committed[committed.length - 1]!, monotonicMs);
        this.#pump.enqueue(replica, committed);
      }
      for (const token of ready.droppedReads) replica.dropReads(token);
      for (const read of ready.reads) replica.confirmReads(read.token, read.index);
      if (ready.reads.length > 0) this.#options.reader.serve(replica);
      for (const to of ready.snapshotsDue) this.#snapshots.due(replica, to);
    }
  }

  #write(one: Issued, records: WalRecord[], issued: Issued[]): void {
    const { replica, ready } = one;
    const { group, raft } = replica;
    const before = records.length;
    if (ready.reset) {
      const { start, configuration } = ready.reset;
      records.push({ kind: "snapshotMeta", group, replica: raft.id, start, configuration });
    }
    if (ready.truncateFrom !== undefined) {
      records.push({ kind: "truncateSuffix", group, from: ready.truncateFrom });
    }
    if (ready.entries.length > 0) {
      records.push({ kind: "entries", group, entries: ready.entries });
      for (const entry of ready.entries) this.#logBytes += entry.data.length + 32;
    }
    if (ready.hardState) records.push({ kind: "hardState", group, hardState: ready.hardState });
    // Messages marked after-append wait for all earlier batches even when this Ready adds nothing.
    if (records.length > before || ready.messagesAfterAppend.length > 0) issued.push(one);
  }

  /** Engine and log hold the snapshot: its entries count as applied. */
  #installed(replica: Replica, machine: Machine, { start }: LogReset): void {
    replica.installed(machine, start);
    this.#options.reader.serve(replica);
    this.#options.onApplied?.(replica);
  }

  /** What has waited for an installation. */
  #writeHeld(held: readonly Issued[]): void {
    if (this.#stopped) return;
    const records: WalRecord[] = [];
    const issued: Issued[] = [];
    for (const one of held) this.#write(one, records, issued);
    this.#append(records, issued);
  }

  #append(records: readonly WalRecord[], issued: readonly Issued[]): void {
    if (issued.length === 0) return;
    this.#outstanding++;
    const startedMs = this.#syncTime.begin(this.#options.clock.monotonicMs());
    this.#options.wal.append(records, () => this.#onDurable(issued, startedMs));
  }

  #onDurable(issued: readonly Issued[], startedMs: number): void {
    if (this.#stopped) return;
    const nowMs = this.#options.clock.monotonicMs();
    this.#syncTime.end(startedMs, nowMs);
    this.#outstanding--;
    this.#batchEnded = true;
    for (const { replica, ready, machine } of issued) {
      if (replica.isGone) continue;
      if (ready.entries.length > 0) replica.noteSynced(ready.entries, nowMs);
      replica.raft.appended(ready.ticket);
      for (const message of ready.messagesAfterAppend) this.#released.push(message);
      if (ready.reset) {
        this.#snapshots.resetDurable(replica, ready.reset);
        if (machine !== undefined) this.#installed(replica, machine, ready.reset);
      }
      if (replica.needsPass) this.markDirty(replica);
    }
    // With what the pass has to say itself, the messages are one frame; and replicas that gather wait for
    // the end of a batch.
    if (this.#released.length > 0 || this.#dirty.length > 0) this.#schedule();
  }
}
