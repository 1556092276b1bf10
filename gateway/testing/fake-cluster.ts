/**
 * Storage nodes that serve `ClusterService` over real gRPC on 127.0.0.1 and answer what the test says.
 * Used by tests only.
 */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type ChangeClusterRequest,
  ChangeClusterRequestSchema,
  ChangeClusterResponseSchema,
  ClusterService,
  GetClusterStatusRequestSchema,
  GetClusterStatusResponseSchema,
  WatchMapRequestSchema,
  WatchMapResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { grpcServerOptions } from "#shared/runtime/grpc.ts";

type WatchCall = ServerWritableStream<MessageShape<typeof WatchMapRequestSchema>, WatchMessage>;
type WatchMessage = MessageShape<typeof WatchMapResponseSchema>;
type Status = MessageInitShape<typeof GetClusterStatusResponseSchema>;
type Change = MessageInitShape<typeof ChangeClusterResponseSchema>;

export class FakeClusterNode {
  /** `host:port`. */
  address = "";
  /** Cluster ids that watchers asked for, in order. */
  readonly watched: string[] = [];
  readonly changes: ChangeClusterRequest[] = [];
  statusCalls = 0;
  /** Undefined: does not answer. */
  status: (() => Status | undefined) | undefined;
  change: ((request: ChangeClusterRequest) => Change | undefined) | undefined;
  #map: ClusterMap | undefined;
  readonly #watchers = new Set<WatchCall>();
  #server: Server | undefined;

  /** Listens; on the same address when it did before. */
  async start(): Promise<this> {
    const server = new Server(grpcServerOptions());
    this.#server = server;
    server.addService(SERVICE, {
      watchMap: (call: WatchCall) => this.#watch(call),
      getClusterStatus: this.#getStatus,
      changeCluster: this.#change,
    });
    const listen = this.address === "" ? "127.0.0.1:0" : this.address;
    this.address = await new Promise((resolve, reject) => {
      server.bindAsync(listen, ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(`127.0.0.1:${port}`);
        else reject(error);
      });
    });
    return this;
  }

  /** Like a process that is killed. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#watchers.clear();
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** Watchers get it, those that come later too. */
  publish(map: ClusterMap): void {
    this.#map = map;
    for (const call of this.#watchers) call.write(messageOf(map));
  }

  /** Ends every watch in good order. */
  endWatches(): void {
    for (const call of this.#watchers) call.end();
  }

  #watch(call: WatchCall): void {
    this.watched.push(call.request.clusterId);
    this.#watchers.add(call);
    for (const event of ["close", "cancelled", "error"]) {
      call.on(event, () => this.#watchers.delete(call));
    }
    if (this.#map !== undefined) call.write(messageOf(this.#map));
  }

  readonly #getStatus: handleUnaryCall<object, Status> = (_, callback) => {
    this.statusCalls++;
    const answer = this.status?.();
    if (answer !== undefined) callback(null, answer);
  };

  readonly #change: handleUnaryCall<ChangeClusterRequest, Change> = (call, callback) => {
    this.changes.push(call.request);
    const answer = this.change?.(call.request);
    if (answer !== undefined) callback(null, answer);
  };
}

const messageOf = (map: ClusterMap): WatchMessage =>
  create(WatchMapResponseSchema, { map: toMapMessage(map) });

function definition<I extends DescMessage, O extends DescMessage>(
  name: string,
  input: I,
  output: O,
  responseStream: boolean,
) {
  const encode = (value: MessageInitShape<O>) =>
    Buffer.from(toBinary(output, create(output, value)));
  return {
    path: `/${ClusterService.typeName}/${name}`,
    requestStream: false,
    responseStream,
    requestSerialize: (value: MessageShape<I>) => Buffer.from(toBinary(input, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(input, new Uint8Array(bytes)),
    responseSerialize: encode,
    responseDeserialize: (bytes: Buffer) => fromBinary(output, new Uint8Array(bytes)),
  };
}

const SERVICE: ServiceDefinition = {
  watchMap: definition("WatchMap", WatchMapRequestSchema, WatchMapResponseSchema, true),
  getClusterStatus: definition(
    "GetClusterStatus",
    GetClusterStatusRequestSchema,
    GetClusterStatusResponseSchema,
    false,
  ),
  changeCluster: definition(
    "ChangeCluster",
    ChangeClusterRequestSchema,
    ChangeClusterResponseSchema,
    false,
  ),
};
