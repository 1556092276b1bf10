/**
 * One replica of one Raft group, as a pure state machine: no I/O, no clock, no waiting.
 *
 * The owner drives it (`tick`, `step`, `propose`, `readIndex`), does what `ready` says, and reports
 * back (`appended`, `applied`). The contract of `Ready` is in types.ts, the reasons are in README.md.
 * A failed assertion means that the replica must stop: its state is not to be trusted.
 */
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { campaign, tickElection } from "./election.ts";
import { compactionIndex, propose, tickLeader } from "./leader.ts";
import { applied, isConfigurationSettled, proposeConfiguration } from "./membership.ts";
import { requestRead, tickReads } from "./read-index.ts";
import { appended, hasReady, takeReady } from "./ready.ts";
import { offerSnapshot, reportSnapshot } from "./snapshot.ts";
import { createState, forgetLeader, type RaftState } from "./state.ts";
import { step } from "./step.ts";
import { reportUnreachable, transferLeadership } from "./transfer.ts";
import {
  type AppendTicket,
  type ChangeResult,
  type Configuration,
  type LogStart,
  type MemberChange,
  type Message,
  type PeerStatus,
  type ProposeResult,
  type RaftOptions,
  type RaftStatus,
  type ReadIndexResult,
  type ReadToken,
  type Ready,
  Role,
  type TransferResult,
} from "./types.ts";

export class Raft {
  readonly #state: RaftState;

  /** @throws AssertionError when the recovered state contradicts itself. */
  constructor(options: RaftOptions) {
    this.#state = createState(options);
  }

  get id(): ReplicaId {
    return this.#state.id;
  }
  get role(): Role {
    return this.#state.role;
  }
  get term(): Term {
    return this.#state.term;
  }
  /** 0 when unknown. */
  get leader(): ReplicaId {
    return this.#state.leader;
  }
  get commit(): LogIndex {
    return this.#state.log.commit;
  }
  get lastIndex(): LogIndex {
    return this.#state.log.lastIndex;
  }
  /** Last index known durable on this replica. */
  get durableIndex(): LogIndex {
    return this.#state.log.durableIndex;
  }
  get logStart(): LogStart {
    return this.#state.log.start;
  }

  get configuration(): Configuration {
    return this.#state.configuration;
  }

  /**
   * This replica leads, and a quorum of the configuration knows it as committed. Who is not in it may
   * be destroyed.
   */
  get configurationSettled(): boolean {
    return isConfigurationSettled(this.#state);
  }

  /** Term of the entry at `index`; undefined when compacted away or beyond the log. */
  termAt(index: LogIndex): Term | undefined {
    return this.#state.log.termAt(index);
  }

  /** One unit of time has passed. */
  tick(): void {
    if (this.#state.role === Role.Leader) {
      tickLeader(this.#state);
    } else {
      tickReads(this.#state);
      tickElection(this.#state);
    }
  }

  /** Takes in one message from another replica, in any order, any number of times. */
  step(message: Message): void {
    step(this.#state, message);
  }

  /**
   * Stands for election now. False when it may not: it leads already, is no voter, or has a
   * committed change of membership still to apply.
   */
  campaign(): boolean {
    return campaign(this.#state);
  }

  /**
   * Appends `data` to the log if this replica leads. The core keeps the buffer: it must not change
   * any more. Accepted does not mean committed: the entry at the index that comes back may end up
   * being another leader's, so whoever waits must compare index **and** term.
   */
  propose(data: Uint8Array): ProposeResult {
    return propose(this.#state, data);
  }

  /**
   * Asks for the index at which a read is linearizable; on a follower through its leader. `token`
   * must be unique among this replica's pending reads.
   */
  readIndex(token: ReadToken): ReadIndexResult {
    return requestRead(this.#state, token);
  }

  /** Whether `ready` has something to hand out. Cheap. A Ready may still turn out empty. */
  hasReady(): boolean {
    return hasReady(this.#state);
  }

  /** Hands out each duty exactly once; earlier Readys need not be done yet. */
  ready(): Ready {
    return takeReady(this.#state);
  }

  /** The batch of this ticket is durable, and with it every earlier one. */
  appended(ticket: AppendTicket): void {
    appended(this.#state, ticket);
  }

  /** The engine holds the effects of all entries up to and with `index`. */
  applied(index: LogIndex): void {
    applied(this.#state, index);
  }

  /**
   * Proposes a change of membership; one at a time. It takes effect when it is applied, and one of
   * more than one voter passes through a joint configuration, which the leader leaves by itself.
   */
  proposeConfiguration(changes: readonly MemberChange[]): ChangeResult {
    return proposeConfiguration(this.#state, changes);
  }

  /** Hands leadership to another voter: `started`, and given up after an election timeout. */
  transferLeadership(to: ReplicaId): TransferResult {
    return transferLeadership(this.#state, to);
  }

  /** On a follower whose leader is known to be gone: answer votes at once. False if there was none. */
  forgetLeader(): boolean {
    return forgetLeader(this.#state);
  }

  /** A message to replica `id` could not be sent. */
  reportUnreachable(id: ReplicaId): void {
    reportUnreachable(this.#state, id);
  }

  /**
   * The message that goes before a snapshot to `to` (see `Ready.snapshotsDue`), or undefined when
   * none is needed any more. In the same turn the owner must take a consistent view of the engine
   * with exactly the effects of all entries up to and with the last `applied`.
   */
  offerSnapshot(to: ReplicaId): Message | undefined {
    return offerSnapshot(this.#state, to);
  }

  /**
   * How an offered snapshot ended: `received` once the receiver's core was handed the message, not
   * when the last byte was sent; otherwise `failed`. Each offer needs one report, in bounded time.
   * After either the member may be due again at its next sign of life: the owner paces what it sends,
   * and the receiver deletes a state that it has staged and that no `Ready.reset` asks for.
   */
  reportSnapshot(to: ReplicaId, outcome: "received" | "failed"): void {
    reportSnapshot(this.#state, to, outcome);
  }

  /**
   * Up to where the log should be compacted: not beyond what the slowest member has, unless more than
   * `retainedBytesMax` of applied entries would be kept for it. A follower, which does not know,
   * keeps that much.
   */
  compactionIndex(retainedBytesMax: number): LogIndex {
    return compactionIndex(this.#state, retainedBytesMax);
  }

  /**
   * Drops log entries up to and with `index`, which must be applied and durable. A follower that
   * still needs them can only be served by a snapshot.
   */
  compact(index: LogIndex): void {
    this.#state.log.compact(index);
  }

  status(): RaftStatus {
    const { log, role, term, vote, leader, configuration, transferee, peers } = this.#state;
    return {
      role,
      term,
      vote,
      leader,
      commit: log.commit,
      applied: log.appliedIndex,
      lastIndex: log.lastIndex,
      durableIndex: log.durableIndex,
      logStart: log.start,
      configuration,
      transferee,
      peers: peers.map(
        (peer): PeerStatus => ({
          id: peer.id,
          state: peer.state,
          match: peer.match,
          next: peer.next,
          inflightMessages: peer.inflight.count,
          recentlyActive: peer.recentlyActive || peer.activeBefore,
          commit: peer.commit,
          pendingSnapshot: peer.pendingSnapshot,
        }),
      ),
    };
  }
}
