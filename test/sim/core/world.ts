/**
 * One run: replicas, network, clients, and the dice that decide what happens next.
 *
 * A run is a sequence of numbered events. Event `i` throws dice of its own (random.ts), so that any
 * event can be left out without changing what the others draw. Nothing waits: `step` is one event.
 */
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { describeMessage } from "#storage-node/raft/testing/describe.ts";
import { type Configuration, type Message, Role } from "#storage-node/raft/types.ts";
import { Checker } from "./checker.ts";
import { Clients } from "./clients.ts";
import { countFault } from "./coverage.ts";
import { ModelDisk, type SimDisk, type SimDiskOwner } from "./disk.ts";
import type { EngineState } from "./engine.ts";
import { History } from "./history.ts";
import { Fault, type FaultName } from "./kinds.ts";
import { SimNetwork } from "./network.ts";
import { SimNode } from "./node.ts";
import { drawOptions, type Profile, type SimOptions } from "./options.ts";
import { EventRandom } from "./random.ts";
import type { SnapshotTransfer } from "./snapshots.ts";
import { Statistics } from "./statistics.ts";
import type { Trace } from "./trace.ts";

export type WorldOptions = {
  readonly seed: number;
  readonly profile: Profile;
  /** Words for every event, for people; slow. */
  readonly trace?: Trace | undefined;
  /** Default: the model. */
  readonly makeDisk?: (owner: SimDiskOwner) => SimDisk;
};

const NOT_A_MEMBER_YET: Configuration = {
  voters: [],
  outgoing: [],
  learners: [],
  learnersNext: [],
  highestId: 0 as ReplicaId,
};

export class World {
  readonly options: SimOptions;
  readonly random: EventRandom;
  readonly network: SimNetwork;
  readonly history: History;
  readonly checker: Checker;
  readonly clients: Clients;
  readonly statistics = new Statistics();
  readonly trace: Trace | undefined;
  /** By replica id; ids are never reused. */
  readonly nodes: (SimNode | undefined)[] = [];
  /** Those that are not gone for good. */
  roster: SimNode[] = [];
  transfers: SnapshotTransfer[] = [];
  nextId: number;
  /** Over everything that happened: two runs of one seed end with the same. */
  hash = 0;
  /** Faults are over: nothing is lost any more, and nobody is lazy. */
  healing = false;
  readonly #makeDisk: (owner: SimDiskOwner) => SimDisk;

  constructor({ seed, profile, trace, makeDisk }: WorldOptions) {
    const dice = new SeededRandom(seed);
    this.options = drawOptions(dice, profile);
    this.random = new EventRandom(dice.below(2 ** 32));
    this.trace = trace;
    this.#makeDisk = makeDisk ?? ((owner) => new ModelDisk(owner));
    const { voters, learners } = this.options;
    const ids = Array.from({ length: voters + learners }, (_, i) => (i + 1) as ReplicaId);
    const configuration: Configuration = {
      ...NOT_A_MEMBER_YET,
      voters: ids.slice(0, voters),
      learners: ids.slice(voters),
      highestId: (voters + learners) as ReplicaId,
    };
    this.network = new SimNetwork(this.options.inFlightMax);
    this.history = new History(configuration);
    this.checker = new Checker(this.history, this.nodes);
    this.clients = new Clients(this);
    this.nextId = voters + learners + 1;
    this.random.startEvent(-1);
    for (const id of ids) this.#addNode(id, configuration).start();
  }

