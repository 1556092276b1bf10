/**
 * The duties of the node that leads the meta group: it takes nodes in, keeps their reports, moves
 * replicas as the planner says, and carries out what operators ask for.
 *
 * It holds nothing that its successor needs: what matters is in the map. Every method may be called on
 * any node; on one that does not lead it answers NOT_LEADER with a hint.
 */
import { create } from "@bufbuild/protobuf";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type ChangeClusterRequest,
  type ChangeClusterResponse,
  ChangeClusterResponseSchema,
  type GetClusterStatusResponse,
  GetClusterStatusResponseSchema,
  type JoinRequest,
  type JoinResponse,
  JoinResponseSchema,
  type ReportRequest,
  type ReportResponse,
  ReportResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { equalBytes } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { type ClusterMap, type ClusterNode, NodeState } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { toldFeatureVersion, tooOldFor } from "#shared/features.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import { CLUSTER_NODES_MAX, PLAN_INTERVAL_MS } from "#shared/limits.ts";
import { higherFeatureVersion } from "./feature-version.ts";
import { type Founding, toFoundingMessage } from "./founding.ts";
import { Invitations } from "./invitations.ts";
import type { MapHolder } from "./map-holder.ts";
import { foundingChange, foundingState, type MetaChange, type MetaState } from "./map-rows.ts";
import type { MetaStore } from "./meta-store.ts";
import { operatorChange } from "./operator-changes.ts";
import type { ClusterPeers } from "./peers.ts";
import { isAloneAndWhole } from "./placement/alone.ts";
import { departureObstacles, type PlannerInput, plan } from "./planner.ts";
import { Reports } from "./reports.ts";
import type { UsageSums } from "./usage-sums.ts";
import { failureMessage } from "./wire-failure.ts";

/** A new leader of the meta group waits for the reports of all nodes before it plans. */
const FIRST_PLAN_AFTER_MS = 4 * PLAN_INTERVAL_MS;

export type CoordinatorOptions = {
  readonly nodeId: NodeId;
  readonly store: MetaStore;
  readonly peers: Pick<ClusterPeers, "discover" | "bootstrap">;
  /** With what the cluster began, if this node was there. */
  readonly founding: Founding | undefined;
  readonly maps: MapHolder;
  readonly usage: UsageSums;
  readonly clock: Clock;
  readonly replicationFactor: number;
  readonly metaReplicas: number;
  readonly movesAtOnceMax: number;
  readonly rebuildAfterMs: number;
  /** For the log: what was decided, one line each. */
  readonly onPlan: (reasons: readonly string[]) => void;
  /** Why planning fails, when that changes. Not for losing the lead, which is nothing unusual. */
  readonly onPlanFailure?: ((error: unknown) => void) | undefined;
};

