/** What a node answers about its cluster: as a candidate that has none yet, and as a member. */
import { create } from "@bufbuild/protobuf";
import {
  type BootstrapRequest,
  type BootstrapResponse,
  BootstrapResponseSchema,
  type ChangeClusterRequest,
  type ChangeClusterResponse,
  type DiscoverResponse,
  DiscoverResponseSchema,
  type GetClusterStatusResponse,
  type GetStateHashRequest,
  type GetStateHashResponse,
  GetStateHashResponseSchema,
  type JoinRequest,
  type JoinResponse,
  type ReportRequest,
  type ReportResponse,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import type { GroupId, LogIndex, NodeId } from "#shared/ids.ts";
import type { MemberCandidate, SelfDescription } from "./bootstrap.ts";
import type { Coordinator } from "./coordinator.ts";
import type { MapHolder } from "./map-holder.ts";
import type { ClusterHandler } from "./peers.ts";
import { failureMessage } from "./wire-failure.ts";

const NOBODY = 0 as NodeId;

function describe(
  self: SelfDescription,
  softwareVersion: string,
  member: { readonly clusterId: string; readonly nodeId: NodeId },
): DiscoverResponse {
  return create(DiscoverResponseSchema, {
    ...member,
    address: self.address,
    seeds: [...self.seeds],
    bootstrapExpect: self.bootstrapExpect,
    softwareVersion,
    zone: self.zone,
    host: self.host,
    capacityBytes: BigInt(self.capacityBytes),
    joinToken: self.joinToken,
    featureVersion: FEATURE_VERSION,
  });
}

/** Of a node that waits for its cluster. */
export class CandidateHandler implements ClusterHandler {
  readonly #self: SelfDescription;
  readonly #softwareVersion: string;
  readonly #candidate: MemberCandidate;

  constructor(self: SelfDescription, softwareVersion: string, candidate: MemberCandidate) {
    this.#self = self;
    this.#softwareVersion = softwareVersion;
    this.#candidate = candidate;
  }

  discover(): DiscoverResponse {
    return describe(this.#self, this.#softwareVersion, { clusterId: "", nodeId: NOBODY });
  }

  async bootstrap(request: BootstrapRequest): Promise<BootstrapResponse> {
    try {
      await this.#candidate.told(request);
      return create(BootstrapResponseSchema, {});
    } catch (error) {
      return create(BootstrapResponseSchema, { failure: failureMessage(error, NOBODY) });
    }
  }

  join(): Promise<JoinResponse> {
    throw notYet();
  }
  report(): Promise<ReportResponse> {
    throw notYet();
  }
  change(): Promise<ChangeClusterResponse> {
    throw notYet();
  }
  status(): GetClusterStatusResponse {
    throw notYet();
  }
  stateHash(): Promise<GetStateHashResponse> {
    throw notYet();
  }
  watchMap(): () => void {
    throw notYet();
  }
}

const notYet = (): KvError =>
  new KvError("UNAVAILABLE", "this node belongs to no cluster yet; it waits for its seeds");

export type MemberHandlerOptions = {
  readonly self: SelfDescription;
  readonly softwareVersion: string;
  readonly nodeId: NodeId;
  readonly maps: MapHolder;
  readonly coordinator: Coordinator;
  /** Of the local replica, at its applied index. Undefined without a replica. */
  readonly stateHash: (
    group: GroupId,
  ) => Promise<{ readonly index: LogIndex; readonly hash: string } | undefined>;
};

export class MemberHandler implements ClusterHandler {
  readonly #options: MemberHandlerOptions;

  constructor(options: MemberHandlerOptions) {
    this.#options = options;
  }

  discover(): DiscoverResponse {
    const { self, softwareVersion, nodeId, maps } = this.#options;
    return describe(self, softwareVersion, { clusterId: maps.current.clusterId, nodeId });
  }

  async bootstrap(request: BootstrapRequest): Promise<BootstrapResponse> {
    const { clusterId } = this.#options.maps.current;
    // The founder tells everybody again after a restart; whoever knows it already has nothing to do.
    if (request.map?.clusterId === clusterId) return create(BootstrapResponseSchema, {});
    const detail = `this node belongs to cluster "${clusterId}" already`;
    const failure = failureMessage(new KvError("INVALID_ARGUMENT", detail), NOBODY);
    return create(BootstrapResponseSchema, { failure });
  }

  join(request: JoinRequest): Promise<JoinResponse> {
    return this.#options.coordinator.join(request);
  }
  report(request: ReportRequest): Promise<ReportResponse> {
    return this.#options.coordinator.report(request);
  }
  change(request: ChangeClusterRequest): Promise<ChangeClusterResponse> {
    return this.#options.coordinator.change(request);
  }
  status(): GetClusterStatusResponse {
    return this.#options.coordinator.status();
  }

  async stateHash({ group }: GetStateHashRequest): Promise<GetStateHashResponse> {
    const found = await this.#options.stateHash(group as GroupId);
    if (found === undefined) {
      const error = new KvError("INVALID_ARGUMENT", `this node has no replica of group ${group}`);
      return create(GetStateHashResponseSchema, { failure: failureMessage(error, NOBODY) });
    }
    return create(GetStateHashResponseSchema, {
      appliedIndex: BigInt(found.index),
      hash: Uint8Array.fromHex(found.hash),
    });
  }

  watchMap(clusterId: string, onMap: (map: ClusterMap) => void): () => void {
    const { maps } = this.#options;
    const { current } = maps;
    if (clusterId !== "" && clusterId !== current.clusterId) {
      const detail = `this node belongs to cluster "${current.clusterId}", not "${clusterId}"`;
      throw new KvError("INVALID_ARGUMENT", detail);
    }
    onMap(current);
    return maps.subscribe(onMap);
  }
}
