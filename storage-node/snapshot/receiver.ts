/**
 * Takes snapshots from the leaders of this node's replicas, and hands each one that is complete,
 * verified and on disk to the Raft core of its replica, which decides whether it is taken over.
 *
 * Few at once, one for a replica, and none that the replica does not need. What an interrupted transfer
 * has brought stays for a while, also over a restart; everything else that nobody asks for is deleted.
 */
import type { Clock } from "#shared/clock.ts";
import { type GroupId, type NodeId, nodeOfReplica } from "#shared/ids.ts";
import { SNAPSHOT_RESUME_WITHIN_MS, SNAPSHOTS_RECEIVED_AT_ONCE_MAX } from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { freeBytes } from "#storage-node/wal/file-promises.ts";
import { encodeFrame, type Opening, Verdict } from "./frames.ts";
import { Receipt, type SnapshotMessage } from "./receipt.ts";
import {
  deleteStaged,
  listStaged,
  makeStaging,
  type StagedName,
  type Staging,
  stagedPath,
} from "./staged-file.ts";

export type ReceiverOptions = {
  readonly staging: Staging;
  readonly clock: Clock;
  readonly replicaOf: (group: GroupId) => Replica | undefined;
  /** The core of a replica was handed a message. */
  readonly onStepped: (replica: Replica) => void;
  /** Disk space that is left alone. */
  readonly reserveBytes: number;
  /** Something went wrong that costs no more than a transfer. */
  readonly onError: (error: unknown) => void;
};

type Leftover = { readonly name: StagedName; readonly cancel: () => void };

export class SnapshotReceiver {
  readonly #options: ReceiverOptions;
  readonly #receipts = new Set<Receipt>();
  /** The last that was let in, of each group. */
  readonly #current = new Map<GroupId, Receipt>();
  /** Files that will be deleted, by path, and what cancels that. */
  readonly #leftovers = new Map<string, Leftover>();
  #stopped = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
  }

  /** Deletes what earlier lives have left; what a transfer could go on with, in a while. */
  async start(): Promise<void> {
    const { staging } = this.#options;
    await makeStaging(staging);
    for (const name of await listStaged(staging)) {
      if (name.stage === "snap") await deleteStaged(staging, name);
      if (name.stage === "part") this.#deleteLater(name);
    }
  }

  /** That arrived whole, since the start. */
  received = 0;

  /** Snapshots that are arriving. */
  get receiving(): number {
    return this.#receipts.size;
  }

  /** A peer wants to send a snapshot. */
  accept(from: NodeId, stream: MessageStream): void {
    if (this.#stopped || this.#receipts.size >= SNAPSHOTS_RECEIVED_AT_ONCE_MAX) {
      refuseSnapshot(stream);
      return;
    }
    const { staging, clock, onError } = this.#options;
    const receipt = new Receipt({
      stream,
      staging,
      clock,
      admit: (opening, self) => this.#admit(from, opening, self),
      hasSpace: () => this.#hasSpace(),
      deliver: (message, name) => this.#deliver(message, name),
      onError,
    });
    this.#receipts.add(receipt);
    void receipt.ended.then((left) => {
      this.#receipts.delete(receipt);
      const { opening } = receipt;
      if (opening !== undefined && this.#current.get(opening.group) === receipt) {
        this.#current.delete(opening.group);
      }
      if (left !== undefined && !this.#stopped) this.#deleteLater(left);
    });
  }

  async #admit(from: NodeId, opening: Opening, receipt: Receipt): Promise<Verdict | undefined> {
    const { group, term } = opening;
    const before = this.#current.get(group);
    // The later term has the leader. Within one, its sender has begun anew, or lost its stream.
    if (before?.opening !== undefined && before.opening.term > term) return Verdict.Busy;
    const verdict = this.#judge(from, opening);
    if (verdict !== undefined) return verdict;
    this.#current.set(group, receipt);
    await before?.stop();
    if (!(await this.#hasSpace())) return Verdict.Busy;
    // Others had their turn meanwhile.
    if (this.#current.get(group) !== receipt) return Verdict.Busy;
    this.#keep(nameOf(opening));
    // What is there of other transfers to this replica is of no use any more.
    for (const { name } of [...this.#leftovers.values()]) {
      if (name.group !== group) continue;
      this.#keep(name);
      this.#deleteNow(name);
    }
    return this.#judge(from, opening);
  }

  #judge(from: NodeId, opening: Opening): Verdict | undefined {
    if (this.#stopped) return Verdict.Busy;
    const replica = this.#options.replicaOf(opening.group);
    if (replica?.raft.id !== opening.to) return Verdict.Refused;
    if (nodeOfReplica(opening.from) !== from) return Verdict.Refused;
    if (replica.installing) return Verdict.Busy;
    return opening.snapshotIndex > replica.raft.commit ? undefined : Verdict.Unneeded;
  }

  async #hasSpace(): Promise<boolean> {
    const { staging, reserveBytes } = this.#options;
    return (await freeBytes(staging.fs, staging.directory)) >= reserveBytes;
  }

  /** The core takes it, and asks for its installation in its next Ready; or else it is deleted. */
  #deliver(message: SnapshotMessage, name: StagedName): Verdict {
    const { replicaOf, onStepped } = this.#options;
    const verdict = this.#judge(nodeOfReplica(message.from), { ...message, transfer: NO_TRANSFER });
    const replica = replicaOf(message.group);
    if (verdict !== undefined || replica === undefined) {
      this.#deleteNow(name);
      return verdict ?? Verdict.Refused;
    }
    replica.raft.step(message);
    // It was beyond the commit index, where no log begins; now it does exactly if it was taken.
    if (replica.raft.logStart.index !== message.snapshotIndex) this.#deleteNow(name);
    onStepped(replica);
    this.received++;
    return Verdict.Received;
  }

  #deleteNow(name: StagedName): void {
    const { staging, onError } = this.#options;
    deleteStaged(staging, name).catch(onError);
  }

  #deleteLater(name: StagedName): void {
    this.#keep(name);
    const path = stagedPath(this.#options.staging, name);
    const cancel = this.#options.clock.after(SNAPSHOT_RESUME_WITHIN_MS, () => {
      this.#leftovers.delete(path);
      this.#deleteNow(name);
    });
    this.#leftovers.set(path, { name, cancel });
  }

  #keep(name: StagedName): void {
    const path = stagedPath(this.#options.staging, name);
    this.#leftovers.get(path)?.cancel();
    this.#leftovers.delete(path);
  }

  /** The replica leaves this node: nothing is received for it any more. */
  async forget(replica: Replica): Promise<void> {
    const receipt = this.#current.get(replica.group);
    if (receipt?.opening?.to === replica.raft.id) await receipt.stop();
  }

  /** Resolves when no file is written any more. What was received stays for the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const { cancel } of this.#leftovers.values()) cancel();
    this.#leftovers.clear();
    await Promise.all([...this.#receipts].map((receipt) => receipt.stop()));
  }
}

/** Not now: the sender will ask again. */
export function refuseSnapshot(stream: MessageStream): void {
  stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
  stream.write(encodeFrame({ kind: "over", verdict: Verdict.Busy }));
  stream.end();
}

const NO_TRANSFER = new Uint8Array(0);

const nameOf = ({ group, to, snapshotIndex, snapshotTerm }: Opening): StagedName => ({
  group,
  replica: to,
  start: { index: snapshotIndex, term: snapshotTerm },
  stage: "part",
});
