/**
 * Paces the attempts of a leader to hand its office over. While one is under way the group takes no
 * proposals, so an attempt that fails, made again and again, would keep the group from serving.
 *
 * Each attempt puts its replica aside for a while, longer each time; who succeeds leads, and then this is
 * forgotten with the leader's term.
 */
import type { GroupId, ReplicaId, Term } from "#shared/ids.ts";
import { LEADER_TRANSFER_RETRY_MS_MAX, LEADER_TRANSFER_RETRY_MS_MIN } from "#shared/limits.ts";

type Attempts = { readonly untilMs: number; readonly pauseMs: number };
type Reign = { readonly term: Term; readonly tried: Map<ReplicaId, Attempts> };

const NOBODY: ReadonlySet<ReplicaId> = new Set();

export class HandOvers {
  readonly #reigns = new Map<GroupId, Reign>();

  /** Replicas of a group that are not to be tried now, by its leader in `term`. */
  tried(group: GroupId, term: Term, nowMs: number): ReadonlySet<ReplicaId> {
    const reign = this.#reigns.get(group);
    if (reign === undefined) return NOBODY;
    if (reign.term !== term) {
      this.#reigns.delete(group);
      return NOBODY;
    }
    const waiting = [...reign.tried].filter(([, { untilMs }]) => nowMs < untilMs);
    return new Set(waiting.map(([id]) => id));
  }

  /** An attempt begins, or was refused at once. */
  begun(group: GroupId, term: Term, { to, nowMs }: { to: ReplicaId; nowMs: number }): void {
    let reign = this.#reigns.get(group);
    if (reign?.term !== term) {
      reign = { term, tried: new Map() };
      this.#reigns.set(group, reign);
    }
    const last = reign.tried.get(to)?.pauseMs ?? LEADER_TRANSFER_RETRY_MS_MIN / 2;
    const pauseMs = Math.min(2 * last, LEADER_TRANSFER_RETRY_MS_MAX);
    reign.tried.set(to, { untilMs: nowMs + pauseMs, pauseMs });
  }

  /** This node does not lead the group. */
  over(group: GroupId): void {
    this.#reigns.delete(group);
  }
}