export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly reports = new Reports();
  readonly #invitations: Invitations;
  #led = false;
  #nextPlanMs = 0;
  #planning = false;
  /** Of the last plan; empty when it succeeded. */
  #failure = "";
  #nextTellMs = 0;
  #telling = false;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    const { store, peers, maps, clock } = options;
    const join = (request: JoinRequest) => this.join(request);
    this.#invitations = new Invitations({ store, peers, maps, clock, join });
  }

  /** To be called often; plans every `PLAN_INTERVAL_MS` while this node leads the meta group. */
  tick(): void {
    const { store, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    this.reports.look();
    if (store.leads !== this.#led) {
      this.#led = store.leads;
      this.reports.begin(nowMs);
      // First everybody has to be heard, unless the map is still to be written.
      const isNew = this.#options.maps.current.version === 0;
      this.#nextPlanMs = nowMs + (isNew ? 0 : FIRST_PLAN_AFTER_MS);
    }
    this.#tellFounding(nowMs);
    if (!this.#led || this.#planning || nowMs < this.#nextPlanMs) return;
    this.#nextPlanMs = nowMs + PLAN_INTERVAL_MS;
    this.#planning = true;
    this.#plan().then(
      () => {
        this.#planning = false;
        this.#failure = "";
      },
      (error: unknown) => {
        // Whatever the outcome is, the next look sees what became of it.
        this.#planning = false;
        this.#tellFailure(error);
      },
    );
  }

  #tellFailure(error: unknown): void {
    const failure = String(error);
    if (failure === this.#failure) return;
    this.#failure = failure;
    if (error instanceof KvError && error.code === "NOT_LEADER") return;
    this.#options.onPlanFailure?.(error);
  }

  /**
   * Until the map is written, every founder tells the others of the founding again and again. Who missed
   * it could not ask for it: that takes a leader of the meta group, and that the votes of the others.
   */
  #tellFounding(nowMs: number): void {
    const { founding, maps, peers, nodeId } = this.#options;
    if (founding === undefined || maps.current.version > 0) return;
    if (this.#telling || nowMs < this.#nextTellMs) return;
    this.#nextTellMs = nowMs + PLAN_INTERVAL_MS;
    this.#telling = true;
    const others = founding.map.nodes.filter(({ id, address }) => id !== nodeId && address !== "");
    const request = toFoundingMessage(founding);
    const told = others.map(({ address }) => peers.bootstrap(address, request));
    void Promise.allSettled(told).then(() => {
      this.#telling = false;
    });
  }

  /** What the planner has to go by, for a map. */
  observe(map: ClusterMap): PlannerInput {
    const { clock, replicationFactor, metaReplicas, movesAtOnceMax } = this.#options;
    const nowMs = clock.monotonicMs();
    const ids = map.nodes.map(({ id }) => id);
    return {
      map,
      nodes: this.reports.nodes(ids, nowMs, this.#options.rebuildAfterMs),
      groups: this.reports.groups(nowMs),
      options: { replicationFactor, metaReplicas, movesAtOnceMax },
    };
  }

  async #plan(): Promise<void> {
    const { maps, store, onPlan } = this.#options;
    if (maps.current.version === 0) {
      await this.#writeFounding();
      this.#nextPlanMs = this.#options.clock.monotonicMs() + FIRST_PLAN_AFTER_MS;
      return;
    }
    this.reports.keepOnly(maps.current.nodes.map(({ id }) => id));
    await this.#raiseFeatures();
    if (isAloneAndWhole(maps.current)) return;
    // The cheap look first: nearly always there is nothing to do.
    if (isEmpty(plan(this.observe(maps.current)))) return;
    let reasons: readonly string[] = [];
    const outcome = await store.change((state) => {
      if (state === undefined) return undefined;
      const next = plan(this.observe(state.map));
      const { placements, nodes, removedNodes } = next;
      reasons = next.reasons;
      return isEmpty(next) ? undefined : { state, change: { placements, nodes, removedNodes } };
    });
    if (outcome.kind === "changed") onPlan(reasons);
  }

  /** When the last node has been updated, all may use what all know. */
  async #raiseFeatures(): Promise<void> {
    const { maps, store, clock, onPlan } = this.#options;
    const raised = (map: ClusterMap) =>
      higherFeatureVersion(map, this.reports.all(), clock.monotonicMs());
    if (raised(maps.current) === undefined) return;
    const outcome = await store.change((state) => {
      const featureVersion = state && raised(state.map);
      return featureVersion === undefined
        ? undefined
        : { state: state!, change: { featureVersion } };
    });
    if (outcome.kind !== "changed") return;
    onPlan([`feature version ${outcome.change.featureVersion}: all nodes know it`]);
  }

  /** The first leader of the meta group writes the map with which the cluster began. */
  async #writeFounding(): Promise<void> {
    const { store, founding } = this.#options;
    if (founding === undefined) return;
    await store.change((state) =>
      state === undefined
        ? {
            state: foundingState(founding.map),
            change: foundingChange(founding.map, founding.joinTokens),
          }
        : undefined,
    );
  }

  async join(request: JoinRequest): Promise<JoinResponse> {
    const { store, maps } = this.#options;
    let nodeId = 0 as NodeId;
    try {
      await store.change((state) => {
        if (state === undefined) throw new KvError("UNAVAILABLE", "the cluster is being founded");
        const joined = joinedNode(state, request);
        nodeId = joined.node.id;
        return joined.change === undefined ? undefined : { state, change: joined.change };
      });
    } catch (error) {
      const failure = failureMessage(error, store.leader);
      return create(JoinResponseSchema, { failure, map: toMapMessage(maps.current) });
    }
    const state = await store.read();
    return create(JoinResponseSchema, { nodeId, map: toMapMessage(state?.map ?? maps.current) });
  }

  async report(request: ReportRequest): Promise<ReportResponse> {
    const { store, clock, usage } = this.#options;
    if (!store.leads) {
      const error = new KvError("NOT_LEADER", "this node does not lead the meta group");
      return create(ReportResponseSchema, { failure: failureMessage(error, store.leader) });
    }
    if (!(await this.#isMember(request))) {
      const error = new KvError("INVALID_ARGUMENT", removedNode(request.nodeId));
      return create(ReportResponseSchema, { failure: failureMessage(error, store.leader) });
    }
    // Usage goes its own way: reports are kept, and shown to operators.
    this.reports.take({ ...request, usage: [] }, clock.monotonicMs());
    return create(ReportResponseSchema, { usageKnown: BigInt(usage.take(request)) });
  }

  /** The map that is known here may be older than the row of a node that has just joined. */
  async #isMember({ clusterId, nodeId }: ReportRequest): Promise<boolean> {
    const { store, maps } = this.#options;
    if (clusterId !== maps.current.clusterId) return false;
    const holds = (map: ClusterMap): boolean => map.nodes.some(({ id }) => id === nodeId);
    return holds(maps.current) || holds((await store.read())?.map ?? maps.current);
  }

  async change(request: ChangeClusterRequest): Promise<ChangeClusterResponse> {
    const { store, maps } = this.#options;
    const { change } = request;
    let detail = "";
    let nodeId = 0;
    try {
      this.#checkCluster(request.clusterId);
      if (change.case === undefined) throw new KvError("INVALID_ARGUMENT", "no change is named");
      if (change.case === "invite") {
        ({ nodeId, detail } = await this.#invitations.invite(change.value.address));
      } else {
        await store.change((state) => {
          if (state === undefined) throw new KvError("UNAVAILABLE", "the cluster is being founded");
          const wanted = operatorChange(change, this.observe(state.map), state.nextNodeId);
          detail = wanted.detail;
          return wanted.change === undefined ? undefined : { state, change: wanted.change };
        });
      }
    } catch (error) {
      const failure = failureMessage(error, store.leader);
      return create(ChangeClusterResponseSchema, { failure });
    }
    const mapVersion = BigInt(maps.current.version);
    return create(ChangeClusterResponseSchema, { detail, mapVersion, nodeId });
  }

  /** Whoever has the address of this node from elsewhere must not change a cluster that is not meant. */
  #checkCluster(meant: string): void {
    const { clusterId } = this.#options.maps.current;
    if (meant === clusterId) return;
    if (meant === "") throw new KvError("INVALID_ARGUMENT", "the cluster that is meant is missing");
    throw new KvError("CLUSTER_CONFLICT", `this is cluster "${clusterId}", not "${meant}"`);
  }

  status(): GetClusterStatusResponse {
    const { store, maps, clock, nodeId } = this.#options;
    if (!store.leads) {
      const error = new KvError("NOT_LEADER", "this node does not lead the meta group");
      return create(GetClusterStatusResponseSchema, {
        failure: failureMessage(error, store.leader),
      });
    }
    const nowMs = clock.monotonicMs();
    return create(GetClusterStatusResponseSchema, {
      map: toMapMessage(maps.current),
      nodes: [...this.reports.all().values()].map(({ report, atMs }) => ({
        report,
        reportAgeMs: BigInt(Math.max(0, Math.round(nowMs - atMs))),
      })),
      metaLeaderNodeId: nodeId,
      blocked: [...departureObstacles(this.observe(maps.current))].map(([node, reason]) => ({
        nodeId: node,
        reason,
      })),
    });
  }
}

