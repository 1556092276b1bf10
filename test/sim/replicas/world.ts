/**
 * Several real storage nodes with one replicated group, under faults: lost, repeated, late and
 * overtaking messages, links cut in one direction, slow and failing disks, power losses, clocks that
 * differ and jump. Clients write and read; at the end everything is healed, must make progress, and is
 * judged (history.ts). The rows of replicas are compared all along (row-hash.ts).
 *
 * A run is a function of its seed: nothing in it reads a real clock or waits for the outside, and the
 * event loop, through which nodes schedule their passes, keeps the order in which it is asked.
 */
import { assert } from "#shared/assert.ts";
import type { NodeId, ReplicaId } from "#shared/ids.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { type StreamEnds, TestStreams } from "#storage-node/snapshot/testing/streams.ts";
import { Client, type Key, makeKeys, type PickNode, type Request } from "./clients.ts";
import { checkHistory } from "./history.ts";
import { SimNode } from "./node.ts";
import { drawOptions, EVENTS, type EventName, type Options } from "./options.ts";
import { Violation, violated } from "./violation.ts";

const NODES = 3;
const IN_FLIGHT_MAX = 300;
const START_MS = 1_700_000_000_000;
/** Of the healed group, in which a write must be answered and all replicas become equal. */
const HEALING_ROUNDS_MAX = 1500;
const HEALING_STEP_MS = 50;
const SETTLE_ROUNDS = 40;
const STABLE_ROUNDS = 100;

export type ReplicasResult = {
  readonly events: number;
  readonly requests: number;
  readonly answered: number;
  readonly refused: number;
  readonly resent: number;
  readonly crashes: number;
  readonly elections: number;
  readonly applied: number;
  readonly snapshotStreams: number;
  readonly installed: number;
  /** Equal for equal seeds. */
  readonly traceHash: number;
};

/** @throws Violation whose message names the seed */
export async function runReplicas(seed: number): Promise<ReplicasResult> {
  const world = new World(seed);
  try {
    return await world.run();
  } catch (error) {
    const { message } = error as Error;
    const rule = error instanceof Violation ? error.rule : "node";
    const text = message.startsWith(`${rule}: `) ? message.slice(rule.length + 2) : message;
    const where = `seed ${seed}, event ${world.step}: ${text}`;
    throw Object.assign(new Violation(rule, where, { cause: error }), { events: world.step });
  }
}

class World {
  step = 0;
  readonly #random: SeededRandom;
  readonly #options: Options;
  readonly #nodes: SimNode[] = [];
  readonly #clients: Client[] = [];
  readonly #keys: readonly Key[] = makeKeys();
  readonly #requests: Request[] = [];
  readonly #hashes = new Map<number, number>();
  readonly #cut = new Set<number>();
  readonly #terms = new Set<number>();
  readonly #streams = new TestStreams();
  #network: Message[] = [];
  #nowMs = START_MS;
  #faults = true;
  #crashes = 0;
  #resent = 0;
  #traceHash = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#options = drawOptions(this.#random);
    const members = Array.from({ length: NODES }, (_, i) => (i + 1) as ReplicaId);
    for (const id of members) {
      const node = new SimNode({
        id,
        members,
        random: this.#random,
        options: this.#options,
        send: (message) => this.#send(message),
        openStream: (from, to) => this.#openStream(from, to),
        onHash: (replica, index, hash) => this.#compare(replica, index, hash),
        failsNow: () => this.#faults && this.#random.float() < this.#options.diskErrorChance,
      });
      this.#nodes.push(node);
      node.start(this.#nowMs);
    }
    const { clients, load } = this.#options;
    for (let name = 0; name < clients; name++) this.#addClient(name, load);
  }

