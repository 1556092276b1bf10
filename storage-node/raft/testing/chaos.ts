/**
 * A seeded cluster under fire: loss, duplication, reordering and delay of messages, cut links, slow
 * disks, crashes that lose every write not yet synced (or keep some of which nobody was told). After
 * the faults it heals and must make progress. Every event is checked by safety.ts.
 */
import { assert } from "#shared/assert.ts";
import { utf8 } from "#shared/bytes.ts";
import type { LogIndex } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { type Message, type ReadToken, Role } from "#storage-node/raft/types.ts";
import { describeMessage, describeStatus } from "./describe.ts";
import { Member, votersUpTo } from "./member.ts";
import { SafetyChecker } from "./safety.ts";

export type ChaosOptions = {
  readonly seed: number;
  readonly members: number;
  /** Random events before the faults end. */
  readonly events: number;
};

export type ChaosResult = {
  readonly committed: number;
  readonly elections: number;
  readonly readsServed: number;
  readonly crashes: number;
};

/** @throws Error that names the seed, with the last events, when a safety rule is broken. */
export function runChaos(options: ChaosOptions): ChaosResult {
  const run = new Chaos(options);
  try {
    return run.all();
  } catch (cause) {
    throw new Error(`seed ${options.seed}: ${(cause as Error).message}\n${run.history()}`, {
      cause,
    });
  }
}

const HISTORY_LINES_MAX = 40;
const HEALING_ROUNDS_MAX = 400;
const IN_FLIGHT_MAX = 400;

class Chaos {
  readonly #options: ChaosOptions;
  readonly #random: SeededRandom;
  readonly #safety: SafetyChecker;
  readonly #members: readonly Member[];
  #network: Message[] = [];
  readonly #cut = new Set<number>();
  #events: string[] = [];
  #tokens = 0;
  #proposals = 0;
  #readsServed = 0;
  #crashes = 0;
  /** Chances per seed, so that some runs are calm and others are wild. */
  readonly #lossChance: number;
  readonly #crashChance: number;

