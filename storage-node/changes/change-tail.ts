/**
 * What is applied, for those who follow the change logs of this node: streams of gateways, and whoever
 * publishes it.
 *
 * Only what this node has applied is shown, which is committed and final. Only the leader of a group shows
 * it, so that a gateway has it from one place; it need not prove by ReadIndex that it still leads. One that
 * was deposed and does not know it applies nothing that others do not, only less: a follower waits longer,
 * and a head that is too old makes whoever begins there see some changes twice.
 *
 * A follow has one position, and takes a batch only if that begins behind it: whatever else happened, it
 * goes back to the journal, which has everything. So nothing here has to be exact for the changes to be.
 */
import type { VshardId } from "#shared/ids.ts";
import { groupOfVshard, type Revision, VSHARD_COUNT } from "#shared/ids.ts";
import type { AppliedEntry, AppliedListener } from "#storage-node/replica/apply-pump.ts";
import type { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { type FreshBatch, freshBatches } from "./fresh-batch.ts";

/** Whoever passes on all that this node leads, as it is applied. It owes nothing: see `ChangeTail.subscribe`. */
export type FreshListener = {
  /** In order of revisions for each vshard; several batches of one in a turn are usual. Must not throw. */
  readonly onFresh: (batch: FreshBatch) => void;
};

/** A follow of one vshard by one stream. */
export interface TailFollow {
  readonly vshard: VshardId;
  onFresh(batch: FreshBatch): void;
  /** Something else has happened: it has to look at the journal, and whether this node still leads. */
  onTrouble(): void;
}

export type Head = { readonly vshard: VshardId; readonly revision: Revision };

export class ChangeTail implements AppliedListener {
  readonly #hosted: HostedReplicas;
  readonly #follows: (Set<TailFollow> | undefined)[] = new Array(VSHARD_COUNT).fill(undefined);
  #listeners: readonly FreshListener[] = [];
  #freshBatches = 0;
  #freshChanges = 0;

  constructor(hosted: HostedReplicas) {
    this.#hosted = hosted;
  }

  /**
   * `listener` is given what is applied from now on, as long as this node leads the vshard. There may be gaps
   * (at the start, and while leadership changes): `heads` and the log have the rest. Returns what ends it.
   */
  subscribe(listener: FreshListener): () => void {
    this.#listeners = [...this.#listeners, listener];
    return () => {
      this.#listeners = this.#listeners.filter((one) => one !== listener);
    };
  }

  /** Newest revisions of the vshards that this node leads. */
  heads(): readonly Head[] {
    const heads: Head[] = [];
    for (const { group, isLeader, appliedRevision } of this.#hosted.list) {
      if (!isLeader || group >= VSHARD_COUNT) continue;
      heads.push({ vshard: group as number as VshardId, revision: appliedRevision });
    }
    return heads;
  }

  add(follow: TailFollow): void {
    const follows = this.#follows[follow.vshard];
    if (follows === undefined) this.#follows[follow.vshard] = new Set([follow]);
    else follows.add(follow);
  }

  remove(follow: TailFollow): void {
    const follows = this.#follows[follow.vshard];
    follows?.delete(follow);
    if (follows?.size === 0) this.#follows[follow.vshard] = undefined;
  }

  wants({ group, isLeader }: Replica): boolean {
    if (this.#follows[group] !== undefined) return true;
    return this.#listeners.length > 0 && isLeader && group < VSHARD_COUNT;
  }

  applied(replica: Replica, round: readonly AppliedEntry[], from: number, to: number): void {
    if (!replica.isLeader) {
      this.roleChanged(replica);
      return;
    }
    const vshard = replica.group as number as VshardId;
    const follows = this.#follows[vshard];
    const batches = freshBatches(vshard, round, from, to);
    for (const batch of batches) {
      this.#freshBatches++;
      this.#freshChanges += batch.changes.length;
      for (const listener of this.#listeners) listener.onFresh(batch);
      if (follows !== undefined) for (const follow of follows) follow.onFresh(batch);
    }
    // Applied before anybody wanted it, and written after that: only the journal has it.
    let isWhole = true;
    for (let i = from; i < to; i++) isWhole &&= round[i]!.changes !== undefined;
    if (!isWhole && follows !== undefined) for (const follow of follows) follow.onTrouble();
  }

  /** The replica has gained or lost the lead, or is gone. */
  roleChanged({ group }: Pick<Replica, "group">): void {
    for (const follow of this.#follows[group] ?? []) follow.onTrouble();
  }

  /** The replica that leads `vshard` here. */
  leaderOf(vshard: VshardId): Replica | undefined {
    const replica = this.#hosted.get(groupOfVshard(vshard));
    return replica?.isLeader === true && !replica.isGone ? replica : undefined;
  }

  replicaOf(vshard: VshardId): Replica | undefined {
    return this.#hosted.get(groupOfVshard(vshard));
  }

  /** Counted since the start. */
  get figures(): { readonly freshBatches: number; readonly freshChanges: number } {
    return { freshBatches: this.#freshBatches, freshChanges: this.#freshChanges };
  }
}
