/** Counts elections as the replicas of a node see them: looked at with each tick, it costs no step anything. */
import type { Replica } from "./replica.ts";

type Seen = { term: number; leader: number };

export class RaftWatch {
  /** Terms that replicas have entered, since each was first seen. */
  termChanges = 0;
  /** A replica learned of another leader than the last one that it had. */
  leaderChanges = 0;
  readonly #seen = new WeakMap<object, Seen>();

  look({ raft }: { readonly raft: Pick<Replica["raft"], "term" | "leader"> }): void {
    const { term, leader } = raft;
    const seen = this.#seen.get(raft);
    if (seen === undefined) {
      this.#seen.set(raft, { term, leader });
      return;
    }
    if (term !== seen.term) {
      this.termChanges += term - seen.term;
      seen.term = term;
    }
    if (leader === 0 || leader === seen.leader) return;
    if (seen.leader !== 0) this.leaderChanges++;
    seen.leader = leader;
  }
}
