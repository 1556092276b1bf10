/** The cluster service of a node: gRPC in front of a `ClusterHandler`. */
import { create } from "@bufbuild/protobuf";
import type { handleServerStreamingCall, handleUnaryCall } from "@grpc/grpc-js";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type WatchMapRequest,
  type WatchMapResponse,
  WatchMapResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { ERRORS, GrpcStatus, KvError } from "#shared/errors.ts";
import { MAP_WATCHERS_MAX } from "#shared/limits.ts";
import type { GrpcService } from "#shared/runtime/grpc.ts";
import type { ClusterHandler } from "#storage-node/meta/peers.ts";
import { CLUSTER_DEFINITION } from "./cluster-definition.ts";
import { sendLatest } from "./send-latest.ts";

/** A failure that is no part of the answer: the call itself cannot be served. */
function statusOf(error: unknown): { readonly code: number; readonly details: string } {
  if (error instanceof KvError) return { code: ERRORS[error.code].grpc, details: error.message };
  return { code: GrpcStatus.Internal, details: String(error) };
}

/** A handler of what `answer` answers, now or later. */
export function unary<Request, Response>(
  answer: (request: Request) => Response | Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    Promise.resolve()
      .then(() => answer(call.request))
      .then(
        (response) => callback(null, response),
        (error: unknown) => callback(statusOf(error)),
      );
  };
}

/** `handler` may change while the server runs: a node that waits for its cluster has another one. */
export function clusterService(handler: () => ClusterHandler): GrpcService {
  const watchers = new Set<{ end(): void }>();
  const watchMap: handleServerStreamingCall<WatchMapRequest, WatchMapResponse> = (call) => {
    let stopWatching = (): void => {};
    const stop = (): void => {
      stopWatching();
      watchers.delete(call);
    };
    // An error is followed by a close; without a listener it would end the process.
    call.on("error", () => {});
    call.on("cancelled", () => stop());
    call.on("close", () => stop());
    try {
      if (watchers.size >= MAP_WATCHERS_MAX) {
        throw new KvError("OVERLOADED", `${MAP_WATCHERS_MAX} watch the map at this node already`);
      }
      const send = sendLatest(call, (map: ClusterMap) =>
        create(WatchMapResponseSchema, { map: toMapMessage(map) }),
      );
      stopWatching = handler().watchMap(call.request.clusterId, send);
      watchers.add(call);
    } catch (error) {
      call.emit("error", statusOf(error));
    }
  };
  const handlers = {
    discover: unary(() => handler().discover()),
    bootstrap: unary((request: Parameters<ClusterHandler["bootstrap"]>[0]) =>
      handler().bootstrap(request),
    ),
    join: unary((request: Parameters<ClusterHandler["join"]>[0]) => handler().join(request)),
    report: unary((request: Parameters<ClusterHandler["report"]>[0]) => handler().report(request)),
    changeCluster: unary((request: Parameters<ClusterHandler["change"]>[0]) =>
      handler().change(request),
    ),
    getClusterStatus: unary(() => handler().status()),
    getStateHash: unary((request: Parameters<ClusterHandler["stateHash"]>[0]) =>
      handler().stateHash(request),
    ),
    watchMap,
  };
  return {
    definition: CLUSTER_DEFINITION,
    handlers,
    drain: () => Promise.resolve(),
    end: () => {
      for (const call of [...watchers]) call.end();
    },
  };
}
