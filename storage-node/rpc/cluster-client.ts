/**
 * The cluster service of other nodes, over gRPC: one channel for each address that is asked.
 *
 * A channel reconnects for ever, so one of a node that has left, or moved, must be closed. Addresses beside the
 * map are asked too (seeds, invited nodes); their channels last as long as their calls.
 */
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
import { cancelCall, grpcClient, grpcReasonIn } from "#shared/runtime/grpc.ts";
import type { ClusterPeers } from "#storage-node/meta/peers.ts";
import { CLUSTER_DEFINITION, type ClusterDefinition } from "./cluster-definition.ts";

type Unary = Exclude<keyof ClusterDefinition, "watchMap">;
type RequestOf<K extends Unary> = Parameters<ClusterDefinition[K]["requestSerialize"]>[0];
type ResponseOf<K extends Unary> = ReturnType<ClusterDefinition[K]["responseDeserialize"]>;

type Open = { readonly client: Client; calls: number };

export class GrpcClusterPeers implements ClusterPeers {
  readonly #credentials: ChannelCredentials;
  readonly #clients = new Map<string, Open>();
  /** Undefined before the first map: then all are kept. */
  #wanted: ReadonlySet<string> | undefined;

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
    const open = this.#begin(address);
    const call = open.client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
    );
    let over = false;
    const stop = (): boolean => {
      if (over) return false;
      over = true;
      cancelCall(call);
      this.#end(address, open);
      return true;
    };
    const end = (): void => {
      if (stop()) listener.onEnd();
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
    return () => void stop();
  }

  keepOnly(addresses: ReadonlySet<string>): void {
    this.#wanted = addresses;
    for (const [address, open] of [...this.#clients]) this.#dropUnwanted(address, open);
  }

  /** Addresses that have a channel, for tests. */
  get addresses(): readonly string[] {
    return [...this.#clients.keys()];
  }

  close(): void {
    for (const { client } of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #call<K extends Unary>(
    method: K,
    address: string,
    request: RequestOf<K>,
  ): Promise<ResponseOf<K>> {
    const { path, requestSerialize, responseDeserialize } = CLUSTER_DEFINITION[method];
    const open = this.#begin(address);
    return new Promise((resolve, reject) => {
      open.client.makeUnaryRequest(
        path,
        requestSerialize as (value: RequestOf<K>) => Buffer,
        responseDeserialize as (bytes: Buffer) => ResponseOf<K>,
        request,
        { deadline: Date.now() + CLUSTER_CALL_TIMEOUT_MS },
        (error, response) => {
          this.#end(address, open);
          if (error === null && response !== undefined) resolve(response);
          else {
            const detail = `${address} does not answer: ${error === null ? "no response" : grpcReasonIn(error.details)}`;
            reject(new KvError("UNAVAILABLE", detail, { cause: error }));
          }
        },
      );
    });
  }

  #begin(address: string): Open {
    let open = this.#clients.get(address);
    if (open === undefined) {
      open = { client: grpcClient(address, this.#credentials), calls: 0 };
      this.#clients.set(address, open);
    }
    open.calls++;
    return open;
  }

  #end(address: string, open: Open): void {
    open.calls--;
    this.#dropUnwanted(address, open);
  }

  #dropUnwanted(address: string, open: Open): void {
    const isWanted = this.#wanted === undefined || this.#wanted.has(address);
    if (isWanted || open.calls > 0 || this.#clients.get(address) !== open) return;
    this.#clients.delete(address);
    open.client.close();
  }
}
