/**
 * One member of one Raft group on this node: the Raft core, the state machine, and between them the
 * clients that wait for an answer.
 *
 * A write waits first in `#pending` (nobody has proposed it), then in `#proposed` under the log index
 * and term of its entry. Everything that gathers in `#pending` while the log is being synced becomes
 * one entry (`proposePending`). A read waits for a ReadIndex round and then for the applied index to
 * reach what the round found.
 *
 * Nothing here does I/O or waits: `ready-loop.ts` writes the log, `apply-pump.ts` applies.
 */
import { encodeEntryBody } from "#proto/codec/entry-body.ts";
import { failureOf } from "#proto/codec/failure.ts";
import type { Command, Failure, Read, Reply, ResultBody } from "#proto/codec/messages.ts";
import { assert } from "#shared/assert.ts";
import { type GroupId, type LogIndex, nodeOfReplica, type Revision } from "#shared/ids.ts";
import { READ_WAIT_MS_MAX, READS_PENDING_PER_GROUP_MAX } from "#shared/limits.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import type { Raft } from "#storage-node/raft/raft.ts";
import { type Entry, type LogStart, type ReadToken, Role } from "#storage-node/raft/types.ts";
import type { CarriedTrace } from "#storage-node/transport/transport.ts";
import type { NodeBudget } from "./budget.ts";
import { FollowedEntries } from "./followed-entries.ts";
import { PendingWrites } from "./pending-writes.ts";
import { ProposedEntries } from "./proposed-entries.ts";
import { ReadRounds } from "./read-rounds.ts";
import type { EntryObserver } from "./timeline.ts";
import {
  answerRound,
  giveUpPast,
  type PendingRead,
  type ProposedEntry,
  type ReadsAtIndex,
  type WriteTrace,
} from "./waiting.ts";

export class Replica {
  readonly group: GroupId;
  readonly raft: Raft;
  /** Another one after each installed snapshot. */
  #machine: Machine;
  /** Set while the replica is in the ready loop's list of groups to look at. */
  dirty = false;
  /** An expiry sweep of this group is on its way through the log. */
  sweeping = false;

  /**
   * Up to where the engine holds the effects of the log. The machine itself may be ahead while a
   * batch is being written, and nothing may be read or given up on its word.
   */
  #applied: LogStart;
  /** Of the vshard, at `applied`: the engine holds all changes up to it. */
  appliedRevision: Revision;
  /** Up to where the log on disk has been given up. */
  logCutIndex: LogIndex;

  /** Up to this monotonic time more of the log is kept: a member goes on with it behind a snapshot. */
  keepLogUntilMs = Number.NEGATIVE_INFINITY;
  #installing = false;

  /** Whether it led at the last `noticeRole`. */
  #led = false;

  readonly #pending: PendingWrites;
  readonly #proposed = new ProposedEntries();
  /** Of another leader. */
  readonly #followed = new FollowedEntries();
  readonly #observers: readonly EntryObserver[];
  #readsGathering: PendingRead[] = [];
  readonly #readRounds = new ReadRounds();
  #readsWaiting: ReadsAtIndex[] = [];
  #nextReadToken = 1;
  /** Highest log time stamped or applied here: log time never goes back. */
  #logTimeMs = 0;
  /** Monotonic: all that was committed by then is applied here. */
  #freshAsOfMs = Number.NEGATIVE_INFINITY;
  #isGone = false;

  constructor(parts: {
    readonly group: GroupId;
    readonly raft: Raft;
    readonly machine: Machine;
    readonly budget: NodeBudget;
    readonly observers?: readonly EntryObserver[];
  }) {
    this.#pending = new PendingWrites(parts.budget);
    this.#observers = parts.observers ?? [];
    this.group = parts.group;
    this.raft = parts.raft;
    this.#machine = parts.machine;
    this.appliedRevision = parts.machine.revision;
    this.#applied = { index: parts.machine.appliedIndex, term: parts.machine.appliedTerm };
    this.logCutIndex = parts.raft.logStart.index;
  }

  get machine(): Machine {
    return this.#machine;
  }

  /** A snapshot takes the place of its rows: nobody may read them, and nothing is applied. */
  get installing(): boolean {
    return this.#installing;
  }

