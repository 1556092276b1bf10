/**
 * What a node does as a member of its cluster: it follows the map, hosts the replicas that the map
 * gives it, brings the groups that it leads to what the map wants, and reports to the meta group.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  JoinRequestSchema,
  type NodeFiguresSchema,
  type ReportRequest,
  ReportRequestSchema,
  type ReportResponse,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { type ClusterMap, nodesOfPlacement } from "#shared/cluster-map.ts";
import { errorCodeFromWire } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import type { NodeId } from "#shared/ids.ts";
import { NODE_REPORT_INTERVAL_MS, TICK_MS } from "#shared/limits.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import type { Transport } from "#storage-node/transport/transport.ts";
import { checkFeatures, type SelfDescription } from "./bootstrap.ts";
import type { Coordinator } from "./coordinator.ts";
import type { DirectoryService } from "./directory-service.ts";
import { GroupReports } from "./group-reports.ts";
import { hostingDifference, type ReplicaSpec } from "./hosting.ts";
import { LedGroups } from "./led-groups.ts";
import { LedUsage } from "./led-usage.ts";
import type { MapHolder } from "./map-holder.ts";
import { MapWatch } from "./map-watch.ts";
import type { MetaStore } from "./meta-store.ts";
import type { ClusterPeers } from "./peers.ts";

/** The replicas of the node. */
export interface ReplicaHost {
  readonly hosted: readonly Replica[];
  create(specs: readonly ReplicaSpec[]): Promise<void>;
  destroy(replica: Replica): Promise<void>;
  /** The replica has something for the ready loop to do. */
  markDirty(replica: Replica): void;
}

/** Of the node as a whole, for its report. */
export type NodeFigures = {
  readonly usedBytes: number;
  readonly capacityBytes: number;
  readonly syncMicros: number;
  readonly writable: boolean;
  /** Since its start. */
  readonly done: MessageInitShape<typeof NodeFiguresSchema>;
};

export type MemberOptions = {
  readonly nodeId: NodeId;
  readonly host: ReplicaHost;
  readonly transport: Transport;
  readonly peers: ClusterPeers;
  readonly maps: MapHolder;
  readonly store: MetaStore;
  readonly coordinator: Coordinator;
  readonly directory: DirectoryService;
  readonly clock: Clock;
  readonly softwareVersion: string;
  readonly self: SelfDescription;
  readonly figures: () => NodeFigures;
  /** The cluster does not know this node any more; told once. */
  readonly onRemoved: (detail: string) => void;
  readonly onFatal: (error: unknown) => void;
};

/** Between attempts to tell the meta group's leader something, and to find it. */
const RETRY_MS = 500;

export class Member {
  readonly #options: MemberOptions;
  readonly #groups = new GroupReports();
  #cancelTick = (): void => {};
  #unsubscribe = (): void => {};
  readonly #watch: MapWatch;
  readonly #led: LedGroups;
  readonly #usage = new LedUsage();
  #nextReportMs = 0;
  #reporting = false;
  #announcing = false;
  #nextAnnounceMs = 0;
  #metaLeaderGuess = 0 as NodeId;
  #readingMeta = false;
  #readMetaAgain = false;
  #acting: Promise<void> = Promise.resolve();
  #toldRemoved = false;
  #stopped = false;

  constructor(options: MemberOptions) {
    this.#options = options;
    const { nodeId, self, host, maps, peers, clock } = options;
    this.#watch = new MapWatch({ nodeId, address: self.address, maps, peers, clock });
    this.#led = new LedGroups({ nodeId, host, maps, clock });
  }

  /** Hosts what the known map wants, and goes on from there. Resolves when that is hosted. */
  async start(): Promise<void> {
    const { maps } = this.#options;
    this.#unsubscribe = maps.subscribe((map) => this.#act(map));
    this.#act(maps.current);
    await this.#acting;
    this.#tick();
  }

  stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTick();
    this.#unsubscribe();
    this.#watch.stop();
    this.#options.directory.stop();
    return this.#acting;
  }

  /** Entries of the local replica of the meta group were applied. */
  metaApplied(): void {
    this.#options.directory.metaApplied();
    if (this.#readingMeta) {
      this.#readMetaAgain = true;
      return;
    }
    this.#readingMeta = true;
    const { store, maps } = this.#options;
    store.readChanged().then(
      (state) => {
        this.#readingMeta = false;
        if (state !== undefined) maps.offer(state.map);
        if (!this.#readMetaAgain || this.#stopped) return;
        this.#readMetaAgain = false;
        this.metaApplied();
      },
      (error: unknown) => {
        if (!this.#stopped) this.#options.onFatal(error);
      },
    );
  }

  /** Acts by one map after the other. */
  #act(map: ClusterMap): void {
    this.#acting = this.#acting
      .then(() => this.#host(map))
      .catch((error: unknown) => {
        if (!this.#stopped) this.#options.onFatal(error);
      });
  }

  async #host(map: ClusterMap): Promise<void> {
    const { nodeId, transport, peers, host } = this.#options;
    if (this.#stopped) return;
    // It was replaced by an older build while the others agreed: it ends, and does not start any more.
    checkFeatures(map);
    const others = map.nodes.filter(({ id }) => id !== nodeId);
    peers.keepOnly(new Set(others.map(({ address }) => address)));
    transport.setPeers(new Map(others.map(({ id, address }) => [id, address])));
    const { create: missing, destroy } = hostingDifference(map, nodeId, host.hosted);
    for (const replica of destroy) await host.destroy(replica);
    if (missing.length > 0) await host.create(missing);
  }

  #tick(): void {
    this.#cancelTick = this.#options.clock.after(TICK_MS, () => {
      this.#follow();
      this.#led.reconcile();
      this.#announce();
      this.#report();
      this.#options.coordinator.tick();
      this.#options.directory.tick();
      this.#tick();
    });
  }

  /**
   * Members of the meta group see its changes themselves, as long as they know its leader. Everybody
   * else, and a member that is cut off or lags, watches the map of other nodes.
   */
  #follow(): void {
    if (this.#options.store.leader === 0) this.#watch.tick();
    else this.#watch.stop();
  }

  /** The node was started with another address, zone or host than the map knows: the map is told. */
  #announce(): void {
    const { maps, self, nodeId, store, coordinator, peers, clock } = this.#options;
    const known = maps.current.nodes.find(({ id }) => id === nodeId);
    const isSame =
      known?.address === self.address && known.zone === self.zone && known.host === self.host;
    if (known === undefined || isSame || this.#announcing) return;
    if (clock.monotonicMs() < this.#nextAnnounceMs) return;
    this.#nextAnnounceMs = clock.monotonicMs() + RETRY_MS;
    const request = create(JoinRequestSchema, {
      address: self.address,
      zone: self.zone,
      host: self.host,
      capacityBytes: BigInt(self.capacityBytes),
      joinToken: self.joinToken,
      clusterId: maps.current.clusterId,
      nodeId,
      featureVersion: FEATURE_VERSION,
    });
    const address = this.#metaLeaderAddress();
    if (!store.leads && address === undefined) return;
    this.#announcing = true;
    const told = store.leads ? coordinator.join(request) : peers.join(address!, request);
    const done = (): void => {
      this.#announcing = false;
    };
    // What is refused or lost is told again.
    told.then(done, done);
  }

  /** Where the leader of the meta group probably is; a member of the group if nobody knows. */
  #metaLeaderAddress(): string | undefined {
    const { store, maps, clock, nodeId } = this.#options;
    const map = maps.current;
    let target = store.leader || this.#metaLeaderGuess;
    if (target === 0 || target === nodeId) {
      const members = nodesOfPlacement(map.meta);
      target = members[Math.floor(clock.monotonicMs() / RETRY_MS) % members.length]!;
    }
    return map.nodes.find(({ id }) => id === target && id !== nodeId)?.address || undefined;
  }

  #report(): void {
    const { clock, coordinator, store, peers } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#reporting || nowMs < this.#nextReportMs) return;
    this.#nextReportMs = nowMs + NODE_REPORT_INTERVAL_MS;
    const request = this.#buildReport();
    if (store.leads) {
      const answered = ({ usageKnown }: ReportResponse) => this.#usage.known(Number(usageKnown));
      coordinator.report(request).then(answered, () => {});
      return;
    }
    const address = this.#metaLeaderAddress();
    if (address === undefined) {
      this.#metaLeaderGuess = 0 as NodeId;
      return;
    }
    this.#reporting = true;
    peers.report(address, request).then(
      ({ failure, usageKnown }) => {
        this.#reporting = false;
        if (failure === undefined) {
          this.#usage.known(Number(usageKnown));
          this.#toldRemoved = false;
          return;
        }
        this.#metaLeaderGuess = failure.leaderNodeId as NodeId;
        if (errorCodeFromWire(failure.code) !== "INVALID_ARGUMENT" || this.#toldRemoved) return;
        this.#toldRemoved = true;
        this.#options.onRemoved(failure.detail);
      },
      () => {
        this.#reporting = false;
        this.#metaLeaderGuess = 0 as NodeId;
      },
    );
  }

  #buildReport(): ReportRequest {
    const { nodeId, maps, host, figures, softwareVersion } = this.#options;
    const { usedBytes, capacityBytes, syncMicros, writable, done } = figures();
    return create(ReportRequestSchema, {
      clusterId: maps.current.clusterId,
      nodeId,
      mapVersion: BigInt(maps.current.version),
      groups: host.hosted.map((replica) => this.#groups.of(replica)),
      usedBytes: BigInt(Math.round(usedBytes)),
      capacityBytes: BigInt(Math.round(capacityBytes)),
      syncMicros: Math.round(syncMicros),
      softwareVersion,
      featureVersion: FEATURE_VERSION,
      writable,
      ...this.#usage.report(host.hosted),
      figures: done,
    });
  }
}
