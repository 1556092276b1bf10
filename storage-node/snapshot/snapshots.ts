/**
 * The snapshots of a node: sent to members of groups that it leads, received for its own replicas, and
 * installed when the Raft core says so. What the ready loop sees of it is the interface `Snapshots`.
 */
import type { Clock } from "#shared/clock.ts";
import type { GroupId, NodeId } from "#shared/ids.ts";
import { SNAPSHOT_BYTES_PER_SECOND_DEFAULT } from "#shared/limits.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Random } from "#shared/random.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import type { LogReset } from "#storage-node/raft/types.ts";
import type { Snapshots } from "#storage-node/replica/installations.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import type { Transport } from "#storage-node/transport/transport.ts";
import type { WalFileSystem } from "#storage-node/wal/file-system.ts";
import { forgetInstalled, installStaged } from "./install.ts";
import { SnapshotReceiver } from "./receiver.ts";
import { SnapshotSender } from "./sender.ts";
import { deleteStaged, listStaged, type Staging } from "./staged-file.ts";

export type NodeSnapshotsOptions = {
  readonly fs: WalFileSystem;
  /** Made if missing; holds nothing but snapshots (`DataDirectory.snapshotsPath`). */
  readonly directory: string;
  readonly engine: Engine;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Pick<Transport, "openSnapshotStream">;
  /** The node's replica of a group, if it has one. */
  readonly replicaOf: (group: GroupId) => Replica | undefined;
  /** `ApplyPump.between`. */
  readonly between: <T>(work: () => MaybePromise<T>) => Promise<T>;
  /** `ReadyLoop.markDirty`. */
  readonly markDirty: (replica: Replica) => void;
  /** Disk space that is left alone by what is received. */
  readonly reserveBytes: number;
  /** Of all snapshots that the node sends together. Default: SNAPSHOT_BYTES_PER_SECOND_DEFAULT. */
  readonly bytesPerSecond?: number | undefined;
  /** Bytes of rows in a chunk; default: SNAPSHOT_CHUNK_BYTES_SOFT_MAX. */
  readonly chunkBytes?: number | undefined;
  /** A transfer has failed, by the network's fault or the disk's; it is tried again. */
  readonly onTransferError?: ((error: unknown) => void) | undefined;
};

export type SnapshotCounts = {
  /** On their way from here, and to here. */
  readonly sending: number;
  readonly receiving: number;
  /** Whole, since the start. */
  readonly sent: number;
  readonly received: number;
};

export class NodeSnapshots implements Snapshots {
  readonly #options: NodeSnapshotsOptions;
  readonly #staging: Staging;
  readonly #sender: SnapshotSender;
  readonly #receiver: SnapshotReceiver;
  readonly #installing = new Map<Replica, Promise<unknown>>();
  readonly #forgotten = new WeakSet<Replica>();
  #stopped = false;

  constructor(options: NodeSnapshotsOptions) {
    const { fs, directory } = options;
    const onError = options.onTransferError ?? (() => {});
    this.#options = options;
    this.#staging = { fs, directory };
    this.#sender = new SnapshotSender({
      ...options,
      onStepped: options.markDirty,
      bytesPerSecond: options.bytesPerSecond ?? SNAPSHOT_BYTES_PER_SECOND_DEFAULT,
      onError,
    });
    this.#receiver = new SnapshotReceiver({
      ...options,
      staging: this.#staging,
      onStepped: options.markDirty,
      onError,
    });
  }

  /** Before the first stream. `recoverInstallations` has run. */
  start(): Promise<void> {
    return this.#receiver.start();
  }

  get counts(): SnapshotCounts {
    const { sending, sent } = this.#sender;
    const { receiving, received } = this.#receiver;
    return { sending, receiving, sent, received };
  }

  /** To be called at once for each stream that a peer opens. */
  accept(from: NodeId, stream: MessageStream): void {
    this.#receiver.accept(from, stream);
  }

  due(...[replica, to]: Parameters<Snapshots["due"]>): void {
    this.#sender.due(replica, to);
  }

  async install(replica: Replica, { start }: LogReset): Promise<Machine | undefined> {
    const { group, raft } = replica;
    const name = { group, replica: raft.id, start, stage: "snap" } as const;
    const goesOn = (): boolean => !this.#stopped && !this.#forgotten.has(replica);
    if (!goesOn()) return undefined;
    const work = installStaged(this.#staging, name, this.#options.engine, goesOn);
    this.#installing.set(replica, work);
    try {
      return await work;
    } finally {
      this.#installing.delete(replica);
    }
  }

  resetDurable({ group }: Replica, { start }: LogReset): void {
    // One that stays is deleted at the next start.
    const onError = this.#options.onTransferError ?? (() => {});
    forgetInstalled(this.#staging, group, start).catch(onError);
  }

  /**
   * The replica leaves this node. Resolves when nothing of it is sent, received or installed any more.
   *
   * A file that was being installed stays: as long as the log knows the replica, a start takes it for one
   * of this node's, and its rows are the file's or a mixture (`install.ts`).
   */
  async forget(replica: Replica): Promise<void> {
    this.#forgotten.add(replica);
    this.#sender.forget(replica);
    await this.#receiver.forget(replica);
    await this.#installing.get(replica)?.catch(() => {});
  }

  /** The log has forgotten the replica, durably: no file of it is of use any more. */
  async forgotten({ group }: Replica): Promise<void> {
    for (const name of await listStaged(this.#staging)) {
      if (name.group === group) await deleteStaged(this.#staging, name);
    }
  }

  /** Resolves when neither engine nor files are used any more. An installation goes on at the start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const running = [...this.#installing.values()].map((work) => work.catch(() => {}));
    await Promise.all([this.#sender.stop(), this.#receiver.stop(), ...running]);
  }
}
