/**
 * `ClusterService` of storage nodes, as a gateway uses it. Implemented over gRPC
 * (`grpc-cluster-rpc.ts`) and, in the all-in-one, over the port to the storage node's thread.
 */
import type {
  ChangeClusterRequest,
  ChangeClusterResponse,
  ClusterMap,
  GetClusterStatusResponse,
} from "#proto/gen/minikv/v1/cluster_pb.ts";

/** No answer came: the node cannot be reached, broke off, or took too long. */
export class NoAnswer extends Error {
  /** Whether the node may have carried the request out. */
  readonly mayHaveArrived: boolean;

  constructor(reason: string, options: { readonly mayHaveArrived: boolean }) {
    super(reason);
    this.name = "NoAnswer";
    this.mayHaveArrived = options.mayHaveArrived;
  }
}

export type MapListener = {
  readonly onMap: (map: ClusterMap | undefined) => void;
  /** Nothing comes any more. Called once at most, and not after a cancel. */
  readonly onClosed: (reason: string) => void;
};

export type MapWatchRequest = {
  readonly address: string;
  /** Empty for any. */
  readonly clusterId: string;
  readonly listener: MapListener;
};

/** Watches the map of one storage node. Returns what ends the watch. Never calls back at once. */
export type WatchMap = (request: MapWatchRequest) => () => void;

/** Calls that the leader of the meta group answers; others refuse with NOT_LEADER and a hint. */
export interface ClusterRpc {
  /** @throws NoAnswer */
  status(address: string, timeoutMs: number): Promise<GetClusterStatusResponse>;
  /** @throws NoAnswer */
  change(
    address: string,
    request: ChangeClusterRequest,
    timeoutMs: number,
  ): Promise<ChangeClusterResponse>;
}
