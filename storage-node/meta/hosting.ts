/** Which replicas a node must create and which it must destroy to be what the map says. Pure. */
import type { ClusterMap, Placement } from "#shared/cluster-map.ts";
import {
  type GroupId,
  type NodeId,
  nodeOfReplica,
  type ReplicaId,
  sequenceOfReplica,
} from "#shared/ids.ts";
import { NO_MEMBERS } from "#storage-node/raft/configuration.ts";
import type { Configuration } from "#storage-node/raft/types.ts";

export type ReplicaSpec = {
  readonly group: GroupId;
  readonly replica: ReplicaId;
  /** With which the replica begins, before it has heard of anything. */
  readonly configuration: Configuration;
};

type Hosted = { readonly group: GroupId; readonly raft: { readonly id: ReplicaId } };

/**
 * A replica that the placement does not name is destroyed if the placement is of a time when it could
 * have named it (its sequence has been given): then it was dropped, which happens only when the group
 * can do without it (decision 7). One with a later sequence is left alone: this map is older.
 */
export function hostingDifference<R extends Hosted>(
  map: ClusterMap,
  node: NodeId,
  hosted: readonly R[],
): { readonly create: readonly ReplicaSpec[]; readonly destroy: readonly R[] } {
  const create: ReplicaSpec[] = [];
  const destroy: R[] = [];
  const byGroup = new Map(hosted.map((replica) => [replica.group, replica]));
  for (const placement of [...map.placements, map.meta]) {
    const here = byGroup.get(placement.group);
    const wanted = placement.replicas.find(({ replica }) => nodeOfReplica(replica) === node);
    if (here !== undefined && here.raft.id === wanted?.replica) continue;
    if (here !== undefined) {
      if (sequenceOfReplica(here.raft.id) > placement.lastSequence) continue;
      destroy.push(here);
    }
    if (wanted === undefined) continue;
    const { replica } = wanted;
    create.push({
      group: placement.group,
      replica,
      configuration: firstConfiguration(placement, replica),
    });
  }
  return { create, destroy };
}

/**
 * The founders of a group know each other from the start, and nothing in the log will tell them. A
 * placement with `lastSequence` 0 has never changed its members (`applyChange` sees to it), so it still
 * names the founders. Who joins a group that exists learns the members with the log or a snapshot.
 */
function firstConfiguration(placement: Placement, replica: ReplicaId): Configuration {
  if (placement.lastSequence > 0 || sequenceOfReplica(replica) > 0) return NO_MEMBERS;
  const voters = placement.replicas.map((founder) => founder.replica);
  return { ...NO_MEMBERS, voters, highestId: Math.max(...voters) as ReplicaId };
}
