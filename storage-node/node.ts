/**
 * A storage node: one data directory, one event loop, replicas of up to 257 Raft groups.
 *
 * `operate` is the door through which gateways come, over gRPC or from another thread. Which replicas
 * the node has is decided by the cluster map (`meta/member.ts`), through `host`. What a node is made of
 * is opened by `open-node.ts`.
 */

import { failureOf } from "#proto/codec/failure.ts";
import type {
  Command,
  Get,
  Mutation,
  Operation,
  OperationHandler,
  Reply,
  ResultBody,
} from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { type GroupId, META_GROUP, type NodeId, nodeOfReplica } from "#shared/ids.ts";
import { DISK_HANG_MS, TICK_MS } from "#shared/limits.ts";
import { noTracing, type Tracing } from "#shared/tracing.ts";
import { NodeChanges } from "./changes/node-changes.ts";
import type { Engine } from "./engine/engine.ts";
import { EntryFigures } from "./entry-figures.ts";
import type { ChangeLogRetention } from "./machine/journal-trim.ts";
import type { NodeFigures } from "./meta/member.ts";
import { MetaReplica } from "./meta/meta-replica.ts";
import type { NodeSources } from "./metrics/node-metrics.ts";
import { type StorageNodeStatus, statusOf } from "./node-status.ts";
import { OperationFigures } from "./operation-figures.ts";
import { type OperationTraces, openTraces } from "./operation-traces.ts";
import { membersOf } from "./raft/quorum.ts";
import { Role } from "./raft/types.ts";
import { ApplyPump } from "./replica/apply-pump.ts";
import { commandSizeBytes } from "./replica/command-size.ts";
import type { DiskGuard } from "./replica/disk-guard.ts";
import { handOver, successorOfHung } from "./replica/hand-over.ts";
import { HostedReplicas } from "./replica/hosted-replicas.ts";
import { Hosting } from "./replica/hosting.ts";
import { Maintenance } from "./replica/maintenance.ts";
import type { ReplicaParts } from "./replica/open-groups.ts";
import { RaftWatch } from "./replica/raft-watch.ts";
import { Reader } from "./replica/reader.ts";
import { ReadyLoop } from "./replica/ready-loop.ts";
import type { Replica } from "./replica/replica.ts";
import { sampledTrace } from "./replica/sampled-trace.ts";
import { Scanner } from "./replica/scanner.ts";
import { type StateHash, stateHash } from "./replica/state-hash.ts";
import type { WriteTrace } from "./replica/waiting.ts";
import { nodeFigures } from "./report-figures.ts";
import { refuseSnapshot } from "./snapshot/receiver.ts";
import { NodeSnapshots, type NodeSnapshotsOptions } from "./snapshot/snapshots.ts";
import { soloGroupsServe } from "./solo-groups.ts";
import type { Transport } from "./transport/transport.ts";
import type { Wal } from "./wal/types.ts";

export type StorageNodeParts = {
  readonly nodeId: NodeId;
  readonly clusterId: string;
  readonly engine: Engine;
  readonly wal: Wal;
  /** Those that the log knows. */
  readonly replicas: readonly Replica[];
  /** For those that are made later. */
  readonly replicaParts: ReplicaParts;
  readonly transport: Transport;
  readonly clock: Clock;
  /** False for an engine that does not outlive the process: the log is then all there is. */
  readonly mayCompactLog: boolean;
  /** By default nothing is traced. */
  readonly tracing?: Tracing | undefined;
  readonly changeLog?: ChangeLogRetention | undefined;
  readonly diskGuard: DiskGuard;
  /** Absent: the node neither sends nor takes snapshots. */
  readonly snapshots?: SnapshotParts | undefined;
  /** Entries of the meta group were applied here. */
  readonly onMetaApplied?: () => void;
  /** The node can no longer vouch for its data: the process must end at once. */
  readonly onFatal: (error: unknown) => void;
};

export type SnapshotParts = Pick<
  NodeSnapshotsOptions,
  | "fs"
  | "directory"
  | "random"
  | "reserveBytes"
  | "bytesPerSecond"
  | "chunkBytes"
  | "onTransferError"
>;

export class StorageNode implements OperationHandler {
  readonly #parts: StorageNodeParts;
  readonly #loop: ReadyLoop;
  readonly #reader: Reader;
  readonly #scanner: Scanner;
  readonly #maintenance: Maintenance;
  readonly #snapshots: NodeSnapshots | undefined;
  readonly #hosted = new HostedReplicas();
  /** Undefined with traces off. */
  readonly #traces: OperationTraces | undefined;
  /** The change logs of the vshards that it leads. */
  readonly changes: NodeChanges;
  readonly #raftWatch = new RaftWatch();
  readonly host: Hosting;
  readonly meta: MetaReplica;
  /** Counted by the streams on which operations come. */
  readonly operations = new OperationFigures();
  readonly entries = new EntryFigures();
  #cancelTick: () => void = () => {};
  #closing: Promise<void> | undefined;