  #addNode(id: ReplicaId, configuration: Configuration): SimNode {
    const first: EngineState = { index: 0 as LogIndex, term: 0 as Term, digest: 0, configuration };
    const { clients } = this;
    const node = new SimNode({
      id,
      first,
      options: this.options,
      random: this.random,
      checker: this.checker,
      history: this.history,
      makeDisk: this.#makeDisk,
      hooks: {
        send: (message) => this.#send(message),
        onApplied: (replica, entry) => clients.applied(replica, entry),
        onRead: (replica, read) => clients.readServed(replica, read),
        onReadDropped: (replica, token) => clients.readDropped(replica, token),
        onInstalled: (replica, index) => {
          this.statistics.counts["snapshots installed"]++;
          clients.skippedTo(replica, index);
          this.trace?.note(`${replica.id} has installed the snapshot at ${index}`);
        },
        onReady: (replica, ready) => this.trace?.ready(replica.id, ready),
        onReset: () => this.statistics.counts["logs reset at a start"]++,
      },
    });
    this.nodes[id] = node;
    this.roster.push(node);
    return node;
  }

  /** A replica that a change of membership has named comes into being, empty. */
  join(id: ReplicaId): void {
    if (this.nodes[id] !== undefined) return;
    this.statistics.counts["members joined"]++;
    this.#addNode(id, NOT_A_MEMBER_YET).start();
  }

  /** It is never seen again, and its id is never used again. */
  lose(node: SimNode): void {
    this.crash(node);
    node.state = "gone";
    this.roster = this.roster.filter((each) => each !== node);
    this.statistics.counts["replicas gone"]++;
  }

  crash(node: SimNode): void {
    const { lost, torn } = node.crash();
    this.clients.crashed(node);
    const { counts } = this.statistics;
    counts["batches lost"] += lost;
    if (torn) counts["batches torn"]++;
    this.trace?.note(`${node.id} crashes: ${lost} batches lost, engine at ${node.engine.index}`);
  }

  #send(message: Message): void {
    if (this.network.send(message)) return;
    this.countFault("queue overflow", this.nodes[message.from]);
  }

  /** Hands a message that has arrived to its receiver, if there is one. */
  arrive(message: Message): void {
    const node = this.nodes[message.to];
    this.trace?.note(`-> ${describeMessage(message)}${node?.running ? "" : " (nobody there)"}`);
    if (node === undefined || !node.running) return;
    if (node.state === "paused") {
      if (node.inbox.length < this.options.inFlightMax) node.inbox.push(message);
      return;
    }
    node.step(message);
    this.settle(node);
    this.touch(node);
  }

  /** After anything that happened to a node's core: its owner gets to its Ready, or not yet. */
  settle(node: SimNode): void {
    if (node.state !== "running") return;
    if (this.healing || !this.random.chance(this.options.lazyChance)) node.pump();
  }

  /** Something happened to this node: it becomes part of the run's hash. */
  touch(node: SimNode): void {
    let mixed = Math.imul(this.hash ^ node.id, 0x85ebca6b);
    if (node.running) {
      const { raft } = node;
      mixed = Math.imul(mixed ^ (raft.term + raft.lastIndex * 1024), 0xc2b2ae35);
      mixed = Math.imul(mixed ^ (raft.commit + node.engine.index * 1024), 0x27d4eb2f);
    }
    this.hash = mixed ^ (mixed >>> 15);
  }

  countFault(name: FaultName, node: SimNode | undefined): void {
    countFault(this.statistics, Fault[name], node);
  }

  /** A replica from the roster that `fits`, searched from a drawn place on. */
  find(fits: (node: SimNode) => boolean): SimNode | undefined {
    const { roster } = this;
    const first = this.random.below(roster.length);
    for (let i = 0; i < roster.length; i++) {
      const node = roster[(first + i) % roster.length]!;
      if (fits(node)) return node;
    }
    return undefined;
  }

  /**
   * Somebody who leads, or thinks so: one that was deposed without knowing it is where stale reads and
   * conflicting logs come from. Otherwise whom a replica takes for its leader, or that replica.
   */
  findLeader(): SimNode | undefined {
    if (this.random.below(2) === 0) {
      const node = this.find(({ state, raft }) => state === "running" && raft.role === Role.Leader);
      if (node !== undefined) return node;
    }
    const node = this.find(({ state }) => state === "running");
    if (node === undefined || node.raft.role === Role.Leader) return node;
    const leader = this.nodes[node.raft.leader];
    if (leader?.state === "running" && this.random.below(8) > 0) return leader;
    return node;
  }

  /** Somebody who leads and does not know that another has been elected since. */
  findDeposed(): SimNode | undefined {
    const leads = ({ running, state, raft }: SimNode): boolean =>
      running && state === "running" && raft.role === Role.Leader;
    let last = 0;
    for (const node of this.roster) if (leads(node)) last = Math.max(last, node.raft.term);
    return this.roster.find((node) => leads(node) && node.raft.term < last);
  }
}
