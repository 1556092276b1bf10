/**
 * The cluster service as its callers and as its servers see it; gRPC is behind both (`rpc/`).
 */
import type {
  BootstrapRequest,
  BootstrapResponse,
  ChangeClusterRequest,
  ChangeClusterResponse,
  DiscoverResponse,
  GetClusterStatusResponse,
  GetStateHashRequest,
  GetStateHashResponse,
  JoinRequest,
  JoinResponse,
  ReportRequest,
  ReportResponse,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type {
  ChangeDirectoryRequest,
  ChangeDirectoryResponse,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import type { MessageStream } from "#shared/message-stream.ts";

/**
 * Other nodes, by address. Every call ends in bounded time.
 * @throws KvError UNAVAILABLE when the node does not answer
 */
export interface ClusterPeers {
  discover(address: string): Promise<DiscoverResponse>;
  bootstrap(address: string, request: BootstrapRequest): Promise<BootstrapResponse>;
  join(address: string, request: JoinRequest): Promise<JoinResponse>;
  report(address: string, request: ReportRequest): Promise<ReportResponse>;
  /**
   * Calls `onMap` with each map, until `onEnd` is called once or the function returned is.
   */
  watchMap(
    address: string,
    clusterId: string,
    listener: { readonly onMap: (map: ClusterMap) => void; readonly onEnd: () => void },
  ): () => void;
  /** Where other nodes are by the newest map: what leads anywhere else is given up when no call needs it. */
  keepOnly(addresses: ReadonlySet<string>): void;
  close(): void;
}

/** What a node answers. Failures travel inside the responses. */
export interface ClusterHandler {
  discover(): DiscoverResponse;
  bootstrap(request: BootstrapRequest): Promise<BootstrapResponse>;
  join(request: JoinRequest): Promise<JoinResponse>;
  report(request: ReportRequest): Promise<ReportResponse>;
  change(request: ChangeClusterRequest): Promise<ChangeClusterResponse>;
  status(): GetClusterStatusResponse;
  stateHash(request: GetStateHashRequest): Promise<GetStateHashResponse>;
  /**
   * Calls `onMap` with the map now and with each later one, until the function returned is called.
   * @throws KvError when this node cannot serve maps to that cluster
   */
  watchMap(clusterId: string, onMap: (map: ClusterMap) => void): () => void;
}

/** What a node answers gateways about the directory. Failures travel inside the responses. */
export interface DirectoryHandler {
  /** Serves one gateway until its stream ends. */
  follow(stream: MessageStream): void;
  changeDirectory(request: ChangeDirectoryRequest): Promise<ChangeDirectoryResponse>;
}
