/**
 * The safety rules, checked after every call of a core at the cost of what the call did.
 *
 * A replica is compared with what the group has agreed on (history.ts) only where it moved: a new
 * term, role or commit index, entries handed out for writing or applying, messages that leave. What a
 * message promises is looked up on the sender's disk, not in the sender's core.
 */
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import {
  type Entry,
  EntryKind,
  type Message,
  type ReadState,
  type ReadToken,
  type Ready,
  Role,
} from "#storage-node/raft/types.ts";
import { isQuorum, show } from "./configurations.ts";
import type { LogWrite, RecoveredLog } from "./disk.ts";
import type { History } from "./history.ts";
import type { SimNode } from "./node.ts";
import { violated } from "./violation.ts";

/** What the checker remembers of one replica id, over all its lives. */
export class Seen {
  term = 0 as Term;
  role: Role = Role.Follower;
  commit = 0 as LogIndex;
  /** Of one life. */
  readonly reads = new Map<ReadToken, LogIndex>();
  readonly votes = new Map<Term, ReplicaId>();
  /** As a leader: what each follower had, in which term. */
  readonly matches = new Map<ReplicaId, { readonly term: Term; readonly match: LogIndex }>();
}

export class Checker {
  readonly #history: History;
  readonly #nodes: readonly (SimNode | undefined)[];
  readonly #leaders = new Map<Term, ReplicaId>();

  /** `nodes` by replica id; the caller goes on filling it. */
  constructor(history: History, nodes: readonly (SimNode | undefined)[]) {
    this.#history = history;
    this.#nodes = nodes;
  }

  get elections(): number {
    return this.#leaders.size;
  }

  /** After any call that may have moved the core of `node`. */
  observe(node: SimNode): void {
    const { raft, seen } = node;
    const { term, role, commit } = raft;
    if (term !== seen.term || role !== seen.role) this.#moved(node, term, role);
    if (commit !== seen.commit) this.#commitMoved(node, commit);
  }

  /** A reply has come: what a leader knows of a follower only grows, and nothing known is sent again. */
  replied({ id, raft, seen }: SimNode): void {
    if (raft.role !== Role.Leader) return;
    for (const { id: peer, match, next } of raft.status().peers) {
      const known = seen.matches.get(peer);
      const before = known?.term === raft.term ? known.match : 0;
      if (match < before || next <= match) {
        violated(
          "progress never goes back",
          `${id} knew ${before} of ${peer}, now ${match} ${next}`,
        );
      }
      seen.matches.set(peer, { term: raft.term, match });
    }
  }

