/**
 * Small questions about placements and configurations that the planner and `reconcile` share.
 */
import type { GroupReplica, Placement, ReplicaRole } from "#shared/cluster-map.ts";
import { nodeOfReplica, type ReplicaId } from "#shared/ids.ts";
import type { Configuration } from "#storage-node/raft/types.ts";
import type { MemberObservation } from "./types.ts";

export const withRole = (placement: Placement, role: ReplicaRole): readonly ReplicaId[] =>
  placement.replicas.filter((replica) => replica.role === role).map(({ replica }) => replica);

/** A replica of the group is on its way in or out. */
export const isUnderWay = ({ replicas }: Placement): boolean =>
  replicas.some(({ role }) => role !== "voter");

export const isMember = (configuration: Configuration, id: ReplicaId): boolean =>
  configuration.voters.includes(id) ||
  configuration.outgoing.includes(id) ||
  configuration.learners.includes(id) ||
  configuration.learnersNext.includes(id);

/** Ids are never used again: such a replica is out of the group, and can never be in it again. */
export const isOutForEver = (configuration: Configuration, id: ReplicaId): boolean =>
  id <= configuration.highestId && !isMember(configuration, id);

export const majority = (count: number): number => Math.floor(count / 2) + 1;

/** Whether `id` could answer and vote at once. The leader's own replica always can. */
export function isReady(
  members: ReadonlyMap<ReplicaId, MemberObservation>,
  leader: ReplicaId,
  id: ReplicaId,
): boolean {
  if (id === leader) return true;
  const member = members.get(id);
  return member?.active === true && member.caughtUp;
}

/** Whether so many of `voters` are ready that they would be a quorum of a group of these voters. */
export function keepsQuorum(
  voters: readonly ReplicaId[],
  members: ReadonlyMap<ReplicaId, MemberObservation>,
  leader: ReplicaId,
): boolean {
  if (voters.length === 0) return false;
  const ready = voters.filter((id) => isReady(members, leader, id)).length;
  return ready >= majority(voters.length);
}

export const sameIds = (a: readonly ReplicaId[], b: readonly ReplicaId[]): boolean =>
  a.length === b.length && a.every((id) => b.includes(id));

/** The same replica in another role. */
export const inRole = (replica: ReplicaId, role: ReplicaRole): GroupReplica => ({ replica, role });

/** `ids` for people: the nodes. */
export const nodesText = (ids: readonly ReplicaId[]): string =>
  ids.map((id) => `node ${nodeOfReplica(id)}`).join(", ");
