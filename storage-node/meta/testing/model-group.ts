/**
 * A Raft group as the model of the cluster has it: not the protocol, only what it does to membership.
 *
 * A change that its leader proposes is committed after a while if majorities of both configurations are
 * alive, or is lost with its leader. Members catch up after random times. The rules of changes are those
 * of the real core (`raft/configuration.ts`). After every event it is checked that no change takes away
 * what keeps the group alive.
 */
import type { Placement } from "#shared/cluster-map.ts";
import {
  type GroupId,
  type NodeId,
  nodeOfReplica,
  type ReplicaId,
  type Term,
} from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { GroupObservation, MemberObservation } from "#storage-node/meta/placement/types.ts";
import { reconcile } from "#storage-node/meta/reconcile.ts";
import { isJoint, leaveJoint, planChange } from "#storage-node/raft/configuration.ts";
import { majority } from "#storage-node/raft/quorum.ts";
import type { Configuration, MemberChange } from "#storage-node/raft/types.ts";

/** What a group asks of the cluster around it. */
export type Surroundings = {
  readonly random: Random;
  /** The replica exists on its node, and the node is alive. */
  readonly isAlive: (id: ReplicaId) => boolean;
  /** The row as the node has seen it. */
  readonly rowAt: (node: NodeId) => Placement | undefined;
};

/** Ticks until a member that was away, or is new, has caught up. */
const LAG_TICKS_MAX = 8;

export class ModelGroup {
  readonly group: GroupId;
  sizeBytes: number;
  /** Committed. */
  configuration: Configuration;
  leader = 0 as ReplicaId;
  term = 1 as Term;
  #proposed: Configuration | undefined;
  #settled = false;
  readonly #lag = new Map<ReplicaId, number>();
  readonly #around: Surroundings;

  constructor(
    { group, sizeBytes }: { readonly group: GroupId; readonly sizeBytes: number },
    configuration: Configuration,
    around: Surroundings,
  ) {
    this.group = group;
    this.sizeBytes = sizeBytes;
    this.configuration = configuration;
    this.#around = around;
  }

  /** Members that may still be needed: of what is committed, and of what is under way. */
  get votersInUse(): readonly ReplicaId[] {
    const next = this.#proposed;
    const { voters, outgoing } = this.configuration;
    return [...voters, ...outgoing, ...(next?.voters ?? []), ...(next?.outgoing ?? [])];
  }

  hasQuorum(configuration = this.configuration): boolean {
    return [configuration.voters, configuration.outgoing].every(
      (half) => half.length === 0 || this.#spare(half) >= 0,
    );
  }

  /** How many of `voters` may still die before they have no majority; negative when they have none. */
  #spare(voters: readonly ReplicaId[]): number {
    return voters.filter(this.#around.isAlive).length - majority(voters.length);
  }

  tick(): void {
    this.#catchUp();
    if (this.leader !== 0 && !this.#leaderIsWell()) this.#loseLeader();
    if (this.leader === 0) this.#elect();
    if (this.leader === 0) return;
    this.#commit();
    if (this.leader !== 0 && this.#around.random.below(2) === 0) this.#reconcile();
  }

  observe(): GroupObservation | undefined {
    if (this.leader === 0) return undefined;
    return {
      leader: this.leader,
      term: this.term,
      configuration: this.configuration,
      settled: this.#settled,
      members: this.#members(),
      sizeBytes: this.sizeBytes,
    };
  }

  #members(): Map<ReplicaId, MemberObservation> {
    const { voters, outgoing, learners } = this.configuration;
    const ids = new Set([...voters, ...outgoing, ...learners]);
    return new Map(
      [...ids].map((id) => [
        id,
        {
          active: this.#around.isAlive(id),
          caughtUp: this.#around.isAlive(id) && this.#isCaughtUp(id),
        },
      ]),
    );
  }

  #isCaughtUp(id: ReplicaId): boolean {
    return (this.#lag.get(id) ?? 0) === 0;
  }

  #catchUp(): void {
    for (const id of this.#members().keys()) {
      const lag = this.#lag.get(id) ?? 0;
      if (!this.#around.isAlive(id))
        this.#lag.set(id, Math.max(lag, 1 + this.#around.random.below(3)));
      else if (this.leader !== 0 && lag > 0) this.#lag.set(id, lag - 1);
    }
  }

  #leaderIsWell(): boolean {
    return this.#around.isAlive(this.leader) && this.hasQuorum();
  }