  #moved(node: SimNode, term: Term, role: Role): void {
    const { seen } = node;
    if (term < seen.term) {
      violated("term never goes back", `${node.id} was in term ${seen.term}, now in ${term}`);
    }
    const inOffice = role === Role.Leader && (seen.role !== Role.Leader || seen.term !== term);
    seen.term = term;
    seen.role = role;
    if (inOffice) this.#tookOffice(node, term);
    else if (role === Role.PreCandidate || role === Role.Candidate) this.#campaigns(node);
  }

  #tookOffice(node: SimNode, term: Term): void {
    const { id } = node;
    const known = this.#leaders.get(term);
    if (known !== undefined) violated("election safety", `${known} and ${id} lead term ${term}`);
    this.#leaders.set(term, id);
    this.#voted(node, term, id);
    // Its last votes may have come late, when a leader of a later term had committed more already.
    this.#holdsCommitted(node, this.#history.lastCommittedBefore(term));
    const { durable } = node.disk;
    if (durable.hardState.term !== term || durable.hardState.vote !== id) {
      violated(
        "durable before acknowledged",
        `${id} leads term ${term} without its vote on its disk`,
      );
    }
  }

  /** Whoever stands has applied every change that it knows to be committed. */
  #campaigns({ id, raft, engine }: SimNode): void {
    for (let i = engine.index + 1; i <= raft.commit; i++) {
      const term = raft.termAt(i as LogIndex);
      if (this.#history.kindOf(i as LogIndex, term) !== EntryKind.Configuration) continue;
      violated("campaign", `${id} stands while the committed change at ${i} is not applied`);
    }
  }

  /** Log matching makes one comparison stand for all before it. */
  #holdsCommitted({ id, raft }: SimNode, index: LogIndex): void {
    if (index < raft.logStart.index) return;
    const term = this.#history.termOf(index);
    if (raft.termAt(index) === term) return;
    violated(
      "leader completeness",
      `${id} leads term ${raft.term} without committed entry ${index}@${term}`,
    );
  }

  #commitMoved(node: SimNode, commit: LogIndex): void {
    const { id, raft, seen } = node;
    if (commit < seen.commit) {
      violated("commit never goes back", `of ${id} from ${seen.commit} to ${commit}`);
    }
    if (commit > raft.lastIndex) violated("core", `commit ${commit} beyond the log's end`);
    const history = this.#history;
    const start = raft.logStart.index;
    for (let i = Math.max(seen.commit + 1, start); i <= commit; i++) {
      const index = i as LogIndex;
      const term = raft.termAt(index);
      if (index <= history.committed) history.checkCommitted(index, term, id);
      else if (term === undefined || index !== history.committed + 1) {
        violated("state machine safety", `${id} commits ${index} behind ${history.committed}`);
      } else {
        history.commit(term, raft.term);
        if (index === commit) this.#newlyCommitted(node, index, term);
      }
    }
    seen.commit = commit;
  }

  /** Nobody had this committed before: it is on a quorum's disks, and in the logs of later leaders. */
  #newlyCommitted(node: SimNode, index: LogIndex, term: Term): void {
    const { configuration } = node.raft;
    if (node.raft.role === Role.Leader && term !== node.raft.term) {
      violated(
        "leader completeness",
        `${node.id} commits ${index}@${term} by counting, in term ${node.raft.term}: a leader ` +
          "without it may still be elected",
      );
    }
    const holds = (id: ReplicaId): boolean => {
      const durable = this.#nodes[id]?.disk.durable;
      return (
        durable !== undefined && (index < durable.start.index || durable.termAt(index) === term)
      );
    };
    if (!isQuorum(configuration, holds)) {
      violated(
        "committed is durable on a quorum",
        `${node.id} commits ${index}@${term} in ${show(configuration)}, on disk it is at ${this.#nodes
          .filter((each) => each !== undefined && holds(each.id))
          .map((each) => each!.id)
          .join(" ")}`,
      );
    }
    for (const each of this.#nodes) {
      if (each === undefined || !each.running || each.raft.role !== Role.Leader) continue;
      if (each.raft.term > node.raft.term) this.#holdsCommitted(each, index);
    }
  }

  /** A message leaves. */
  sent(node: SimNode, message: Message): void {
    switch (message.kind) {
      case "vote":
        this.#voted(node, message.term, message.from);
        this.#voteIsDurable(node, message.term, message.from);
        return;
      case "voteReply":
        if (!message.granted) return;
        this.#voted(node, message.term, message.to);
        this.#voteIsDurable(node, message.term, message.to);
        return;
      case "appendReply":
        if (!message.rejected) this.#acknowledged(node, message);
        return;
      default:
        return;
    }
  }

  #voted({ id, seen }: SimNode, term: Term, candidate: ReplicaId): void {
    const known = seen.votes.get(term);
    if (known === undefined) seen.votes.set(term, candidate);
    else if (known !== candidate) {
      violated("one vote per term", `${id} voted in term ${term} for ${known} and ${candidate}`);
    }
  }

  #voteIsDurable({ id, disk }: SimNode, term: Term, candidate: ReplicaId): void {
    const { hardState } = disk.durable;
    if (hardState.term > term || (hardState.term === term && hardState.vote === candidate)) return;
    violated(
      "durable before acknowledged",
      `${id} tells of its vote for ${candidate} in term ${term}, on disk it has term ` +
        `${hardState.term} vote ${hardState.vote}`,
    );
  }

  #acknowledged(node: SimNode, message: Message & { readonly kind: "appendReply" }): void {
    const { durable } = node.disk;
    const { index, term, to } = message;
    if (durable.hardState.term < term) {
      violated(
        "durable before acknowledged",
        `${node.id} acknowledges in term ${term}, not on disk`,
      );
    }
    if (index <= durable.start.index) return;
    const own = durable.termAt(index);
    const leader = this.#nodes[to];
    const leads = leader?.running && leader.raft.role === Role.Leader && leader.raft.term === term;
    const wanted = leads ? leader.raft.termAt(index) : own;
    if (own !== undefined && (own === wanted || wanted === undefined)) return;
    // One sync can cover this batch and one behind it, in which a later leader replaces the entry.
    if (durable.hardState.term > term) return;
    violated(
      "durable before acknowledged",
      `${node.id} acknowledges ${index} to ${to} in term ${term}, its disk has ` +
        `${durable.start.index}..${durable.lastIndex} with term ${own} there, the leader ${wanted}`,
    );
  }

  /** Before the duties of a Ready are carried out. */
  ready(node: SimNode, ready: Ready): void {
    const { entries, truncateFrom, hardState, reset, committed } = ready;
    if (truncateFrom !== undefined) {
      if (entries[0]?.index !== truncateFrom) violated("core", `a cut without its replacement`);
      if (truncateFrom <= node.engine.index) {
        violated("state machine safety", `${node.id} cuts ${truncateFrom}, which is applied`);
      }
    }
    if (reset?.install) {
      this.#history.checkCommitted(reset.start.index, reset.start.term, node.id);
    }
    if (entries.length > 0) {
      if (hardState === undefined) violated("core", "entries travel with the hard state");
      this.#issued(node, entries);
    }
    if (committed.length > 0) this.#handedOut(node, committed);
  }

  #issued(node: SimNode, entries: readonly Entry[]): void {
    const { raft } = node;
    let previousTerm = raft.termAt((entries[0]!.index - 1) as LogIndex);
    for (const entry of entries) {
      const isNew = this.#history.entryInLog(entry, previousTerm);
      previousTerm = entry.term;
      if (isNew && entry.kind === EntryKind.Configuration) this.#changeProposed(node, entry);
    }
  }

  /** All changes before it, in the log of the leader that proposes it, are applied there. */
  #changeProposed(node: SimNode, entry: Entry): void {
    const { raft, engine } = node;
    for (let i = engine.index + 1; i < entry.index; i++) {
      const term = raft.termAt(i as LogIndex);
      if (this.#history.kindOf(i as LogIndex, term) !== EntryKind.Configuration) continue;
      violated(
        "one change at a time",
        `${node.id} proposes ${entry.index} while the change at ${i} is not applied`,
      );
    }
  }

  #handedOut(node: SimNode, committed: readonly Entry[]): void {
    const { durable } = node.disk;
    for (const entry of committed) {
      const { index, term } = entry;
      if (index > this.#history.committed) {
        violated("applied is committed and durable", `${node.id} gets ${index}, not committed`);
      }
      this.#history.checkCommitted(index, term, node.id);
      if (durable.termAt(index) !== term && index > durable.start.index) {
        violated(
          "applied is committed and durable",
          `${node.id} gets ${index}@${term} to apply, on its disk is ${durable.termAt(index)}`,
        );
      }
    }
  }

  /** A batch is durable. A vote that never reached the disk was told to nobody, and may be forgotten. */
  durable(node: SimNode, { hardState }: LogWrite): void {
    if (hardState === undefined || hardState.vote === 0) return;
    this.#voted(node, hardState.term, hardState.vote);
  }

  readAsked(node: SimNode, token: ReadToken): void {
    node.seen.reads.set(token, this.#history.committed);
  }

  readDropped(node: SimNode, token: ReadToken): void {
    node.seen.reads.delete(token);
  }

  /** The read sees the engine's present state. */
  readServed(node: SimNode, read: ReadState): void {
    const least = node.seen.reads.get(read.token);
    if (least === undefined) {
      violated("linearizable read", `${read.token} is answered, but not waiting at ${node.id}`);
    }
    node.seen.reads.delete(read.token);
    if (read.index >= least && node.engine.index >= least) return;
    violated(
      "linearizable read",
      `${read.token} at ${node.id} sees ${node.engine.index} (index ${read.index}), when it was ` +
        `asked for ${least} was committed`,
    );
  }

  /** A replica comes back with what was left. */
  opened(node: SimNode, recovered: RecoveredLog): void {
    const { seen, engine, id } = node;
    const { raft } = node;
    this.#history.checkState(engine.state, id);
    if (raft.term < recovered.hardState.term) {
      violated("term never goes back", `${id} had ${recovered.hardState.term}, now ${raft.term}`);
    }
    seen.term = raft.term;
    seen.role = raft.role;
    seen.commit = 0 as LogIndex;
    this.observe(node);
  }
}
