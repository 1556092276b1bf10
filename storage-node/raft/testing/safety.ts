/**
 * Raft's safety properties (paper, figure 3), checked while a test cluster runs:
 *
 * - election safety: one leader at most in a term; one vote of a replica in a term, crash or not;
 * - log matching: one entry per index and term, with one predecessor;
 * - leader completeness: a leader's log holds everything committed so far;
 * - state machine safety: one entry per index is ever applied, in order;
 * - durability: what is committed is on the disks of a majority at that moment;
 * - linearizable reads: a read is served no earlier than the last commit before it was asked for.
 */
import { assert } from "#shared/assert.ts";
import { utf8Decode } from "#shared/bytes.ts";
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { majority } from "#storage-node/raft/quorum.ts";
import {
  type Configuration,
  type Entry,
  type Message,
  type ReadState,
  type ReadToken,
  type Ready,
  Role,
} from "#storage-node/raft/types.ts";
import type { Member } from "./member.ts";

export class SafetyChecker {
  readonly #voters: readonly ReplicaId[];
  #members: readonly Member[] = [];
  readonly #leaders = new Map<Term, ReplicaId>();
  readonly #votes = new Map<string, ReplicaId>();
  readonly #predecessors = new Map<string, string>();
  /** Term of each committed entry, by index. */
  readonly #committed: Term[] = [0 as Term];
  readonly #applied = new Map<LogIndex, string>();
  readonly #lastApplied = new Map<ReplicaId, LogIndex>();
  readonly #commitAtRequest = new Map<ReadToken, number>();

  constructor(configuration: Configuration) {
    this.#voters = configuration.voters;
  }

  watch(members: readonly Member[]): void {
    this.#members = members;
  }

  get committedCount(): number {
    return this.#committed.length - 1;
  }
  get elections(): number {
    return this.#leaders.size;
  }

  /** After any event at this replica. */
  inspect(member: Member): void {
    const { raft } = member;
    if (raft.role === Role.Leader) this.#inspectLeader(member);
    for (let i = this.#committed.length; i <= raft.commit; i++) {
      this.#recordCommit(i as LogIndex, raft.termAt(i as LogIndex)!);
    }
  }

  #inspectLeader({ id, raft }: Member): void {
    const known = this.#leaders.get(raft.term);
    assert(known === undefined || known === id, `term ${raft.term} is led by ${known} and ${id}`);
    if (known !== undefined) return;
    this.#leaders.set(raft.term, id);
    this.#vote(id, raft.term, id);
    for (let i = raft.logStart.index; i < this.#committed.length; i++) {
      assert(
        raft.termAt(i as LogIndex) === this.#committed[i],
        `${id} leads term ${raft.term} without committed entry ${i}`,
      );
    }
  }

  #recordCommit(index: LogIndex, term: Term): void {
    this.#committed.push(term);
    let holders = 0;
    for (const { disk } of this.#members) {
      if (index < disk.start.index || disk.termAt(index) === term) holders++;
    }
    assert(
      holders >= majority(this.#voters.length),
      `entry ${index}@${term} was committed with ${holders} copies on disk`,
    );
    // A later leader may have been elected before anyone noticed this commit.
    for (const { id, raft, alive } of this.#members) {
      if (!alive || raft.role !== Role.Leader || raft.term < term) continue;
      if (index < raft.logStart.index) continue;
      assert(raft.termAt(index) === term, `leader ${id} lacks committed entry ${index}@${term}`);
    }
  }

  sent(message: Message): void {
    if (message.kind !== "voteReply" || !message.granted) return;
    this.#vote(message.from, message.term, message.to);
  }

  #vote(voter: ReplicaId, term: Term, candidate: ReplicaId): void {
    const key = `${voter}:${term}`;
    const known = this.#votes.get(key) ?? candidate;
    assert(known === candidate, `${voter} voted in term ${term} for ${known} and ${candidate}`);
    this.#votes.set(key, candidate);
  }

  ready(member: Member, ready: Ready): void {
    const { entries, truncateFrom, hardState } = ready;
    if (truncateFrom !== undefined) {
      assert(entries[0]?.index === truncateFrom, "a cut is replaced from where it begins");
      const applied = this.#lastApplied.get(member.id) ?? 0;
      assert(truncateFrom > applied, "what was applied is never cut");
    }
    if (entries.length > 0) assert(hardState !== undefined, "entries travel with the hard state");
    for (const entry of entries) this.#matchPredecessor(member, entry);
  }

  #matchPredecessor({ raft }: Member, entry: Entry): void {
    const previous = raft.termAt((entry.index - 1) as LogIndex);
    // Only the last entry before the log's start has no predecessor to compare.
    if (previous === undefined) return;
    const key = `${entry.index}@${entry.term}`;
    const value = `${previous} ${utf8Decode(entry.data)}`;
    const known = this.#predecessors.get(key) ?? value;
    assert(known === value, `two entries ${key}: after ${known} and after ${value}`);
    this.#predecessors.set(key, value);
  }

  apply(member: Member, entry: Entry): void {
    const value = `${entry.term} ${utf8Decode(entry.data)}`;
    const known = this.#applied.get(entry.index) ?? value;
    assert(known === value, `entry ${entry.index} was applied as ${known} and as ${value}`);
    this.#applied.set(entry.index, value);
    assert(member.disk.termAt(entry.index) === entry.term, "applied before it was on disk");
    this.#lastApplied.set(member.id, entry.index);
  }

  readRequested(token: ReadToken): void {
    this.#commitAtRequest.set(token, this.committedCount);
  }

  read(read: ReadState): void {
    const least = this.#commitAtRequest.get(read.token);
    assert(least !== undefined, `read ${read.token} was answered twice, or never asked`);
    assert(read.index >= least, `read ${read.token} at ${read.index}, committed were ${least}`);
    this.#commitAtRequest.delete(read.token);
  }
}
