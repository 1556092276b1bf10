/**
 * What the leader of a group has to do next so that its Raft configuration follows the placement.
 *
 * A pure function; each leader calls it whenever map or status have changed, and again later when it was
 * told to wait. It compares, and remembers nothing, so a new leader goes on where the last one stopped.
 * In this order:
 *
 * 1. Nothing while a change is under way. Nothing either when a member is newer than the placement: the
 *    map is old, and by an old map one could only do harm.
 * 2. Learners that the configuration lacks are added, and learners that are to go are removed: neither
 *    counts in a quorum.
 * 3. Learners that are to be voters become voters, and voters that are to go are removed, in **one**
 *    change: there is no moment with fewer voters than before or after. It waits until all of the new ones
 *    have caught up, and until those that are left are a quorum at this moment, which is more than Raft
 *    asks for: it keeps a group from losing its majority to its own change.
 * 4. A leader that is to go hands its office over first, and leaves the change to its successor. Only
 *    when no other voter can lead, or with none of them has that worked, it makes the change itself;
 *    Raft then lets it lead until the new voter can.
 * 5. Otherwise, leadership goes to the preferred leader, if that one could lead at once. After the
 *    changes, so that a preferred leader that never manages to be elected does not hold them up.
 *
 * Nobody is demoted: a voter becomes a learner by being removed, and coming back under a new id.
 */
import type { Placement } from "#shared/cluster-map.ts";
import { nodeOfReplica, type ReplicaId, sequenceOfReplica } from "#shared/ids.ts";
import type { Configuration, MemberChange } from "#storage-node/raft/types.ts";
import { isMember, isReady, keepsQuorum, nodesText, withRole } from "./placement/members.ts";
import type { MemberObservation } from "./placement/types.ts";

export type Reconciliation =
  | { readonly kind: "none" }
  /** To be proposed as one change of membership. */
  | { readonly kind: "change"; readonly changes: readonly MemberChange[] }
  | { readonly kind: "transfer"; readonly to: ReplicaId }
  | { readonly kind: "wait"; readonly reason: string };

export type LeaderView = {
  readonly placement: Placement;
  /** The replica that asks, and leads. */
  readonly self: ReplicaId;
  /** As applied. */
  readonly configuration: Configuration;
  /** A quorum of `configuration` knows it as committed, and no change is under way. */
  readonly settled: boolean;
  readonly members: ReadonlyMap<ReplicaId, MemberObservation>;
  /** Not to be handed leadership to now, because that has failed lately. */
  readonly tried: ReadonlySet<ReplicaId>;
};

const NOBODY: ReadonlySet<ReplicaId> = new Set();

export function reconcile(
  placement: Placement,
  self: ReplicaId,
  configuration: Configuration,
  settled: boolean,
  members: ReadonlyMap<ReplicaId, MemberObservation>,
  tried: ReadonlySet<ReplicaId> = NOBODY,
): Reconciliation {
  if (configuration.outgoing.length > 0 || !settled) {
    return { kind: "wait", reason: "a change of membership is under way" };
  }
  const view: LeaderView = { placement, self, configuration, settled, members, tried };
  const ids = [...configuration.voters, ...configuration.learners];
  if (ids.some((id) => sequenceOfReplica(id) > placement.lastSequence)) {
    return { kind: "wait", reason: "the placement is older than the configuration" };
  }
  const change = changeLearners(view) ?? changeVoters(view);
  if (change !== undefined && change.kind !== "wait") return change;
  return toPreferred(view) ?? change ?? { kind: "none" };
}

const isToGo = ({ placement }: LeaderView, id: ReplicaId): boolean =>
  placement.replicas.every(({ replica, role }) => replica !== id || role === "leaving");

const remove = (replica: ReplicaId): MemberChange => ({ replica, to: "removed" });

function changeLearners(view: LeaderView): Reconciliation | undefined {
  const { placement, configuration } = view;
  // A voter that was never a member begins as a learner like any other.
  const wanted = [...withRole(placement, "learner"), ...withRole(placement, "voter")];
  const added = wanted.filter((id) => !isMember(configuration, id) && id > configuration.highestId);
  const gone = configuration.learners.filter((id) => isToGo(view, id));
  if (added.length + gone.length === 0) return undefined;
  const add = (replica: ReplicaId): MemberChange => ({ replica, to: "learner" });
  return { kind: "change", changes: [...gone.map(remove), ...added.map(add)] };
}

function changeVoters(view: LeaderView): Reconciliation | undefined {
  const { placement, configuration, members, self } = view;
  const promoted = withRole(placement, "voter").filter((id) => configuration.learners.includes(id));
  const gone = configuration.voters.filter((id) => isToGo(view, id));
  if (promoted.length + gone.length === 0) return undefined;
  const late = promoted.filter((id) => !isReady(members, self, id));
  if (late.length > 0) {
    return { kind: "wait", reason: `${nodesText(late)} has not caught up` };
  }
  const left = configuration.voters.filter((id) => !gone.includes(id));
  if (!keepsQuorum([...left, ...promoted], members, self)) {
    return { kind: "wait", reason: "too few voters would be left that can vote at once" };
  }
  if (gone.includes(self)) {
    const successor = bestSuccessor(view, left);
    if (successor !== undefined) return { kind: "transfer", to: successor };
  }
  const promote = (replica: ReplicaId): MemberChange => ({ replica, to: "voter" });
  return { kind: "change", changes: [...promoted.map(promote), ...gone.map(remove)] };
}

function bestSuccessor(
  { placement, members, self, tried }: LeaderView,
  voters: readonly ReplicaId[],
): ReplicaId | undefined {
  const able = voters.filter((id) => id !== self && !tried.has(id) && isReady(members, self, id));
  return able.find((id) => nodeOfReplica(id) === placement.preferredLeader) ?? able[0];
}

function toPreferred({
  placement,
  configuration,
  members,
  self,
  tried,
}: LeaderView): Reconciliation | undefined {
  const preferred = withRole(placement, "voter").find(
    (id) => nodeOfReplica(id) === placement.preferredLeader,
  );
  if (preferred === undefined || preferred === self || tried.has(preferred)) return undefined;
  if (!configuration.voters.includes(preferred) || !isReady(members, self, preferred)) {
    return undefined;
  }
  return { kind: "transfer", to: preferred };
}