  /** From now on its rows go, and others come. */
  installationBegins(): void {
    this.#installing = true;
  }

  /** Engine and log hold, durably, the snapshot that ends with `start`; `machine` stands on its rows. */
  installed(machine: Machine, start: LogStart): void {
    this.#installing = false;
    this.#machine = machine;
    this.#applied = start;
    this.appliedRevision = machine.revision;
    this.logCutIndex = start.index;
    this.raft.applied(start.index);
  }

  get isLeader(): boolean {
    return this.raft.role === Role.Leader;
  }

  /** The group has no other members. */
  get alone(): boolean {
    const { voters, outgoing, learners } = this.raft.configuration;
    return voters.length === 1 && outgoing.length === 0 && learners.length === 0;
  }

  /** No client waits for an answer. */
  get idle(): boolean {
    return (
      this.#pending.length === 0 &&
      this.#proposed.all.length === 0 &&
      this.#readsGathering.length === 0 &&
      this.#readRounds.size === 0 &&
      this.#readsWaiting.length === 0
    );
  }

  get writesPending(): number {
    return this.#pending.length;
  }

  /** Reads or writes wait for the next pass of the ready loop. */
  get hasGathered(): boolean {
    return this.#pending.length > 0 || this.#readsGathering.length > 0;
  }

