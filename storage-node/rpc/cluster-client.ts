/** The cluster service of other nodes, over gRPC: one channel for each address that is asked. */
import { create } from "@bufbuild/protobuf";
import type { ChannelCredentials, Client } from "@grpc/grpc-js";
import { fromMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type BootstrapRequest,
  DiscoverRequestSchema,
  type JoinRequest,
  type ReportRequest,
  WatchMapRequestSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { KvError } from "#shared/errors.ts";
import { CLUSTER_CALL_TIMEOUT_MS } from "#shared/limits.ts";
import { cancelCall, grpcClient } from "#shared/runtime/grpc.ts";
import type { ClusterPeers } from "#storage-node/meta/peers.ts";
import { CLUSTER_DEFINITION, type ClusterDefinition } from "./cluster-definition.ts";

type Unary = Exclude<keyof ClusterDefinition, "watchMap">;
type RequestOf<K extends Unary> = Parameters<ClusterDefinition[K]["requestSerialize"]>[0];
type ResponseOf<K extends Unary> = ReturnType<ClusterDefinition[K]["responseDeserialize"]>;

export class GrpcClusterPeers implements ClusterPeers {
  readonly #credentials: ChannelCredentials;
  readonly #clients = new Map<string, Client>();

  constructor(credentials: ChannelCredentials) {
    this.#credentials = credentials;
  }

  discover(address: string) {
    return this.#call("discover", address, create(DiscoverRequestSchema, {}));
  }
  bootstrap(address: string, request: BootstrapRequest) {
    return this.#call("bootstrap", address, request);
  }
  join(address: string, request: JoinRequest) {
    return this.#call("join", address, request);
  }
  report(address: string, request: ReportRequest) {
    return this.#call("report", address, request);
  }

  watchMap(
    address: string,
    clusterId: string,
    listener: Parameters<ClusterPeers["watchMap"]>[2],
  ): () => void {
    const { path, requestSerialize, responseDeserialize } = CLUSTER_DEFINITION.watchMap;
    const request = create(WatchMapRequestSchema, { clusterId });
    const call = this.#clientOf(address).makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
    );
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      cancelCall(call);
      listener.onEnd();
    };
    call.on("data", ({ map }) => {
      if (over) return;
      try {
        listener.onMap(fromMapMessage(map));
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        end();
      }
    });
    call.on("error", end);
    call.on("end", end);
    return () => {
      over = true;
      cancelCall(call);
    };
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #call<K extends Unary>(
    method: K,
    address: string,
    request: RequestOf<K>,
  ): Promise<ResponseOf<K>> {
    const { path, requestSerialize, responseDeserialize } = CLUSTER_DEFINITION[method];
    return new Promise((resolve, reject) => {
      this.#clientOf(address).makeUnaryRequest(
        path,
        requestSerialize as (value: RequestOf<K>) => Buffer,
        responseDeserialize as (bytes: Buffer) => ResponseOf<K>,
        request,
        { deadline: Date.now() + CLUSTER_CALL_TIMEOUT_MS },
        (error, response) => {
          if (error === null && response !== undefined) resolve(response);
          else {
            const detail = `${address} does not answer: ${error?.details ?? "no response"}`;
            reject(new KvError("UNAVAILABLE", detail, { cause: error }));
          }
        },
      );
    });
  }

  #clientOf(address: string): Client {
    let client = this.#clients.get(address);
    if (client === undefined) {
      client = grpcClient(address, this.#credentials);
      this.#clients.set(address, client);
    }
    return client;
  }
}
