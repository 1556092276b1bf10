/**
 * One storage node of the simulation: the real node with one group of several members, over a log in
 * a file system that loses power and over an engine in memory that forgets what was not flushed.
 *
 * The disk answers one operation at a time, and only when the world says so (`answerDisk`). A crash
 * takes away the node with all it had not made durable; what still runs of it reaches nobody.
 */
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import {
  type GroupId,
  type LogIndex,
  type NodeId,
  type ReplicaId,
  type Term,
  toNodeId,
} from "#shared/ids.ts";
import { ELECTION_TICKS_MAX, ELECTION_TICKS_MIN, HEARTBEAT_TICKS } from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { MemoryDisk, openMemory } from "#storage-node/engine/memory.ts";
import { loadMachine } from "#storage-node/machine/load.ts";
import { StorageNode } from "#storage-node/node.ts";
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type { LogStart, Message } from "#storage-node/raft/types.ts";
import { newBudget } from "#storage-node/replica/budget.ts";
import { DiskGuard } from "#storage-node/replica/disk-guard.ts";
import { checkAgainstLog, replicaParts } from "#storage-node/replica/open-groups.ts";
import { Replica } from "#storage-node/replica/replica.ts";
import { recoverInstallations } from "#storage-node/snapshot/install.ts";
import { soloTransport } from "#storage-node/transport/transport.ts";
import {
  MemoryFileSystem,
  type MemoryFileSystemOptions,
  type Operation,
  type Verdict,
} from "#storage-node/wal/memory-file-system.ts";
import type { RecoveredGroup, Wal } from "#storage-node/wal/types.ts";
import { openWal } from "#storage-node/wal/wal.ts";
import { damagedLog } from "./damage.ts";
import type { Options } from "./options.ts";
import { HashedEngine } from "./row-hash.ts";
import { Violation, violated } from "./violation.ts";

export const GROUP = 0 as GroupId;

export type SimNodeParts = {
  readonly id: ReplicaId;
  readonly members: readonly ReplicaId[];
  readonly random: SeededRandom;
  readonly options: Options;
  readonly send: (message: Message) => void;
  readonly openStream: (from: ReplicaId, to: NodeId) => MessageStream | undefined;
  readonly onHash: (id: ReplicaId, index: number, hash: number) => void;
  /** Whether the next write or sync of a log fails. */
  readonly failsNow: () => boolean;
};

/** What belongs to one run of the process: a dead one reaches nobody any more. */
type Life = {
  started: boolean;
  over: boolean;
  /** The log met an error that it was given. */
  failed: boolean;
  /** The log was damaged before the start, which must be refused; this is how it was. */
  intact: MemoryFileSystem | undefined;
  fatal: unknown;
  readonly answers: (() => void)[];
  node: StorageNode | undefined;
  replica: Replica | undefined;
  engine: HashedEngine | undefined;
  wal: Wal | undefined;
  receive: (message: Message) => void;
  accept: (from: NodeId, stream: MessageStream) => void;
};

const SNAPSHOTS_DIRECTORY = "/snapshots";

export class SimNode {
  readonly id: ReplicaId;
  readonly #parts: SimNodeParts;
  #clock: ManualClock;
  #skewMs: number;
  #engineDisk = new MemoryDisk();
  #life: Life;
  #fs: MemoryFileSystem;
  /** Steps of the world left until it goes on: it neither hears, writes nor keeps time. */
  pausedFor = 0;
  /** Snapshots that have begun to take the place of its rows. */
  installed = 0;

  constructor(parts: SimNodeParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.#skewMs = parts.random.below(4000) - 2000;
    this.#clock = new ManualClock();
    this.#life = newLife();
    this.#fs = new MemoryFileSystem(this.#diskOf(this.#life));
  }

  get running(): boolean {
    return this.#life.started;
  }
  /** Undefined while it is down or starting. */
  get node(): StorageNode | undefined {
    return this.#life.node;
  }
  get replica(): Replica | undefined {
    return this.#life.replica;
  }
  get engine(): Engine | undefined {
    return this.#life.engine;
  }
  get rowsHash(): number {
    return this.#life.engine?.rowsHash ?? 0;
  }
  get diskIsBusy(): boolean {
    return this.#life.answers.length > 0;
  }
  /** Of the running process, to tell its answers from those of an earlier one. */
  get life(): object {
    return this.#life;
  }