  constructor(options: ChaosOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#lossChance = this.#random.float() * 0.2;
    this.#crashChance = this.#random.float() * 0.01;
    const configuration = votersUpTo(options.members);
    const tuning = {
      electionTicks: { min: 4, max: 8 },
      preVote: this.#random.below(4) > 0,
      checkQuorum: this.#random.below(4) > 0,
      inflightMessagesMax: 1 + this.#random.below(4),
      inflightBytesMax: 100 + this.#random.below(200),
      appendBytesMax: 40 + this.#random.below(200),
    };
    this.#safety = new SafetyChecker(configuration);
    this.#members = configuration.voters.map(
      (id) =>
        new Member({
          id,
          configuration,
          tuning,
          random: this.#random,
          hooks: {
            send: (message) => this.#send(message),
            onReady: (member, ready) => this.#safety.ready(member, ready),
            onApply: (member, entry) => this.#safety.apply(member, entry),
            onRead: (_, read) => {
              this.#readsServed++;
              this.#safety.read(read);
            },
          },
        }),
    );
    this.#safety.watch(this.#members);
  }

  history(): string {
    const states = this.#members.flatMap((member) =>
      describeStatus(member.id, member.raft.status()),
    );
    return [...this.#events.slice(-HISTORY_LINES_MAX), ...states].join("\n");
  }

  all(): ChaosResult {
    for (let i = 0; i < this.#options.events; i++) {
      this.#event();
      this.#settle();
    }
    this.#heal();
    return {
      committed: this.#safety.committedCount,
      elections: this.#safety.elections,
      readsServed: this.#readsServed,
      crashes: this.#crashes,
    };
  }

  #note(line: string): void {
    if (this.#events.push(line) > 2 * HISTORY_LINES_MAX) this.#events.splice(0, HISTORY_LINES_MAX);
  }

  #send(message: Message): void {
    this.#safety.sent(message);
    if (this.#network.length < IN_FLIGHT_MAX) this.#network.push(message);
  }

  #settle(): void {
    for (const member of this.#members) {
      if (!member.alive) continue;
      // A busy owner does not get to its Ready after every event.
      if (this.#random.below(4) > 0) member.pump();
      this.#safety.inspect(member);
    }
  }

  #event(): void {
    const member = this.#members[this.#random.below(this.#members.length)]!;
    const dice = this.#random.float();
    if (dice < this.#crashChance) this.#crashOrRestart(member);
    else if (dice < 0.015) this.#changeLinks();
    else if (!member.alive) this.#maybeRestart(member);
    else if (dice < 0.17) {
      this.#note(`${member.id} ticks`);
      member.raft.tick();
    } else if (dice < 0.25) this.#propose(member);
    else if (dice < 0.28) this.#read(member);
    else if (dice < 0.29) this.#compact(member);
    else if (dice < 0.5) this.#persist(member);
    else this.#deliver();
  }

  #propose(member: Member): void {
    const result = member.raft.propose(utf8(`v${++this.#proposals}`));
    if (result.kind === "accepted") this.#note(`${member.id} proposes at ${result.index}`);
  }

  #read(member: Member): void {
    const token = ++this.#tokens as ReadToken;
    this.#safety.readRequested(token);
    const result = member.raft.readIndex(token);
    this.#note(`${member.id} read ${token} ${result.kind}`);
  }

  #persist(member: Member): void {
    const batch = member.disk.pending[0];
    if (batch === undefined) return;
    this.#note(`${member.id} has batch ${batch.number} on disk`);
    member.persist();
  }

  /** Only as far as everybody has come: nobody could be served from a snapshot yet. */
  #compact(member: Member): void {
    const index = Math.min(...this.#members.map((each) => each.disk.hardState.commit));
    const limit = Math.min(index, member.appliedIndex, member.disk.lastIndex) as LogIndex;
    if (limit <= member.disk.start.index) return;
    if (this.#members.some((each) => each.disk.lastIndex < limit)) return;
    this.#note(`${member.id} compacts to ${limit}`);
    member.compact(limit);
  }

  #crashOrRestart(member: Member): void {
    if (!member.alive) {
      this.#maybeRestart(member);
      return;
    }
    const synced = this.#random.below(member.disk.pending.length + 1);
    this.#note(`${member.id} crashes, ${synced} writes of ${member.disk.pending.length} survive`);
    this.#crashes++;
    member.crash(synced);
  }

  #maybeRestart(member: Member): void {
    if (this.#random.below(4) > 0) return;
    // The engine may have lost its last batches: they were not synced.
    const start = member.disk.start.index;
    const applied = start + this.#random.below(member.appliedIndex - start + 1);
    this.#note(`${member.id} restarts at applied ${applied}`);
    member.restart(applied as LogIndex);
  }

  #changeLinks(): void {
    if (this.#random.below(2) === 0) {
      this.#note("all links heal");
      this.#cut.clear();
      return;
    }
    const from = 1 + this.#random.below(this.#members.length);
    const to = 1 + this.#random.below(this.#members.length);
    this.#note(`link ${from}->${to} is cut`);
    this.#cut.add(this.#link(from, to));
  }

  #link(from: number, to: number): number {
    return from * 16 + to;
  }

  #deliver(): void {
    if (this.#network.length === 0) return;
    const at = this.#random.below(Math.min(this.#network.length, 12));
    const message = this.#network[at]!;
    const dice = this.#random.float();
    // A duplicate stays where it is, and comes again at any time later.
    if (dice > 0.1) this.#network.splice(at, 1);
    const cut = this.#cut.has(this.#link(message.from, message.to));
    if (cut || this.#random.float() < this.#lossChance) return;
    this.#hand(message);
  }

  #hand(message: Message): void {
    const member = this.#members[message.to - 1]!;
    if (!member.alive) return;
    this.#note(`got ${describeMessage(message)}`);
    member.raft.step(message);
  }

  /** No more faults: a leader must be found, and a proposal reach every replica. */
  #heal(): void {
    this.#cut.clear();
    for (const member of this.#members) if (!member.alive) member.restart(member.disk.start.index);
    let target: number | undefined;
    for (let round = 0; round < HEALING_ROUNDS_MAX; round++) {
      this.#calmRound();
      const leader = this.#members.find((member) => member.raft.role === Role.Leader);
      if (target === undefined && round > 100 && leader !== undefined) {
        const result = leader.raft.propose(utf8("last"));
        if (result.kind === "accepted") target = result.index;
      }
      const reached = target;
      if (reached !== undefined && this.#members.every((each) => each.appliedIndex >= reached))
        return;
    }
    assert(false, "the healed cluster makes no progress");
  }

  #calmRound(): void {
    for (const member of this.#members) {
      member.raft.tick();
      member.pump();
      while (member.persist()) member.pump();
      this.#safety.inspect(member);
    }
    const messages = this.#network;
    this.#network = [];
    for (const message of messages) this.#hand(message);
    for (const member of this.#members) member.pump();
  }
}
