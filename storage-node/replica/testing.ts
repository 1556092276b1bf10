/**
 * A cluster of replicas of one group in one process, under manual control: logs become durable and
 * messages arrive only when told. For tests of the ready loop.
 */
import type { Command, Get, Mutation, Reply, ResultBody, Scan } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { type Clock, ManualClock } from "#shared/clock.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type ReplicaId,
  Space,
  type Term,
  VSHARD_COUNT,
} from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { loadMachine } from "#storage-node/machine/load.ts";
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { Raft } from "#storage-node/raft/raft.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { soloTransport, type Transport } from "#storage-node/transport/transport.ts";
import type { Wal, WalRecord } from "#storage-node/wal/types.ts";
import { type AppliedListener, ApplyPump } from "./apply-pump.ts";
import { newBudget } from "./budget.ts";
import { createGroups, openGroups, type ReplicaParts } from "./open-groups.ts";
import { Reader } from "./reader.ts";
import { ReadyLoop } from "./ready-loop.ts";
import { Replica } from "./replica.ts";
import { Scanner } from "./scanner.ts";
import type { EntryObserver } from "./timeline.ts";

const GROUP = 7 as GroupId;

/** A log whose syncs end when the test says so. */
export class ManualWal {
  readonly batches: { records: readonly WalRecord[]; onDurable: () => void }[] = [];

  append(records: readonly WalRecord[], onDurable: () => void): void {
    this.batches.push({ records, onDurable });
  }

  /** Ends the oldest running sync; false if there is none. */
  sync(): boolean {
    const batch = this.batches.shift();
    batch?.onDurable();
    return batch !== undefined;
  }
}

export type Member = {
  readonly replica: Replica;
  readonly loop: ReadyLoop;
  readonly reader: Reader;
  readonly wal: ManualWal;
  readonly engine: Engine;
};

/** Who is told of what a member applies, and of its role. */
export type Observe = (member: Pick<Member, "replica" | "engine"> & { readonly clock: Clock }) => {
  readonly listener?: AppliedListener;
  readonly onRole?: (replica: Replica) => void;
};

export class TestGroup {
  readonly clock = new ManualClock();
  readonly members = new Map<ReplicaId, Member>();
  readonly fatal: unknown[] = [];
  /** Messages under way, oldest first. */
  network: Message[] = [];

  /** Told of the entries of the member with the id. */
  readonly observers = new Map<number, EntryObserver[]>();

  readonly #observe: Observe;
  readonly #openEngine: () => Engine;

  constructor(observe: Observe = () => ({}), openEngine: () => Engine = openMemory) {
    this.#observe = observe;
    this.#openEngine = openEngine;
  }

  static async create(
    size: number,
    observe?: Observe,
    openEngine?: () => Engine,
  ): Promise<TestGroup> {
    const group = new TestGroup(observe, openEngine);
    const voters = Array.from({ length: size }, (_, i) => (i + 1) as ReplicaId);
    for (const id of voters) await group.#add(id, voters);
    return group;
  }