  /** Log time now: the wall clock, but never before what was stamped or applied. */
  logTimeMs(nowMs: number): number {
    return Math.max(nowMs, this.#logTimeMs, this.machine.logTimeMs);
  }

  /** Makes log time reach `logTimeMs`: an answer has been based on it. */
  advanceLogTime(logTimeMs: number): void {
    this.#logTimeMs = Math.max(this.#logTimeMs, logTimeMs);
  }

  /**
   * It leads, knows what earlier leaders committed (its own term has a committed entry), and has
   * applied it. Before that its rows may be as old as the last flush of the engine.
   */
  get caughtUp(): boolean {
    const { raft } = this;
    return (
      this.isLeader && raft.termAt(raft.commit) === raft.term && this.#applied.index >= raft.commit
    );
  }

  /** Takes a write, or refuses it at once with an answer that it was not applied. */
  write(command: Command, reply: Reply, trace?: WriteTrace): boolean {
    if (!this.isLeader || this.#isGone) {
      reply(this.notLeader(true));
      return false;
    }
    const refusal = this.#pending.add(command, reply, trace);
    if (refusal === undefined) return true;
    reply(failureOf("OVERLOADED", refusal, { notApplied: true }));
    return false;
  }

  /**
   * Whether its rows are at most `maxStalenessMs` old. Known by ReadIndex rounds alone, which followers
   * have through their leader: a round that began at some time finds all that was committed before. No
   * clock but the own monotonic one is asked.
   */
  isFresh(maxStalenessMs: number, monotonicMs: number): boolean {
    return monotonicMs - this.#freshAsOfMs <= maxStalenessMs;
  }

  /**
   * Takes a read, to be confirmed by the next ReadIndex round. A follower takes only those that allow
   * staleness: the others belong to the leader, which every gateway knows.
   */
  read(read: Read, reply: Reply): boolean {
    if (this.#isGone || (!this.isLeader && read.maxStalenessMs === 0)) {
      reply(this.notLeader(true));
      return false;
    }
    if (this.#readsGathering.length >= READS_PENDING_PER_GROUP_MAX) {
      reply(failureOf("OVERLOADED", "too many reads wait for this vshard", { notApplied: true }));
      return false;
    }
    this.#readsGathering.push({ read, reply });
    return true;
  }

  /**
   * Turns the writes that have gathered into Raft entries. One entry holds as many commands as
   * its bounds allow, so under load the cost of an entry is shared (one sync, one apply round).
   */
  proposePending(nowMs: number, monotonicMs: number): void {
    let taken = 0;
    while (taken < this.#pending.length) {
      const batch = this.#pending.batch(taken);
      const logTimeMs = this.logTimeMs(nowMs);
      const body = { logTimeMs, commands: batch.map((write) => write.command) };
      const result = this.raft.propose(encodeEntryBody(body));
      if (result.kind === "full" || result.kind === "transferring") break;
      taken += batch.length;
      if (result.kind === "notLeader") {
        const answer = this.notLeader(true);
        for (const write of batch) write.reply(answer);
        continue;
      }
      this.#logTimeMs = logTimeMs;
      const times = { receivedMs: this.#pending.sinceMs, proposedMs: monotonicMs };
      const entry = this.#proposed.add(result, { writes: batch, body }, times);
      this.#pending.noteProposed(batch.length);
      if (this.#pending.hasTraced) this.#tellProposed(entry);
    }
    this.#pending.drop(taken);
  }

  /** Writes have come since `sinceMs`, monotonic, at the earliest. */
  noteGathering(sinceMs: number): void {
    this.#pending.noteSince(sinceMs);
  }

  #tellProposed(entry: ProposedEntry): void {
    if (!entry.writes.some(({ trace }) => trace !== undefined)) return;
    for (const observer of this.#observers) observer.proposed?.(this.group, entry);
  }

  /** Entries are on this node's disk. */
  noteSynced(entries: readonly Entry[], monotonicMs: number): void {
    this.#proposed.synced(entries[entries.length - 1]!.index, monotonicMs);
    this.#followed.synced(entries, monotonicMs);
  }

  noteCommitted({ index }: Entry, monotonicMs: number): void {
    this.#proposed.committed(index, monotonicMs);
    this.#followed.committed(index, monotonicMs);
  }

  /** An entry has come, or is about to, whose operations are traced. */
  followTrace(trace: CarriedTrace, monotonicMs: number): void {
    if (!this.isLeader) this.#followed.expect(trace, monotonicMs);
  }

  /**
   * Asks Raft to confirm all reads that have gathered, in one round. Each round has a fresh token:
   * an acknowledgement can never confirm a later one.
   */
  startReadRound(monotonicMs: number): void {
    if (this.#readsGathering.length === 0) return;
    const reads = this.#readsGathering;
    this.#readsGathering = [];
    const token = this.#nextReadToken++;
    this.#readRounds.add(token, { startedMs: monotonicMs, reads });
    const result = this.raft.readIndex(token);
    if (result.kind === "notLeader") this.dropReads(token);
    if (result.kind === "full") {
      const answer = failureOf("OVERLOADED", "too many reads wait for this vshard", {
        notApplied: true,
      });
      answerRound(this.#readRounds.take(token), answer);
    }
  }

  /** A round was confirmed: its reads may be served once `index` is applied. */
  confirmReads(token: ReadToken, index: LogIndex): void {
    const round = this.#readRounds.take(token);
    if (round !== undefined) this.#readsWaiting.push({ ...round, index });
  }

  /** A round can no longer be confirmed here. */
  dropReads(token: ReadToken): void {
    answerRound(this.#readRounds.take(token), this.notLeader(true));
  }

  /** See `#applied`. */
  get applied(): LogStart {
    return this.#applied;
  }

  /**
   * The engine holds the effects of the log up to and with `entry`. A group without other members
   * then drops the entries from memory: nobody will ask for them, and objects that live until the
   * next flush cost more collection than all else. On disk they stay until the engine is flushed.
   */
  appliedUpTo(entry: Entry, monotonicMs: number): void {
    const { index, term } = entry;
    this.#applied = { index, term };
    for (const followed of this.#followed.applied(entry, monotonicMs)) {
      for (const observer of this.#observers) observer.followed?.(followed);
    }
    this.appliedRevision = this.#machine.revision;
    this.raft.applied(index);
    if (this.alone) this.raft.compact(index);
  }

  /** Takes the reads that the applied index allows to serve now. */
  takeServableReads(into: PendingRead[]): void {
    if (this.#readsWaiting.length === 0 || this.#installing) return;
    const applied = this.#applied.index;
    const still: ReadsAtIndex[] = [];
    for (const waiting of this.#readsWaiting) {
      if (waiting.index > applied) still.push(waiting);
      else {
        this.#freshAsOfMs = Math.max(this.#freshAsOfMs, waiting.startedMs);
        for (const read of waiting.reads) into.push(read);
      }
    }
    this.#readsWaiting = still;
  }

  /** Answers those for whom nobody waits any more; see `waiting.ts`. To be called now and then. */
  giveUp(nowMs: number, monotonicMs: number): void {
    if (this.idle) return;
    this.#pending.refusePast(nowMs);
    giveUpPast(this.#proposed.all, nowMs);
    const sinceMs = monotonicMs - READ_WAIT_MS_MAX;
    for (const round of this.#readRounds.takeStartedBefore(sinceMs)) {
      const detail = "no quorum has confirmed the read in time";
      answerRound(round, failureOf("UNAVAILABLE", detail, { notApplied: true }));
    }
    // A leader applies all that it has committed. A follower may lack it for as long as it likes.
    if (this.isLeader) return;
    const waiting = this.#readsWaiting;
    this.#readsWaiting = waiting.filter(({ startedMs }) => startedMs >= sinceMs);
    for (const { startedMs, reads } of waiting) {
      if (startedMs < sinceMs) for (const read of reads) read.reply(this.notLeader(true));
    }
  }

  /**
   * What is known of an entry that was proposed here; its body need not be decoded then. Undefined for
   * others, and when nobody waits for it any more.
   */
  proposedEntry(entry: Entry): ProposedEntry | undefined {
    return this.#proposed.find(entry);
  }

  /**
   * Answers the writes of an applied entry.
   *
   * Waiters are found by index **and** term: when another leader's entry took the index, ours was
   * overwritten, and by log matching an entry (index, old term) can never be committed any more, so
   * "not applied by this copy" is certain. Losing the lead answers them earlier; this does not rely
   * on it.
   */
  answerApplied(entry: Entry, outcomes: readonly ResultBody[], monotonicMs: number): void {
    const proposed = this.#proposed.takeUpTo(entry.index);
    if (proposed === undefined) return;
    assert(proposed.index === entry.index, "every entry that is waited for is applied");
    const { writes } = proposed;
    if (proposed.term !== entry.term) {
      const answer = this.notLeader(true);
      for (const write of writes) write.reply(answer);
      return;
    }
    for (let i = 0; i < writes.length; i++) writes[i]!.reply(outcomes[i]!);
    proposed.appliedMs = monotonicMs;
    for (const observer of this.#observers) observer.answered?.(this.group, proposed);
  }

  /** Whether the next pass of the ready loop has something to do here. */
  get needsPass(): boolean {
    return this.raft.hasReady() || this.hasGathered || this.roleChanged;
  }

  /** It has gained or lost the lead since the last `noticeRole`. A Ready need not come of that. */
  get roleChanged(): boolean {
    return this.#led !== this.isLeader;
  }

  /** To be called after every step of the core. Whether the role has changed. */
  noticeRole(): boolean {
    if (!this.roleChanged) return false;
    this.#led = this.isLeader;
    if (!this.#led) this.#leadershipLost();
    return true;
  }

  /**
   * This replica no longer leads. What was never proposed is certainly not applied; what was
   * proposed may yet be committed by the next leader, so its outcome is unknown.
   */
  #leadershipLost(): void {
    const unproposed = this.notLeader(true);
    for (const write of this.#pending.takeAll()) write.reply(unproposed);
    const proposed = this.notLeader(false);
    for (const entry of this.#proposed.takeAll())
      for (const write of entry.writes) write.reply(proposed);
    const gathering = this.#readsGathering;
    this.#readsGathering = [];
    for (const read of gathering) read.reply(unproposed);
  }

  /** It was destroyed: what comes for it is dropped, and nothing that it asks for is done any more. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Answers all who wait. A replica that is destroyed has left its group and leads nothing. */
  leave(): void {
    this.#isGone = true;
    this.#leadershipLost();
    const refusal = this.notLeader(true);
    for (const round of this.#readRounds.takeAll()) answerRound(round, refusal);
    for (const { reads } of this.#readsWaiting) for (const read of reads) read.reply(refusal);
    this.#readsWaiting = [];
  }

  /** What it tells who should have asked the leader. */
  notLeader(notApplied: boolean): Failure {
    const { leader } = this.raft;
    // Itself, when it was elected a moment ago and what is refused was asked before: no hint.
    const leaderNodeId = leader === this.raft.id || this.#isGone ? 0 : nodeOfReplica(leader);
    const detail = `this node does not lead group ${this.group}`;
    return failureOf("NOT_LEADER", detail, { notApplied, leaderNodeId });
  }
}