  #addClient(name: number, load: Options["load"]): Client {
    const random = this.#random;
    const client = new Client({ name, random, keys: this.#keys, load, requests: this.#requests });
    this.#clients.push(client);
    return client;
  }

  async run(): Promise<ReplicasResult> {
    const kinds = kindTable(this.#options.weights);
    while (this.step < this.#options.steps) {
      this.#event(kinds[this.#random.below(kinds.length)]!);
      if (this.#random.below(8) > 0) await this.#turn();
    }
    await this.#heal();
    const node = this.#nodes[0]!;
    checkHistory(node.engine!, this.#requests, this.#keys);
    return {
      events: this.step,
      requests: this.#requests.length,
      answered: this.#requests.filter((each) => each.results.length > 0 || each.found).length,
      refused: this.#requests.filter(
        (each) =>
          each.over &&
          !each.doubtful &&
          each.open === 0 &&
          each.results.length === 0 &&
          !each.found,
      ).length,
      resent: this.#resent,
      crashes: this.#crashes,
      elections: this.#terms.size,
      applied: node.replica!.applied.index,
      snapshotStreams: this.#streams.opened,
      installed: this.#nodes.reduce((sum, each) => sum + each.installed, 0),
      traceHash: this.#traceHash,
    };
  }

  #trace(value: number): void {
    this.#traceHash = (Math.imul(this.#traceHash ^ value, 0x01000193) + this.step) | 0;
  }

  /** Lets nodes make their passes, and notices who has ended. */
  async #turn(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    for (const node of this.#nodes) if (node.endedByDiskError()) this.#crash(node);
  }

  #event(kind: EventName): void {
    this.step++;
    for (const client of this.#clients) client.nowStep = this.step;
    const node = this.#nodes[this.#random.below(NODES)]!;
    this.#trace(EVENTS.indexOf(kind) * 8 + node.id);
    for (const each of this.#nodes) if (each.pausedFor > 0) each.pausedFor--;
    switch (kind) {
      case "time":
        this.#passTime(1 + this.#random.below(this.#options.timeStepMsMax));
        return;
      case "deliver":
        for (let n = this.#random.below(this.#options.deliveriesMax); n >= 0; n--)
          this.#deliverOne();
        return;
      case "disk":
        if (node.pausedFor > 0) return;
        for (let n = this.#random.below(this.#options.diskAnswersMax); n >= 0; n--)
          node.answerDisk();
        return;
      case "client":
        this.#askClient();
        return;
      case "flush":
        node.flush();
        return;
      case "compact":
        void node.compact();
        return;
      case "stream":
        for (const other of this.#nodes) this.#deliverStream(node, other);
        return;
      default:
        this.#fault(kind, node);
    }
  }

  #fault(kind: EventName, node: SimNode): void {
    switch (kind) {
      case "crash":
        if (node.running) this.#crash(node);
        return;
      case "outage":
        for (const each of this.#nodes) if (each.running) this.#crash(each);
        return;
      case "start":
        if (!node.running) node.start(this.#nowMs);
        return;
      case "cut":
        for (const other of this.#nodes) {
          if (this.#random.below(2) === 0) this.#cut.add(link(node.id, other.id));
          if (this.#random.below(2) === 0) this.#cut.add(link(other.id, node.id));
        }
        return;
      case "heal":
        this.#cut.clear();
        return;
      case "pause":
        node.pausedFor = this.#random.below(500);
        return;
      case "damage":
        node.damage();
        return;
      case "jump":
        node.jumpWall(this.#random.below(6000) - 3000);
        return;
      default:
        assert(false, `no fault: ${kind}`);
    }
  }

  #passTime(byMs: number): void {
    this.#nowMs += byMs;
    for (const node of this.#nodes) {
      if (node.pausedFor === 0) node.advance(Math.round(byMs * (0.9 + 0.2 * this.#random.float())));
    }
  }

  #askClient(): void {
    const client = this.#clients[this.#random.below(this.#clients.length)]!;
    client.step({ step: this.step, ms: this.#nowMs }, this.#pick);
  }

  /** First to a leader, often the one of the latest term; after a failure to any node. */
  readonly #pick: PickNode = (tries) => {
    const leaders = this.#nodes.filter((node) => node.replica?.isLeader);
    const guess = this.#random.below(8) > 0;
    // Mostly it waits until somebody leads, as a gateway does.
    if (guess && leaders.length === 0) return undefined;
    if (tries > 0) this.#resent++;
    const among = guess ? leaders : this.#nodes;
    const target = among[this.#random.below(among.length)]!;
    const { node, life } = target;
    if (node === undefined || target.pausedFor > 0) return undefined;
    return { node, isAlive: () => target.life === life && target.running };
  };

  #crash(node: SimNode): void {
    this.#crashes++;
    node.crash();
    this.#streams.cut(({ from, to }) => from === node.id || to === node.id);
  }

  #openStream(from: ReplicaId, to: NodeId): MessageStream | undefined {
    const target = this.#nodes[to - 1]!;
    if (this.#isCutBetween(from, target.id)) return undefined;
    const { near, far } = this.#streams.open({ from, to });
    if (!target.accept(from as number as NodeId, far)) return undefined;
    return near;
  }

  #isCutBetween(a: ReplicaId, b: ReplicaId): boolean {
    return this.#cut.has(link(a, b)) || this.#cut.has(link(b, a));
  }

  /** What `from` sends to `to` of a snapshot arrives, and the answers; or the stream breaks. */
  #deliverStream(from: SimNode, to: SimNode): void {
    if (from.pausedFor > 0 || to.pausedFor > 0 || this.#isCutBetween(from.id, to.id)) return;
    const isOfPair = (ends: StreamEnds): boolean => ends.from === from.id && ends.to === to.id;
    if (this.#faults && this.#random.float() < this.#options.lossChance) {
      this.#streams.cut(isOfPair);
    } else this.#streams.deliver(isOfPair);
  }

  #send(message: Message): void {
    this.#terms.add(message.kind === "heartbeat" || message.kind === "append" ? message.term : 0);
    if (this.#faults) {
      if (this.#random.float() < this.#options.lossChance) return;
      if (this.#random.float() < this.#options.repeatChance) this.#network.push(message);
    }
    this.#network.push(message);
    if (this.#network.length > IN_FLIGHT_MAX) this.#network.shift();
  }

  #deliverOne(): void {
    const window = Math.min(this.#options.reorderWindow, this.#network.length);
    const [message] = this.#network.splice(this.#random.below(window), 1);
    if (message === undefined) return;
    if (this.#random.float() < this.#options.delayChance) this.#network.push(message);
    else this.#deliver(message);
  }

  #deliver(message: Message): void {
    const node = this.#nodes[message.to - 1]!;
    if (this.#cut.has(link(message.from, message.to)) || node.pausedFor > 0) return;
    this.#trace(message.kind.length + 31 * message.term + 7 * message.from + message.to);
    node.receive(message);
  }

  /** Rows of replicas that have applied as much must be the same. */
  #compare(replica: ReplicaId, index: number, hash: number): void {
    this.#trace(hash);
    const known = this.#hashes.get(index);
    if (known === undefined) this.#hashes.set(index, hash);
    else if (known !== hash) {
      violated("replicas are equal", `replica ${replica} differs behind entry ${index}`);
    }
  }

  async #heal(): Promise<void> {
    const { ending } = this.#options;
    this.#faults = false;
    this.#cut.clear();
    for (const node of this.#nodes) {
      node.pausedFor = 0;
      // One that is ahead by more than a deadline would refuse every write.
      node.setWallRight();
      if (ending === "outage" && node.running) this.#crash(node);
    }
    const last = this.#nodes[this.#random.below(NODES)]!;
    for (const { id } of this.#nodes) {
      if (id === last.id) continue;
      if (ending === "mute") this.#cut.add(link(last.id, id));
      if (ending === "deaf") this.#cut.add(link(id, last.id));
    }
    // How long a message is under way, in rounds: a slow network must not keep a group from electing.
    const delay = this.#random.below(4);
    await this.#mustProgress(delay, `with the network ${ending}`);
    await this.#leaderMustStay(delay, `with the network ${ending}`);
    this.#cut.clear();
    await this.#mustProgress(delay, "healed");
    await this.#mustBecomeEqual(delay);
  }

  /** All nodes in step: what was sent `delay` rounds ago arrives, disks answer, time passes. */
  async #calmRound(queues: Message[][], delay: number): Promise<void> {
    this.step++;
    for (const client of this.#clients) client.nowStep = this.step;
    for (const node of this.#nodes) if (!node.running) node.start(this.#nowMs);
    queues.push(this.#network);
    this.#network = [];
    const arriving = queues.length > delay ? queues.shift()! : [];
    for (const message of arriving) this.#deliver(message);
    for (const from of this.#nodes) for (const to of this.#nodes) this.#deliverStream(from, to);
    // Replies that wait for a disk leave in the same round.
    for (let idle = 0; idle < 3; idle++) {
      await this.#turn();
      for (const node of this.#nodes) {
        if (node.diskIsBusy) idle = 0;
        while (node.diskIsBusy) node.answerDisk();
      }
    }
    this.#nowMs += HEALING_STEP_MS;
    for (const node of this.#nodes) node.advance(HEALING_STEP_MS);
  }

  async #mustProgress(delay: number, how: string): Promise<void> {
    const queues: Message[][] = [];
    const load = { ...this.#options.load, patienceSteps: 20, deadlineMsMax: 10_000 };
    const client = this.#addClient(this.#clients.length, load);
    const before = this.#requests.length;
    const isDone = () =>
      this.#requests.slice(before).some(({ results }) => results.some(({ applied }) => applied));
    for (let round = 0; round < HEALING_ROUNDS_MAX && !isDone(); round++) {
      await this.#calmRound(queues, delay);
      client.step({ step: this.step, ms: this.#nowMs }, this.#pick);
    }
    if (!isDone()) violated("liveness", `no write is taken, ${how}`);
    this.#network.push(...queues.flat());
  }

  /** Once elections that had begun are over, a leader that a majority hears is not deposed. */
  async #leaderMustStay(delay: number, how: string): Promise<void> {
    const queues: Message[][] = [];
    for (let round = 0; round < SETTLE_ROUNDS; round++) await this.#calmRound(queues, delay);
    const term = this.#termOfLeader();
    for (let round = 0; round < STABLE_ROUNDS; round++) await this.#calmRound(queues, delay);
    if (term === 0 || this.#termOfLeader() !== term) {
      violated("liveness", `the leader of term ${term} does not stay, ${how}`);
    }
    this.#network.push(...queues.flat());
  }

  #termOfLeader(): number {
    const leaders = this.#nodes.filter(({ replica }) => replica?.isLeader);
    return Math.max(0, ...leaders.map(({ replica }) => replica!.raft.term));
  }

  async #mustBecomeEqual(delay: number): Promise<void> {
    const queues: Message[][] = [];
    let calm = 0;
    for (let round = 0; round < HEALING_ROUNDS_MAX && calm < SETTLE_ROUNDS; round++) {
      await this.#calmRound(queues, delay);
      const applied = this.#nodes.map(({ replica }) => replica?.applied.index ?? 0);
      const last = this.#nodes.map(({ replica }) => replica?.raft.lastIndex ?? -1);
      const equal = new Set([...applied, ...last]).size === 1;
      calm = equal ? calm + 1 : 0;
    }
    if (calm < SETTLE_ROUNDS) violated("liveness", "replicas do not become equal");
    const hashes = this.#nodes.map(({ rowsHash }) => rowsHash);
    if (new Set(hashes).size > 1) {
      violated("replicas are equal", `at the end rows differ: ${hashes.join(" ")}`);
    }
  }
}

const link = (from: ReplicaId, to: ReplicaId): number => from * 16 + to;

function kindTable(weights: Options["weights"]): readonly EventName[] {
  const size = 4096;
  const sum = EVENTS.reduce((total, name) => total + weights[name], 0);
  const table: EventName[] = [];
  let upTo = 0;
  for (const name of EVENTS) {
    upTo += weights[name];
    while (table.length < Math.round((upTo / sum) * size)) table.push(name);
  }
  return table;
}
