/**
 * `ClusterService` over gRPC. Each watch and each call has a connection of its own, which ends with
 * it: calls of operators are rare, and a watch lasts. So nothing has to be kept in step with the map.
 */
import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { ChannelCredentials, Client, ServiceError } from "@grpc/grpc-js";
import {
  ChangeClusterRequestSchema,
  ChangeClusterResponseSchema,
  ClusterService,
  GetClusterStatusRequestSchema,
  GetClusterStatusResponseSchema,
  WatchMapRequestSchema,
  WatchMapResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { cancelCall, grpcClient, grpcReasonIn, passBytes } from "#shared/runtime/grpc.ts";
import { type ClusterRpc, NoAnswer, type WatchMap } from "./cluster-rpc.ts";

const { watchMap, getClusterStatus, changeCluster } = ClusterService.method;

export const pathOf = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;

/** Never throws: what does not decode closes the watch like anything else that is wrong. */
export const grpcWatchMap =
  (credentials: ChannelCredentials): WatchMap =>
  ({ address, clusterId, listener }) => {
    const client = grpcClient(address, credentials);
    const request = create(WatchMapRequestSchema, { clusterId });
    const call = client.makeServerStreamRequest(
      pathOf(watchMap),
      (message: typeof request) => Buffer.from(toBinary(WatchMapRequestSchema, message)),
      passBytes,
      request,
    );
    let isOver = false;
    const end = (): boolean => {
      if (isOver) return false;
      isOver = true;
      cancelCall(call);
      client.close();
      return true;
    };
    call.on("data", (bytes: Buffer) => {
      if (isOver) return;
      const map = decoded(WatchMapResponseSchema, bytes)?.map;
      if (map !== undefined) listener.onMap(map);
      else if (end()) listener.onClosed("it sent something else than a cluster map");
    });
    // A `status` event always follows; without a listener the error would end the process.
    call.on("error", () => {});
    call.on("status", ({ details }: { readonly details: string }) => {
      if (!end()) return;
      listener.onClosed(details === "" ? "it ended the watch of the map" : grpcReasonIn(details));
    });
    return () => void end();
  };

export const grpcClusterRpc = (credentials: ChannelCredentials): ClusterRpc => ({
  status: (address, timeoutMs) =>
    callUnary({
      client: grpcClient(address, credentials),
      address,
      path: pathOf(getClusterStatus),
      request: toBinary(GetClusterStatusRequestSchema, create(GetClusterStatusRequestSchema)),
      answer: GetClusterStatusResponseSchema,
      timeoutMs,
    }),
  change: (address, request, timeoutMs) =>
    callUnary({
      client: grpcClient(address, credentials),
      address,
      path: pathOf(changeCluster),
      request: toBinary(ChangeClusterRequestSchema, request),
      answer: ChangeClusterResponseSchema,
      timeoutMs,
    }),
});

type UnaryCall<Answer extends DescMessage> = {
  /** Closed with the call. */
  readonly client: Client;
  readonly address: string;
  readonly path: string;
  readonly request: Uint8Array;
  readonly answer: Answer;
  readonly timeoutMs: number;
};

/** @throws NoAnswer */
export async function callUnary<Answer extends DescMessage>(
  options: UnaryCall<Answer>,
): Promise<MessageShape<Answer>> {
  const { client, address, path, request, answer, timeoutMs } = options;
  const deadline = Date.now() + timeoutMs;
  try {
    // First the connection alone: what fails there has certainly not arrived.
    await new Promise<void>((resolve, reject) => {
      client.waitForReady(deadline, (error) => {
        if (error === undefined) resolve();
        else reject(new NoAnswer(`${address} cannot be reached`, { mayHaveArrived: false }));
      });
    });
    const bytes = await new Promise<Buffer>((resolve, reject) => {
      const done = (error: ServiceError | null, response?: Buffer): void => {
        if (response) resolve(response);
        else
          reject(
            new NoAnswer(`${address}: ${grpcReasonIn(error?.details ?? "")}`, {
              mayHaveArrived: true,
            }),
          );
      };
      client.makeUnaryRequest(path, passBytes, passBytes, Buffer.from(request), { deadline }, done);
    });
    const message = decoded(answer, bytes);
    if (message !== undefined) return message;
    throw new NoAnswer(`${address} sent an answer that does not decode`, { mayHaveArrived: true });
  } finally {
    client.close();
  }
}

/** Undefined for what does not decode. */
export function decoded<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
): MessageShape<Desc> | undefined {
  try {
    // A plain view: byte fields of the message would otherwise be Buffers.
    return fromBinary(schema, new Uint8Array(bytes));
  } catch {
    return undefined;
  }
}
