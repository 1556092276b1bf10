/**
 * A storage node: one process, one data directory, one event loop, 256 Raft groups.
 *
 * `StorageNode.open` brings everything up in the only safe order (lock, engine, log, groups) and
 * `operate` is the door through which gateways come, over gRPC or in the same process.
 */

import { failureOf } from "#proto/codec/failure.ts";
import type {
  Get,
  Mutation,
  Operation,
  OperationHandler,
  ResultBody,
} from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { type NodeId, VSHARD_COUNT } from "#shared/ids.ts";
import { PROPOSALS_PENDING_BYTES_MAX, START_TIMEOUT_MS, TICK_MS } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { type DataDirectory, openDataDirectory } from "./data-directory.ts";
import type { Engine } from "./engine/engine.ts";
import { type EngineKind, openEngine } from "./engine/open.ts";
import { ApplyPump } from "./replica/apply-pump.ts";
import { DiskGuard, type FreeSpaceProbe } from "./replica/disk-guard.ts";
import { Maintenance } from "./replica/maintenance.ts";
import { openGroups } from "./replica/open-groups.ts";
import { Reader } from "./replica/reader.ts";
import { ReadyLoop } from "./replica/ready-loop.ts";
import { commandSizeBytes, type Replica, type Reply } from "./replica/replica.ts";
import type { Transport } from "./transport/transport.ts";
import { nodeFileSystem } from "./wal/file-system.ts";
import type { Wal } from "./wal/types.ts";
import { openWal } from "./wal/wal.ts";

export type StorageNodeOptions = {
  readonly dataDirectory: string;
  readonly nodeId: NodeId;
  /** Must be that of the data directory; undefined takes what is there, or draws a new one. */
  readonly clusterId: string | undefined;
  readonly engine: EngineKind;
  readonly walSegmentSizeBytes: number;
  readonly diskReserveBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport;
  readonly freeSpace: FreeSpaceProbe;
  /** The node can no longer vouch for its data: the process must end at once. */
  readonly onFatal: (error: unknown) => void;
  readonly onWritable: (writable: boolean, freeBytes: number) => void;
};

export type StorageNodeStatus = {
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly groups: number;
  readonly groupsLed: number;
  readonly writable: boolean;
  readonly engine: string;
  readonly logBytes: number;
  readonly recoveredTornTail: boolean;
};

export class StorageNode implements OperationHandler {
  readonly #options: StorageNodeOptions;
  readonly #directory: DataDirectory;
  readonly #engine: Engine;
  readonly #wal: Wal;
  readonly #replicas: readonly Replica[];
  readonly #loop: ReadyLoop;
  readonly #reader: Reader;
  readonly #maintenance: Maintenance;
  readonly #diskGuard: DiskGuard;
  #cancelTick: () => void = () => {};
  #closing: Promise<void> | undefined;