  async #add(id: ReplicaId, voters: readonly ReplicaId[]): Promise<void> {
    const engine = this.#openEngine();
    const machine = await loadMachine(GROUP, engine);
    const observers: EntryObserver[] = [];
    this.observers.set(id, observers);
    const raft = raftOf(id, voters);
    const budget = newBudget();
    const replica = new Replica({ group: GROUP, machine, budget, raft, observers });
    const expire = (of: Replica, mutations: readonly Mutation[], done: Reply): void => {
      const command = { requestId: EMPTY_BYTES, deadlineMs: 0, mutations };
      if (of.write(command, done)) loop.markDirty(of);
    };
    const scanner = new Scanner({ engine, clock: this.clock, expire });
    const reader = new Reader({ engine, clock: this.clock, scanner, expire: () => {} });
    const wal = new ManualWal();
    const onFatal = (error: unknown) => this.fatal.push(error);
    const transport: Transport = {
      ...soloTransport(),
      send: (messages) => this.network.push(...messages),
    };
    const { listener, onRole } = this.#observe({ replica, engine, clock: this.clock });
    const loop = new ReadyLoop({
      ...(onRole && { onRole }),
      // The loop uses nothing of the log but `append`.
      wal: wal as unknown as Wal,
      transport,
      clock: this.clock,
      reader,
      readRounds: { current: 0 },
      pump: (onApplied) =>
        new ApplyPump({ engine, clock: this.clock, onApplied, onFatal, listener }),
      onFatal,
    });
    this.members.set(id, { replica, loop, reader, wal, engine });
  }

  member(id: number): Member {
    return this.members.get(id as ReplicaId)!;
  }

  /** Lets every loop make its passes. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Delivers what is under way and passes `keep`; the rest is lost. */
  async deliver(keep: (message: Message) => boolean = () => true): Promise<number> {
    const messages = this.network;
    this.network = [];
    for (const message of messages) {
      if (!keep(message)) continue;
      const { replica, loop } = this.member(message.to);
      replica.raft.step(message);
      loop.markDirty(replica);
    }
    await this.settle();
    return messages.length;
  }

  /** Ends all syncs of the members given (all by default). */
  async syncAll(ids: readonly number[] = [...this.members.keys()]): Promise<number> {
    let synced = 0;
    for (const id of ids) while (this.member(id).wal.sync()) synced++;
    await this.settle();
    return synced;
  }

  /** Syncs and delivers what passes `keep` until nothing happens any more. */
  async stabilize(keep?: (message: Message) => boolean): Promise<void> {
    for (let round = 0; round < 100; round++) {
      await this.settle();
      const happened = (await this.syncAll()) + (await this.deliver(keep));
      if (happened === 0) return;
    }
    throw new Error("the group does not come to rest");
  }

  async elect(id: number): Promise<void> {
    const { replica, loop } = this.member(id);
    replica.raft.campaign();
    loop.markDirty(replica);
    await this.stabilize();
  }

  /** Starts a put; the answers arrive in the array returned. */
  put(id: number, key: string, requestId: number, ttlMs = 0): ResultBody[] {
    const { replica, loop } = this.member(id);
    const answers: ResultBody[] = [];
    const command = this.putOf(key, requestId, ttlMs);
    if (replica.write(command, (body) => answers.push(body))) loop.markDirty(replica);
    return answers;
  }

  putOf(key: string, requestId: number, ttlMs = 0): Command {
    return {
      requestId: new Uint8Array(16).fill(requestId),
      deadlineMs: this.clock.nowMs() + 10_000,
      mutations: [
        {
          tenant: DEFAULT_TENANT,
          space: Space.Kv,
          key: utf8(key),
          condition: undefined,
          action: { kind: "put", value: utf8(`value of ${key}`), contentType: "", ttlMs },
        },
      ],
    };
  }

  getOf(key: string): Get {
    return {
      kind: "get",
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      key: utf8(key),
      maxStalenessMs: 0,
      metadataOnly: false,
    };
  }

  /** A step over all keys. */
  scanOf(change: Partial<Scan> = {}): Scan {
    return {
      kind: "scan",
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      start: EMPTY_BYTES,
      end: EMPTY_BYTES,
      reverse: false,
      rowsMax: 100,
      valueBytesMax: 100_000,
      keysOnly: false,
      countOnly: false,
      maxStalenessMs: 0,
      ...change,
    };
  }

  scan(id: number, change: Partial<Scan> = {}): ResultBody[] {
    const { replica, loop } = this.member(id);
    const answers: ResultBody[] = [];
    if (replica.read(this.scanOf(change), (body) => answers.push(body))) loop.markDirty(replica);
    return answers;
  }

  get(id: number, key: string): ResultBody[] {
    const { replica, loop } = this.member(id);
    const answers: ResultBody[] = [];
    if (replica.read(this.getOf(key), (body) => answers.push(body))) loop.markDirty(replica);
    return answers;
  }
}

function raftOf(id: ReplicaId, voters: readonly ReplicaId[]): Raft {
  const zero = { index: 0 as LogIndex, term: 0 as Term };
  return new Raft({
    group: GROUP,
    id,
    configuration: simpleConfiguration(voters),
    hardState: { term: zero.term, vote: 0 as ReplicaId, commit: zero.index },
    start: zero,
    entries: [],
    applied: zero,
    random: new SeededRandom(id),
    electionTicks: { min: 10, max: 20 },
    heartbeatTicks: 1,
    inflightMessagesMax: 16,
    inflightBytesMax: 1 << 20,
    appendBytesMax: 1 << 16,
    uncommittedBytesMax: 1 << 20,
  });
}

/** All vshard groups with the replica of node 1 as their only member, opened or made. */
export async function openSoloGroups(parts: ReplicaParts): Promise<readonly Replica[]> {
  const opened = await openGroups(parts);
  if (opened.length > 0) return opened;
  const replica = 1 as ReplicaId;
  const specs = Array.from({ length: VSHARD_COUNT }, (_, vshard) => ({
    group: vshard as GroupId,
    replica,
    configuration: simpleConfiguration([replica]),
  }));
  return createGroups(parts, specs);
}