  /** What it had proposed may have reached a quorum or not. */
  #loseLeader(): void {
    this.leader = 0 as ReplicaId;
    this.#settled = false;
    if (this.#around.random.below(2) === 0) this.#proposed = undefined;
  }

  #elect(): void {
    const { random, isAlive } = this.#around;
    if (!this.hasQuorum() || random.below(3) === 0) return;
    const { voters, outgoing } = this.configuration;
    const able = [...new Set([...voters, ...outgoing])].filter(isAlive);
    const best = Math.min(...able.map((id) => this.#lag.get(id) ?? 0));
    const candidates = able.filter((id) => (this.#lag.get(id) ?? 0) === best);
    this.#lead(candidates[random.below(candidates.length)]!);
  }

  #lead(id: ReplicaId): void {
    this.leader = id;
    this.term = (this.term + 1) as Term;
    this.#lag.set(id, 0);
    this.#settled = false;
  }

  #commit(): void {
    const { random } = this.#around;
    if (!this.hasQuorum()) return;
    if (this.#proposed !== undefined) {
      if (random.below(2) === 0) this.#adopt(this.#proposed);
    } else if (isJoint(this.configuration)) {
      this.#proposed = leaveJoint(this.configuration);
    } else if (random.below(2) === 0) {
      this.#settled = true;
    }
  }

  #adopt(configuration: Configuration): void {
    this.configuration = configuration;
    this.#proposed = undefined;
    this.#settled = false;
    // A leader that is out tells a voter to campaign.
    if (!isJoint(configuration) && !configuration.voters.includes(this.leader)) this.#loseLeader();
  }

  #reconcile(): void {
    const row = this.#around.rowAt(nodeOfReplica(this.leader));
    if (row === undefined || this.#proposed !== undefined) return;
    const todo = reconcile(row, this.leader, this.configuration, this.#settled, this.#members());
    if (todo.kind === "change") this.#propose(todo.changes);
    if (todo.kind === "transfer" && this.#around.random.below(4) > 0) {
      if (!this.configuration.voters.includes(todo.to)) throw new Error("transfer to no voter");
      if (this.#around.isAlive(todo.to)) this.#lead(todo.to);
    }
  }

  #propose(changes: readonly MemberChange[]): void {
    const before = this.configuration;
    const planned = planChange(before, changes);
    if (planned.kind === "refused") throw new Error(`refused: ${planned.reason}`);
    const { configuration } = planned;
    if (before.voters.some((id) => configuration.learners.includes(id))) {
      throw new Error("a voter was demoted");
    }
    this.#checkQuorums(before, configuration);
    for (const { replica, to } of changes) {
      if (to === "learner") this.#lag.set(replica, 1 + this.#around.random.below(LAG_TICKS_MAX));
    }
    this.#proposed = configuration;
    this.#settled = false;
  }

  /** No change takes the majority away, and none but a wanted shrinking makes it easier to lose. */
  #checkQuorums(before: Configuration, after: Configuration): void {
    if (!this.hasQuorum(after)) throw new Error(`group ${this.group} loses its quorum by a change`);
    const [spareBefore, spareAfter] = [this.#spare(before.voters), this.#spare(after.voters)];
    if (after.voters.length >= before.voters.length && spareAfter < spareBefore) {
      throw new Error(`group ${this.group} can lose fewer than before a change`);
    }
  }
}
