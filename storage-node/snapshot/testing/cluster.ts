/**
 * A cluster of one group for tests of snapshots: real logs and ready loops over disks in memory that
 * forget what was not synced, message streams that break on demand, and time that moves by `step` only.
 */
import type { Command, Get, ResultBody } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type NodeId,
  nodeOfReplica,
  type ReplicaId,
  Space,
  type Term,
} from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { MemoryDisk, openMemory } from "#storage-node/engine/memory.ts";
import { loadMachine } from "#storage-node/machine/load.ts";
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type { Configuration, Message } from "#storage-node/raft/types.ts";
import { ApplyPump } from "#storage-node/replica/apply-pump.ts";
import { newBudget } from "#storage-node/replica/budget.ts";
import { loadConfiguration } from "#storage-node/replica/configuration-row.ts";
import { checkAgainstLog } from "#storage-node/replica/open-groups.ts";
import { Reader } from "#storage-node/replica/reader.ts";
import { ReadyLoop } from "#storage-node/replica/ready-loop.ts";
import { Replica } from "#storage-node/replica/replica.ts";
import { Scanner } from "#storage-node/replica/scanner.ts";
import { type StateHash, stateHash } from "#storage-node/replica/state-hash.ts";
import { nextTurn } from "#storage-node/replica/turn.ts";
import { recoverInstallations } from "#storage-node/snapshot/install.ts";
import { NodeSnapshots } from "#storage-node/snapshot/snapshots.ts";
import { soloTransport } from "#storage-node/transport/transport.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import type { RecoveredGroup, Wal } from "#storage-node/wal/types.ts";
import { openWal } from "#storage-node/wal/wal.ts";
import { TestStreams } from "./streams.ts";

export const GROUP = 7 as GroupId;
const SNAPSHOTS_DIRECTORY = "/data/snapshots";
const WAL_DIRECTORY = "/data/wal";
const STEP_MS = 10;
const STEPS_PER_TICK = 10;

/** What outlives a node's process. */
export type TestDisks = { fs: MemoryFileSystem; engineDisk: MemoryDisk };

export type TestNode = {
  readonly id: ReplicaId;
  readonly engine: Engine;
  readonly wal: Wal;
  readonly replica: Replica;
  readonly loop: ReadyLoop;
  readonly reader: Reader;
  readonly snapshots: NodeSnapshots;
};

export type ClusterOptions = {
  readonly bytesPerSecond?: number;
  readonly chunkBytes?: number;
  readonly reserveBytes?: number;
  /** Between a node and its engine. */
  readonly engine?: (id: number, engine: Engine) => Engine;
};

export class SnapshotCluster {
  readonly clock = new ManualClock();
  readonly streams = new TestStreams();
  readonly disks = new Map<number, TestDisks>();
  /** Those that run. */
  readonly nodes = new Map<number, TestNode>();
  readonly fatal: unknown[] = [];
  readonly transferErrors: unknown[] = [];
  /** Messages from or to these do not arrive. */
  readonly cutOff = new Set<number>();
  readonly options: ClusterOptions;
  /** Of every disk. */
  freeBytes = 2 ** 40;
  /** Sees every message that leaves a node. */
  onSend: (message: Message) => void = () => {};
  #network: Message[] = [];
  #steps = 0;

  constructor(options: ClusterOptions = {}) {
    this.options = options;
  }

  /** Replicas 1 to `size` are the voters. */
  static async create(size: number, options: ClusterOptions = {}): Promise<SnapshotCluster> {
    const cluster = new SnapshotCluster(options);
    const voters = Array.from({ length: size }, (_, i) => (i + 1) as ReplicaId);
    for (const id of voters) await cluster.start(id, simpleConfiguration(voters));
    cluster.node(1).replica.raft.campaign();
    await cluster.until(() => cluster.node(1).replica.caughtUp);
    return cluster;
  }

  node(id: number): TestNode {
    return this.nodes.get(id)!;
  }

  /** @param first with which a replica begins that is new; without any it can only learn */
  async start(id: number, first: Configuration = simpleConfiguration([])): Promise<TestNode> {
    let disks = this.disks.get(id);
    if (disks === undefined) {
      const fs = new MemoryFileSystem({ freeBytes: () => this.freeBytes });
      disks = { fs, engineDisk: new MemoryDisk() };
      this.disks.set(id, disks);
    }
    const opened = openMemory(disks.engineDisk);
    const engine = this.options.engine?.(id, opened) ?? opened;
    const wal = await this.#openWal(id, disks.fs);
    const directory = SNAPSHOTS_DIRECTORY;
    const { groups } = wal.recovery;
    const installed = await recoverInstallations({ fs: disks.fs, directory, engine, groups });
    const replicaId = id as ReplicaId;
    const recovered = groups.get(GROUP) ?? (await begin(wal, replicaId, first));
    const machine = await loadMachine(GROUP, engine);
    checkAgainstLog(GROUP, machine, recovered, installed.get(GROUP));
    const members = (await loadConfiguration(GROUP, engine)) ?? recovered.configuration;
    const raft = raftOf(recovered, members, machine);
    const replica = new Replica({ group: GROUP, machine, budget: newBudget(), raft });
    const node = this.#wire(replicaId, disks.fs, { engine, wal, replica });
    await node.snapshots.start();
    this.nodes.set(id, node);
    node.loop.markDirty(replica);
    return node;
  }

