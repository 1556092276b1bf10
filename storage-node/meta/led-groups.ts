/** Brings the groups that this node leads to what the map wants: carries out what `reconcile` says. */
import type { Clock } from "#shared/clock.ts";
import { type Placement, placementOf } from "#shared/cluster-map.ts";
import type { NodeId, ReplicaId } from "#shared/ids.ts";
import { CAUGHT_UP_ENTRIES_MAX, LEADER_TRANSFERS_AT_ONCE_MAX } from "#shared/limits.ts";
import type { Configuration, RaftStatus } from "#storage-node/raft/types.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { HandOvers } from "./hand-overs.ts";
import type { MapHolder } from "./map-holder.ts";
import type { MemberObservation } from "./placement/types.ts";
import { reconcile } from "./reconcile.ts";

export type LedGroupsOptions = {
  readonly nodeId: NodeId;
  readonly host: {
    readonly hosted: readonly Replica[];
    markDirty(replica: Replica): void;
  };
  readonly maps: Pick<MapHolder, "current">;
  readonly clock: Pick<Clock, "monotonicMs">;
};

export class LedGroups {
  readonly #options: LedGroupsOptions;
  readonly #handOvers = new HandOvers();

  constructor(options: LedGroupsOptions) {
    this.#options = options;
  }

  /** To be called often. */
  reconcile(): void {
    const { maps, host, nodeId } = this.#options;
    const map = maps.current;
    let transfers = 0;
    for (const replica of host.hosted) {
      if (!replica.isLeader) {
        this.#handOvers.over(replica.group);
        continue;
      }
      const placement = placementOf(map, replica.group);
      if (isCalm(placement, replica.raft.configuration, nodeId)) continue;
      transfers += this.#reconcileOne(replica, placement, transfers);
    }
  }

  /** Answers how many transfers it began. */
  #reconcileOne(replica: Replica, placement: Placement, transfers: number): number {
    const { host, clock } = this.#options;
    const { raft, group } = replica;
    const status = raft.status();
    // What is under way comes to an end by itself.
    if (status.transferee !== 0) return 0;
    const nowMs = clock.monotonicMs();
    const decision = reconcile(
      placement,
      raft.id,
      raft.configuration,
      raft.configurationSettled,
      membersOf(raft.id, status),
      this.#handOvers.tried(group, raft.term, nowMs),
    );
    if (decision.kind === "change") {
      raft.proposeConfiguration(decision.changes);
      host.markDirty(replica);
      return 0;
    }
    if (decision.kind !== "transfer" || transfers >= LEADER_TRANSFERS_AT_ONCE_MAX) return 0;
    this.#handOvers.begun(group, raft.term, { to: decision.to, nowMs });
    const isStarted = raft.transferLeadership(decision.to).kind === "started";
    host.markDirty(replica);
    return isStarted ? 1 : 0;
  }
}

/** Nearly always nothing is to be done, and this is the cheap way to see it. */
const isCalm = (placement: Placement, configuration: Configuration, nodeId: NodeId): boolean =>
  (placement.preferredLeader === nodeId || placement.preferredLeader === 0) &&
  placement.replicas.length === configuration.voters.length &&
  configuration.outgoing.length === 0 &&
  configuration.learners.length === 0 &&
  placement.replicas.every(
    ({ replica, role }) => role === "voter" && configuration.voters.includes(replica),
  );

function membersOf(
  self: ReplicaId,
  { peers, lastIndex }: Pick<RaftStatus, "peers" | "lastIndex">,
): ReadonlyMap<ReplicaId, MemberObservation> {
  const found = new Map<ReplicaId, MemberObservation>();
  for (const peer of peers) {
    found.set(peer.id, {
      // One that never answered has nothing, however short the log is.
      caughtUp:
        peer.state !== "snapshot" &&
        peer.match > 0 &&
        lastIndex - peer.match <= CAUGHT_UP_ENTRIES_MAX,
      active: peer.recentlyActive,
    });
  }
  found.set(self, { caughtUp: true, active: true });
  return found;
}