  private constructor(parts: {
    readonly options: StorageNodeOptions;
    readonly directory: DataDirectory;
    readonly engine: Engine;
    readonly wal: Wal;
    readonly replicas: readonly Replica[];
  }) {
    const { options, engine, wal, replicas } = parts;
    const { clock, onFatal, transport } = options;
    this.#options = options;
    this.#directory = parts.directory;
    this.#engine = engine;
    this.#wal = wal;
    this.#replicas = replicas;
    this.#reader = new Reader({
      engine,
      clock,
      expire: (replica, get, done) => this.#expireKey(replica, get, done),
    });
    this.#loop = new ReadyLoop({
      wal,
      transport,
      clock,
      reader: this.#reader,
      pump: (onApplied) => new ApplyPump({ engine, onApplied, onFatal }),
      onFatal,
    });
    this.#maintenance = new Maintenance({
      replicas,
      engine,
      wal,
      loop: this.#loop,
      clock,
      // What the memory engine holds can come back from the log only.
      mayCompact: options.engine !== "memory",
      expire: (replica, mutations, done) => this.#proposeExpiry(replica, mutations, done),
      onFatal,
    });
    this.#diskGuard = new DiskGuard({
      path: options.dataDirectory,
      reserveBytes: options.diskReserveBytes,
      clock,
      probe: options.freeSpace,
      onChange: options.onWritable,
    });
  }

  /**
   * @throws KvError DATA_CORRUPT when log or engine are damaged or do not belong together, and
   * INVALID_ARGUMENT when the directory is another node's or in use by another process.
   */
  static async open(options: StorageNodeOptions): Promise<StorageNode> {
    const directory = await openDataDirectory({
      path: options.dataDirectory,
      nodeId: options.nodeId,
      clusterId: options.clusterId,
      engine: options.engine,
      clock: options.clock,
      random: options.random,
    });
    let engine: Engine | undefined;
    let wal: Wal | undefined;
    try {
      engine = await openEngine({ kind: options.engine, directory: directory.enginePath });
      wal = await openWal({
        directory: directory.walPath,
        nodeId: options.nodeId,
        segmentSizeBytes: options.walSegmentSizeBytes,
        fs: nodeFileSystem(),
        clock: options.clock,
        random: options.random,
        onFatal: options.onFatal,
      });
      const replicas = await openGroups({ wal, engine, random: options.random });
      const node = new StorageNode({ options, directory, engine, wal, replicas });
      node.#start();
      await node.#soloGroupsLead();
      return node;
    } catch (error) {
      await wal?.close();
      await engine?.close();
      await directory.close();
      throw error;
    }
  }

  #start(): void {
    this.#options.transport.onMessage((message) => {
      const replica = this.#replicas[message.group];
      if (!replica || this.#closing) return;
      replica.raft.step(message);
      this.#loop.markDirty(replica);
    });
    for (const replica of this.#replicas) {
      // Nobody else can lead a group of one, so it need not wait for a timeout.
      if (replica.alone) replica.raft.campaign();
      this.#loop.markDirty(replica);
    }
    this.#diskGuard.start();
    this.#maintenance.start();
    this.#tick();
  }

  /**
   * Groups without other members are up as soon as their first log batches are durable. Waiting for
   * them here means that a single node serves from its first answer on.
   */
  async #soloGroupsLead(): Promise<void> {
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + START_TIMEOUT_MS;
    const solo = this.#replicas.filter((replica) => replica.alone);
    while (!solo.every((replica) => replica.isLeader)) {
      if (clock.monotonicMs() > untilMs) {
        throw new KvError("UNAVAILABLE", "the log did not take the first writes in time");
      }
      await new Promise<void>((resolve) => clock.after(1, resolve));
    }
  }

  #tick(): void {
    this.#cancelTick = this.#options.clock.after(TICK_MS, () => {
      for (const replica of this.#replicas) {
        replica.raft.tick();
        if (replica.raft.hasReady() || replica.hasGathered) this.#loop.markDirty(replica);
      }
      this.#tick();
    });
  }

  operate(operation: Operation, reply: Reply): void {
    const { body } = operation;
    if (body.kind === "cancel") return;
    const replica = this.#replicas[operation.vshard];
    if (!replica || this.#closing) {
      reply(failureOf("UNAVAILABLE", "the storage node is stopping", { notApplied: true }));
      return;
    }
    if (body.kind === "get") {
      if (body.maxStalenessMs > 0 && replica.isLeader) this.#reader.serveOne(replica, body, reply);
      else if (replica.read(body, reply)) this.#loop.markDirty(replica);
      return;
    }
    const { command } = body;
    if (command.deadlineMs < this.#options.clock.nowMs()) {
      reply(failureOf("DEADLINE_EXCEEDED", "the deadline had passed", { notApplied: true }));
      return;
    }
    const frees = command.mutations.every((mutation) => mutation.action.kind !== "put");
    const sizeBytes = commandSizeBytes(command);
    if (!this.#diskGuard.take(sizeBytes, frees)) {
      reply(failureOf("STORAGE_FULL", "the node is low on disk space", { notApplied: true }));
      return;
    }
    if (replica.pendingBytes + sizeBytes > PROPOSALS_PENDING_BYTES_MAX) {
      reply(failureOf("OVERLOADED", "too many bytes wait for this vshard", { notApplied: true }));
      return;
    }
    if (replica.write(command, reply)) this.#loop.markDirty(replica);
  }

  #expireKey(replica: Replica, get: Get, done: Reply): void {
    const mutation: Mutation = {
      tenant: get.tenant,
      space: get.space,
      key: get.key,
      condition: undefined,
      action: { kind: "expire" },
    };
    this.#proposeExpiry(replica, [mutation], done);
  }

  /** Expiry frees space, so it is not asked whether the disk has room. */
  #proposeExpiry(
    replica: Replica,
    mutations: readonly Mutation[],
    done: (body: ResultBody) => void,
  ): void {
    const command = { requestId: EMPTY_BYTES, deadlineMs: 0, mutations };
    if (replica.write(command, done)) this.#loop.markDirty(replica);
  }

  status(): StorageNodeStatus {
    let groupsLed = 0;
    for (const replica of this.#replicas) if (replica.isLeader) groupsLed++;
    return {
      nodeId: this.#options.nodeId,
      clusterId: this.#directory.identity.clusterId,
      groups: VSHARD_COUNT,
      groupsLed,
      writable: this.#diskGuard.writable,
      engine: this.#engine.name,
      logBytes: this.#wal.sizeBytes,
      recoveredTornTail: this.#wal.recovery.tornTail,
    };
  }

  /** Whether every group has a leader known here. */
  get serving(): boolean {
    return !this.#closing && this.#replicas.every((replica) => replica.raft.leader !== 0);
  }

  /**
   * Refuses new operations, answers those that run (at most `timeoutMs`), and closes log, engine and
   * lock. Idempotent.
   */
  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<void> {
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + timeoutMs;
    await this.#maintenance.stop();
    while (clock.monotonicMs() < untilMs && !this.#replicas.every((replica) => replica.idle)) {
      await new Promise<void>((resolve) => clock.after(5, resolve));
    }
    this.#cancelTick();
    this.#diskGuard.stop();
    this.#loop.stop();
    await this.#wal.close();
    await this.#loop.pump.between(() => {});
    await this.#engine.close();
    await this.#directory.close();
  }
}