  #openWal(id: number, fs: MemoryFileSystem): Promise<Wal> {
    return openWal({
      directory: WAL_DIRECTORY,
      nodeId: id as NodeId,
      segmentSizeBytes: 16 * 1024,
      fs,
      clock: this.clock,
      random: new SeededRandom(id),
      onFatal: (error) => this.fatal.push(error),
    });
  }

  #wire(
    id: ReplicaId,
    fs: MemoryFileSystem,
    parts: Pick<TestNode, "engine" | "wal" | "replica">,
  ): TestNode {
    const { engine, wal, replica } = parts;
    const { clock, options } = this;
    const onFatal = (error: unknown) => this.fatal.push(error);
    const isAlive = (): boolean => this.nodes.get(id)?.replica === replica;
    const snapshots: NodeSnapshots = new NodeSnapshots({
      fs,
      directory: SNAPSHOTS_DIRECTORY,
      engine,
      clock,
      random: new SeededRandom(100 + id),
      transport: {
        openSnapshotStream: (to) => (isAlive() ? this.#openStream(id, to) : undefined),
      },
      replicaOf: (group) => (group === GROUP && !replica.isGone ? replica : undefined),
      between: (work) => loop.pump.between(work),
      markDirty: (dirty) => loop.markDirty(dirty),
      reserveBytes: options.reserveBytes ?? 0,
      bytesPerSecond: options.bytesPerSecond,
      chunkBytes: options.chunkBytes ?? 400,
      onTransferError: (error) => this.transferErrors.push(error),
    });
    const scanner = new Scanner({ engine, clock, expire: () => {} });
    const reader = new Reader({ engine, clock, scanner, expire: () => {} });
    const loop: ReadyLoop = new ReadyLoop({
      wal,
      transport: {
        ...soloTransport(),
        send: (messages) => {
          if (!isAlive()) return;
          for (const message of messages) this.onSend(message);
          this.#network.push(...messages);
        },
      },
      clock,
      reader,
      readRounds: { current: 0 },
      snapshots,
      pump: (onApplied) => new ApplyPump({ engine, clock, onApplied, onFatal }),
      onFatal,
    });
    return { id, engine, wal, replica, loop, reader, snapshots };
  }

  #openStream(from: number, to: NodeId) {
    const target = this.nodes.get(to);
    if (target === undefined || this.cutOff.has(from) || this.cutOff.has(to)) return undefined;
    const { near, far } = this.streams.open({ from, to });
    target.snapshots.accept(from as NodeId, far);
    return near;
  }

  /** A little time passes, and what was on its way arrives. */
  async step(): Promise<void> {
    this.#steps++;
    this.clock.advance(STEP_MS);
    if (this.#steps % STEPS_PER_TICK === 0) {
      for (const { replica, loop } of this.nodes.values()) {
        replica.raft.tick();
        if (replica.raft.hasReady() || replica.roleChanged) loop.markDirty(replica);
      }
    }
    const arriving = this.#network;
    this.#network = [];
    for (const message of arriving) {
      const target = this.nodes.get(nodeOfReplica(message.to));
      const isCut = this.cutOff.has(message.from) || this.cutOff.has(message.to);
      if (target === undefined || target.replica.isGone || isCut) continue;
      target.replica.raft.step(message);
      target.loop.markDirty(target.replica);
    }
    this.streams.deliver();
    for (let turn = 0; turn < 3; turn++) await nextTurn();
    if (this.fatal.length > 0) throw this.fatal[0];
  }

  async until(condition: () => boolean, stepsMax = 5000): Promise<void> {
    for (let step = 0; step < stepsMax; step++) {
      if (condition()) return;
      await this.step();
    }
    throw new Error(`it did not come true: ${condition}`);
  }

  async steps(count: number): Promise<void> {
    for (let step = 0; step < count; step++) await this.step();
  }

  /** Writes a value, or deletes the key without one. The answers arrive in the array returned. */
  put(id: number, key: string, value?: string): ResultBody[] {
    const { replica, loop } = this.node(id);
    const answers: ResultBody[] = [];
    const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) };
    const action =
      value === undefined
        ? ({ kind: "delete" } as const)
        : ({ kind: "put", value: utf8(value), contentType: "", ttlMs: 0 } as const);
    const command: Command = {
      requestId: new Uint8Array(0),
      deadlineMs: this.clock.nowMs() + 60_000,
      mutations: [{ ...address, condition: undefined, action }],
    };
    if (replica.write(command, (body) => answers.push(body))) loop.markDirty(replica);
    return answers;
  }

  async putAll(id: number, count: number, prefix: string): Promise<void> {
    const answers: ResultBody[][] = [];
    for (let i = 0; i < count; i++) {
      answers.push(this.put(id, `${prefix} ${i}`, `value ${i} `.repeat(1 + (i % 7))));
      // Not all of them become one entry.
      if (i % 3 === 0) await this.step();
    }
    await this.until(() => answers.every((each) => each.length > 0));
  }

  async deleteAll(id: number, count: number, prefix: string): Promise<void> {
    const answers = Array.from({ length: count }, (_, i) => this.put(id, `${prefix} ${i}`));
    await this.until(() => answers.every((each) => each.length > 0));
  }

  /** What a stale read finds there: the value, nothing, or why it was refused. */
  peek(id: number, key: string): Promise<string | undefined> {
    const { reader, replica } = this.node(id);
    const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) };
    const get: Get = { kind: "get", ...address, maxStalenessMs: 1, metadataOnly: false };
    return new Promise((resolve) => {
      reader.serveOne(replica, get, (body) => {
        if (body.kind === "failure") resolve(`refused: ${body.detail}`);
        else if (body.kind !== "get" || !body.found) resolve(undefined);
        else resolve(Buffer.from(body.value).toString());
      });
    });
  }

  /** The leader gives up its log as far as it is applied, in memory and on disk. */
  async compact(id: number): Promise<void> {
    const { engine, replica, wal } = this.node(id);
    const start = replica.applied;
    await engine.flush();
    replica.raft.compact(start.index);
    replica.logCutIndex = start.index;
    wal.append([{ kind: "compactPrefix", group: GROUP, start }], () => {});
    await this.steps(5);
  }

  hashOf(id: number): Promise<StateHash> {
    const { engine, loop } = this.node(id);
    return loop.pump.between(() => stateHash(GROUP, engine.snapshot()));
  }

  /** All that run have applied the same. */
  get isEven(): boolean {
    const indexes = [...this.nodes.values()].map(({ replica }) => replica.applied.index);
    const installing = [...this.nodes.values()].some(({ replica }) => replica.installing);
    return new Set(indexes).size === 1 && !installing;
  }

  /** Files of snapshots there. */
  staged(id: number): readonly string[] {
    const { fs } = this.disks.get(id)!;
    const prefix = `${SNAPSHOTS_DIRECTORY}/`;
    return fs.paths
      .filter((path) => path.startsWith(prefix))
      .map((path) => path.slice(prefix.length));
  }

  /** Of a node that does not run. */
  async groupsInLog(id: number): Promise<readonly GroupId[]> {
    const wal = await this.#openWal(id, this.disks.get(id)!.fs);
    return [...wal.recovery.groups.keys()];
  }

  /** The process ends; `fs` and `engineDisk` are what is left of its disks. */
  kill(id: number, left: TestDisks): void {
    this.nodes.delete(id);
    this.streams.cut(({ from, to }) => from === id || to === id);
    this.disks.set(id, left);
  }
}

async function begin(
  wal: Wal,
  replica: ReplicaId,
  configuration: Configuration,
): Promise<RecoveredGroup> {
  const start = { index: 0 as LogIndex, term: 0 as Term };
  await new Promise<void>((resolve) =>
    wal.append([{ kind: "snapshotMeta", group: GROUP, replica, start, configuration }], resolve),
  );
  const hardState = { term: start.term, vote: 0 as ReplicaId, commit: start.index };
  return { replica, hardState, start, configuration, entries: [] };
}

function raftOf(
  recovered: RecoveredGroup,
  configuration: Configuration,
  machine: { readonly appliedIndex: LogIndex; readonly appliedTerm: Term },
): Raft {
  const { replica, hardState, start, entries } = recovered;
  return new Raft({
    group: GROUP,
    id: replica,
    configuration,
    hardState,
    start,
    entries,
    applied: { index: machine.appliedIndex, term: machine.appliedTerm },
    random: new SeededRandom(replica),
    electionTicks: { min: 10, max: 20 },
    heartbeatTicks: 1,
    inflightMessagesMax: 16,
    inflightBytesMax: 1 << 20,
    appendBytesMax: 1 << 16,
    uncommittedBytesMax: 1 << 20,
  });
}