const isEmpty = ({ placements, nodes, removedNodes }: ReturnType<typeof plan>): boolean =>
  placements.length + nodes.length + removedNodes.length === 0;

export const removedNode = (id: number): string =>
  `node ${id} is not a member of the cluster, or was removed from it. Ids are never used again: ` +
  "start it with an empty data directory, and it joins as a new node.";

/** The node that asks to join, and what has to be written for it; undefined for nothing. */
export function joinedNode(
  state: MetaState,
  request: JoinRequest,
): { readonly node: ClusterNode; readonly change: MetaChange | undefined } {
  const { map, joinTokens } = state;
  const { address, zone, host, joinToken } = request;
  if (request.clusterId !== "" && request.clusterId !== map.clusterId) {
    const detail = `this is cluster "${map.clusterId}", not "${request.clusterId}"`;
    throw new KvError("CLUSTER_CONFLICT", detail);
  }
  const known = map.nodes.find(({ id }) => equalBytes(joinTokens.get(id)!, joinToken));
  if (request.nodeId !== 0 && known?.id !== request.nodeId) {
    throw new KvError("CLUSTER_CONFLICT", removedNode(request.nodeId));
  }
  const told = toldFeatureVersion(request.featureVersion);
  const tooOld = tooOldFor(map, told, `the storage node at ${address}`);
  if (tooOld !== undefined) throw new KvError("CLUSTER_CONFLICT", tooOld);
  const capacityBytes = Number(request.capacityBytes);
  if (known !== undefined) {
    const node = { ...known, address, zone, host, capacityBytes };
    const isSame = known.address === address && known.zone === zone && known.host === host;
    return { node, change: isSame ? undefined : { nodes: [node] } };
  }
  if (joinToken.length === 0) throw new KvError("INVALID_ARGUMENT", "a join token is missing");
  if (map.nodes.length >= CLUSTER_NODES_MAX) {
    throw new KvError("CLUSTER_CONFLICT", `a cluster has at most ${CLUSTER_NODES_MAX} nodes`);
  }
  const id = toNodeId(state.nextNodeId);
  const node = { id, address, zone, host, state: NodeState.Up, capacityBytes };
  const change: MetaChange = {
    nodes: [node],
    joinTokens: new Map([[id, joinToken]]),
    nextNodeId: toNodeId(id + 1),
  };
  return { node, change };
}