  private constructor(parts: StorageNodeParts) {
    const { engine, wal, replicas, clock, transport, onFatal } = parts;
    this.#parts = parts;
    for (const replica of replicas) this.#hosted.add(replica);
    const { tracing = noTracing, nodeId, replicaParts } = parts;
    replicaParts.observers.push(this.entries);
    this.#traces = openTraces({ tracing, clock, nodeId, transport }, replicaParts.observers);
    this.#scanner = new Scanner({
      engine,
      clock,
      expire: (replica, mutations, done) => this.#proposeExpiry(replica, mutations, done),
    });
    this.#reader = new Reader({
      engine,
      clock,
      scanner: this.#scanner,
      expire: (replica, get, done) => this.#expireKey(replica, get, done),
    });
    this.changes = new NodeChanges({ engine, clock, hosted: this.#hosted });
    const { tail } = this.changes;
    this.#snapshots = this.#newSnapshots();
    this.#loop = new ReadyLoop({
      wal,
      transport,
      clock,
      reader: this.#reader,
      snapshots: this.#snapshots,
      readRounds: parts.replicaParts.readRounds,
      onApplied: ({ group }) => {
        if (group === META_GROUP) parts.onMetaApplied?.();
      },
      onRole: (replica) => tail.roleChanged(replica),
      pump: (onApplied) => new ApplyPump({ engine, clock, onApplied, onFatal, listener: tail }),
      onFatal,
    });
    this.host = new Hosting({
      hosted: this.#hosted,
      parts: parts.replicaParts,
      loop: this.#loop,
      forget: async (replica) => {
        tail.roleChanged(replica);
        await this.#snapshots?.forget(replica);
      },
      forgotten: async (replica) => this.#snapshots?.forgotten(replica),
    });
    this.meta = new MetaReplica({
      hosted: this.#hosted,
      engine,
      loop: this.#loop,
      random: parts.replicaParts.random,
    });
    this.#maintenance = new Maintenance({
      replicas: () => this.#hosted.list,
      engine,
      wal,
      loop: this.#loop,
      clock,
      mayCompact: parts.mayCompactLog,
      changeLog: parts.changeLog,
      expire: (replica, mutations, done) => this.#proposeExpiry(replica, mutations, done),
      onFatal,
    });
  }

  #newSnapshots(): NodeSnapshots | undefined {
    const { snapshots, engine, clock, transport } = this.#parts;
    if (snapshots === undefined) return undefined;
    return new NodeSnapshots({
      ...snapshots,
      engine,
      clock,
      transport,
      replicaOf: (group) => (this.#closing ? undefined : this.#hosted.get(group)),
      between: (work) => this.#loop.pump.between(work),
      markDirty: (replica) => this.#loop.markDirty(replica),
    });
  }

  /**
   * Starts a node over what was opened for it; from here on the node closes log and engine.
   * Resolves when the groups without other members serve.
   */
  static async start(parts: StorageNodeParts): Promise<StorageNode> {
    const node = new StorageNode(parts);
    try {
      await node.#snapshots?.start();
      node.#start();
      await node.soloGroupsServe();
    } catch (error) {
      await node.close(0);
      throw error;
    }
    return node;
  }

  #start(): void {
    this.#parts.transport.start({
      onMessage: (message) => {
        const replica = this.#hosted.get(message.group);
        // Of another replica: this one is its successor, or it is yet to come.
        if (replica === undefined || replica.raft.id !== message.to || this.#closing) return;
        // It counts only behind its rows, which come on a stream.
        if (message.kind === "snapshot") return;
        replica.raft.step(message);
        if (replica.needsPass) this.#loop.markDirty(replica);
      },
      onTraces: (traces) => this.#traces?.follow(traces, (group) => this.#hosted.get(group)),
      onUnreachable: (node) => this.#lost(node),
      onSnapshotStream: (from, stream) => {
        if (this.#snapshots !== undefined) this.#snapshots.accept(from, stream);
        else refuseSnapshot(stream);
      },
    });
    for (const replica of this.#hosted.list) this.host.begin(replica);
    this.#parts.diskGuard.start();
    this.#maintenance.start();
    this.#tick();
  }

  /** See `solo-groups.ts`. */
  soloGroupsServe(): Promise<void> {
    return soloGroupsServe(this.#hosted.list, this.#parts.clock);
  }

  #tick(): void {
    const { clock } = this.#parts;
    this.#cancelTick = clock.after(TICK_MS, () => {
      const nowMs = clock.nowMs();
      const monotonicMs = clock.monotonicMs();
      const hangs = this.#loop.stalledMs > DISK_HANG_MS;
      for (const replica of this.#hosted.list) {
        replica.giveUp(nowMs, monotonicMs);
        replica.raft.tick();
        this.#raftWatch.look(replica);
        if (hangs) this.#leaveLead(replica);
        if (replica.needsPass) this.#loop.markDirty(replica);
      }
      this.#tick();
    });
  }

  #leaveLead(replica: Replica): void {
    const successor = successorOfHung(replica);
    if (successor !== undefined) replica.raft.transferLeadership(successor);
  }

  operate(operation: Operation, reply: Reply): void {
    const trace = this.#traces?.begin(operation);
    if (trace === undefined) this.#operate(operation, reply, undefined);
    else this.#operate(operation, this.#traces!.replyOf(trace, reply), trace);
  }

  #operate(operation: Operation, reply: Reply, trace: WriteTrace | undefined): void {
    const { body } = operation;
    if (body.kind === "cancel") return;
    const replica = this.#hosted.get(operation.vshard);
    if (this.#closing) {
      reply(failureOf("UNAVAILABLE", "the storage node is stopping", { notApplied: true }));
      return;
    }
    if (replica === undefined) {
      const detail = `this node has no replica of vshard ${operation.vshard}`;
      reply(failureOf("NOT_LEADER", detail, { notApplied: true }));
      return;
    }
    if (body.kind === "get" || body.kind === "scan") {
      const { maxStalenessMs } = body;
      if (maxStalenessMs > 0 && replica.isFresh(maxStalenessMs, this.#parts.clock.monotonicMs())) {
        this.#reader.serveOne(replica, body, reply);
      } else if (replica.read(body, reply)) this.#loop.markDirty(replica);
      return;
    }
    const { command } = body;
    if (command.deadlineMs < this.#parts.clock.nowMs()) {
      reply(failureOf("DEADLINE_EXCEEDED", "the deadline had passed", { notApplied: true }));
      return;
    }
    // Only a leader's writes reach the disk; the others must not use up what the guard counts.
    if (replica.isLeader && !this.#hasRoomFor(command)) {
      reply(failureOf("STORAGE_FULL", "the node is low on disk space", { notApplied: true }));
      return;
    }
    const write = trace ?? sampledTrace(operation.traceContext);
    if (replica.write(command, reply, write)) this.#loop.markDirty(replica);
  }

  #hasRoomFor(command: Command): boolean {
    const frees = command.mutations.every((mutation) => mutation.action.kind !== "put");
    const { wal, diskGuard } = this.#parts;
    if (wal.spaceLow && !frees) return false;
    return diskGuard.take(commandSizeBytes(command), frees);
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
    return statusOf(this.#parts, this.#hosted.list);
  }

  /** Whether every group that has a replica here has a leader known here. */
  get serving(): boolean {
    return !this.#closing && this.#hosted.list.every((replica) => replica.raft.leader !== 0);
  }

  /** Of the local replica of a group; undefined without one, or while its rows are replaced. */
  async stateHash(group: GroupId): Promise<StateHash | undefined> {
    const view = await this.#loop.pump.between(() =>
      this.#hosted.get(group)?.installing === false ? this.#parts.engine.snapshot() : undefined,
    );
    if (view === undefined) return undefined;
    try {
      return await stateHash(group, view);
    } finally {
      await view.close();
    }
  }

  /** For the node's report to the meta group. */
  figures(): NodeFigures {
    return nodeFigures(this.sources(), this.#loop.syncMicros);
  }

  /** For metrics. */
  sources(): NodeSources {
    const replicas = this.#hosted.list;
    const { budget } = this.#parts.replicaParts;
    const engineWrites = this.#loop.pump.writes;
    const counted = { operations: this.operations, raftWatch: this.#raftWatch, engineWrites };
    const { changes, entries } = this;
    const snapshots = this.#snapshots?.counts;
    return { ...this.#parts, ...counted, replicas, budget, snapshots, changes, entries };
  }

  /** What was under way to a node is probably lost: leaders find out by themselves, but sooner so. */
  #lost(node: NodeId): void {
    for (const { raft } of this.#hosted.list) {
      if (raft.role !== Role.Leader) continue;
      for (const id of membersOf(raft.configuration)) {
        if (nodeOfReplica(id) === node) raft.reportUnreachable(id);
      }
    }
  }

  /**
   * Gives the lead of every group to a member that is up to date, and waits for it, at most
   * `timeoutMs`. So that a node which stops does not leave its groups to a timeout.
   */
  handOver(timeoutMs: number): Promise<void> {
    return handOver({
      replicas: () => this.#hosted.list,
      markDirty: (replica) => this.#loop.markDirty(replica),
      clock: this.#parts.clock,
      timeoutMs,
    });
  }

  /**
   * Refuses new operations, answers those that run (at most `timeoutMs`), and closes log and
   * engine. Idempotent.
   */
  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  /** No client waits for an answer. */
  #isIdle(): boolean {
    return this.#scanner.idle && this.#hosted.list.every((replica) => replica.idle);
  }

  async #close(timeoutMs: number): Promise<void> {
    const { clock } = this.#parts;
    const untilMs = clock.monotonicMs() + timeoutMs;
    await this.#maintenance.stop(timeoutMs);
    while (clock.monotonicMs() < untilMs && !this.#isIdle()) {
      await new Promise<void>((resolve) => clock.after(5, resolve));
    }
    this.#cancelTick();
    this.#parts.diskGuard.stop();
    this.#loop.stop();
    this.changes.close();
    await this.#snapshots?.stop();
    this.#parts.transport.close();
    await this.#parts.wal.close();
    await this.#loop.pump.stop();
    await this.#parts.engine.close();
  }
}