  /** `nowMs` is the true time, from which the node's own clock differs a little. */
  start(nowMs: number): void {
    const life = this.#life;
    life.started = true;
    this.#clock = new ManualClock(nowMs + this.#skewMs);
    this.#open(life).then(
      (node) => {
        life.node = node;
      },
      (error: unknown) => {
        life.fatal ??= error;
      },
    );
  }

  #diskOf(life: Life): MemoryFileSystemOptions {
    return {
      intercept: (operation) => this.#verdict(life, operation),
      defer: (run) => void life.answers.push(run),
    };
  }

  #verdict(life: Life, { kind, path }: Operation): Verdict {
    if (life.over) return { kind: "lost" };
    if (kind === "rename" && path.endsWith(".install")) this.installed++;
    if ((kind !== "write" && kind !== "datasync") || !this.#parts.failsNow()) return undefined;
    // A staged snapshot that cannot be written costs no more than its transfer.
    if (!path.startsWith(`${SNAPSHOTS_DIRECTORY}/`)) life.failed = true;
    return { kind: "fail", code: "EIO" };
  }

  async #open(life: Life): Promise<StorageNode> {
    const { id, random, onHash, options } = this.#parts;
    const clock = this.#clock;
    const nodeId = toNodeId(id);
    const onFatal = (error: unknown): void => {
      life.fatal ??= error;
    };
    const defer = options.slowEngine ? (run: () => void) => void life.answers.push(run) : undefined;
    const engine = new HashedEngine(
      openMemory(this.#engineDisk),
      (index, hash) => {
        // While rows are being replaced they are those of no index.
        const isWhole = life.replica !== undefined && !life.replica.installing;
        if (!life.over && isWhole) onHash(id, index, hash);
      },
      defer,
    );
    life.engine = engine;
    const wal = await openWal({
      directory: "/wal",
      nodeId,
      segmentSizeBytes: options.segmentSizeBytes,
      fs: this.#fs,
      clock,
      random,
      onFatal,
    });
    life.wal = wal;
    const staging = { fs: this.#fs, directory: SNAPSHOTS_DIRECTORY };
    const { groups } = wal.recovery;
    const installed = await recoverInstallations({ ...staging, engine, groups });
    const replica = await this.#openReplica(wal, engine, installed.get(GROUP));
    life.replica = replica;
    return StorageNode.start({
      nodeId,
      clusterId: "sim",
      engine,
      wal,
      replicas: [replica],
      replicaParts: replicaParts({ wal, engine, random: this.#parts.random }),
      transport: {
        ...soloTransport(),
        send: (messages) => {
          if (!life.over) for (const message of messages) this.#parts.send(message);
        },
        openSnapshotStream: (to) => (life.over ? undefined : this.#parts.openStream(id, to)),
        start: ({ onMessage, onSnapshotStream }) => {
          life.receive = onMessage;
          life.accept = onSnapshotStream;
        },
      },
      snapshots: { ...staging, random, reserveBytes: 0, chunkBytes: options.chunkBytes },
      clock,
      mayCompactLog: options.mayCompactLog,
      diskGuard: new DiskGuard({
        path: "/",
        reserveBytes: 0,
        clock,
        probe: (_path, done) => done(null, 2 ** 40),
        onChange: () => {},
      }),
      onFatal,
    });
  }

  async #openReplica(wal: Wal, engine: Engine, installed?: LogStart): Promise<Replica> {
    const { id, members, random, options } = this.#parts;
    const configuration = simpleConfiguration(members);
    const start = { index: 0 as LogIndex, term: 0 as Term };
    let recovered: RecoveredGroup | undefined = wal.recovery.groups.get(GROUP);
    if (recovered === undefined) {
      await new Promise<void>((resolve) =>
        wal.append(
          [{ kind: "snapshotMeta", group: GROUP, replica: id, start, configuration }],
          resolve,
        ),
      );
      const hardState = { term: start.term, vote: 0 as ReplicaId, commit: start.index };
      recovered = { replica: id, hardState, start, configuration, entries: [] };
    }
    const machine = await loadMachine(GROUP, engine);
    checkAgainstLog(GROUP, machine, recovered, installed);
    const raft = new Raft({
      group: GROUP,
      id,
      configuration,
      hardState: recovered.hardState,
      start: recovered.start,
      entries: recovered.entries,
      applied: { index: machine.appliedIndex, term: machine.appliedTerm },
      random,
      electionTicks: { min: ELECTION_TICKS_MIN, max: ELECTION_TICKS_MAX },
      heartbeatTicks: HEARTBEAT_TICKS,
      inflightMessagesMax: options.inflightMessagesMax,
      inflightBytesMax: 1 << 20,
      appendBytesMax: options.appendBytesMax,
      uncommittedBytesMax: 1 << 20,
    });
    return new Replica({ group: GROUP, machine, budget: newBudget(), raft });
  }

  /** The process ends and the power goes. */
  crash(): void {
    const { random } = this.#parts;
    this.#life.over = true;
    this.pausedFor = 0;
    // A disk of its own for each life: what the dead one still flushes must not reach anybody.
    const left = new MemoryDisk();
    left.save(this.#engineDisk.saved);
    this.#engineDisk = left;
    const luck = random.float();
    const names = random.float();
    const next = newLife();
    const fs = this.#life.intact ?? this.#fs;
    this.#life = next;
    this.#fs = fs.crash(
      { sector: () => random.float() < luck, name: () => random.float() < names },
      this.#diskOf(next),
    );
  }

  /**
   * While it is down: somebody removes its log, or bytes of it go bad which were durable. The next
   * start must notice, and finds everything restored the time after.
   */
  damage(): void {
    if (this.running || this.#life.intact !== undefined) return;
    const intact = this.#fs;
    const damaged = damagedLog(intact, this.#parts.random, this.#diskOf(this.#life), {
      // While an installation is under way the engine may be as empty as that of a new node.
      mayRemove:
        this.#engineDisk.saved.length > 0 &&
        !intact.paths.some((path) => path.endsWith(".install")),
    });
    if (damaged === undefined) return;
    this.#life.intact = intact;
    this.#fs = damaged;
  }

  /** After every step: true when the start was refused because of the damage. */
  #noticedDamage(): boolean {
    const { intact, fatal, node } = this.#life;
    if (intact === undefined) return false;
    if (node !== undefined) violated("damage is noticed", `node ${this.id} starts without it`);
    if (!(fatal instanceof KvError) || fatal.code !== "DATA_CORRUPT") return false;
    const next = newLife();
    this.#life.over = true;
    this.#life = next;
    this.#fs = intact.restarted(this.#diskOf(next));
    return true;
  }

  /** The oldest operation of the disk is answered. */
  answerDisk(): void {
    this.#life.answers.shift()?.();
  }

  advance(byMs: number): void {
    if (this.running) this.#clock.advance(byMs);
  }

  /** Its clock is set right. Log time that was stamped ahead is caught up with in some seconds. */
  setWallRight(): void {
    this.jumpWall(-this.#skewMs);
  }

  jumpWall(byMs: number): void {
    this.#skewMs += byMs;
    this.#clock.jumpWall(byMs);
  }

  receive(message: Message): void {
    if (this.node !== undefined) this.#life.receive(message);
  }

  /** False when nobody is there. */
  accept(from: NodeId, stream: MessageStream): boolean {
    if (this.node === undefined || this.pausedFor > 0) return false;
    this.#life.accept(from, stream);
    return true;
  }

  /** The log is given up as far as it is applied and the engine is flushed: as in maintenance.ts. */
  async compact(): Promise<void> {
    const life = this.#life;
    const { node, replica, engine, wal } = life;
    if (node === undefined || replica === undefined || wal === undefined) return;
    const start = replica.applied;
    await engine!.flush();
    if (life.over || replica.installing || start.index <= replica.logCutIndex) return;
    if (replica.raft.termAt(start.index) !== start.term) return;
    replica.logCutIndex = start.index;
    replica.raft.compact(start.index);
    wal.append([{ kind: "compactPrefix", group: GROUP, start }], () => {});
  }

  flush(): void {
    if (this.node !== undefined) void this.#life.engine?.flush();
  }

  /**
   * To be asked after every step: true when the process has ended by itself as it must, because its
   * log could not be written.
   */
  endedByDiskError(): boolean {
    if (this.#noticedDamage()) return false;
    const { failed, fatal } = this.#life;
    if (fatal === undefined) {
      if (failed && !this.diskIsBusy) {
        violated("write errors end the node", `node ${this.id} goes on after a failed write`);
      }
      return false;
    }
    if (fatal instanceof Violation) throw fatal;
    if (failed) return true;
    const rule = this.#life.node === undefined ? "start after a power loss" : "node";
    return violated(rule, `node ${this.id}: ${messageOf(fatal)}`, fatal);
  }
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

function newLife(): Life {
  return {
    started: false,
    over: false,
    failed: false,
    intact: undefined,
    fatal: undefined,
    answers: [],
    node: undefined,
    replica: undefined,
    engine: undefined,
    wal: undefined,
    receive: () => {},
    accept: () => {},
  };
}
