/** `DirectoryService` over gRPC: each stream and each call has a connection of its own, which ends with it. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { callUnary, decoded, pathOf } from "#gateway/cluster/grpc-cluster-rpc.ts";
import {
  ChangeDirectoryRequestSchema,
  ChangeDirectoryResponseSchema,
  DirectoryService,
  FollowDirectoryRequestSchema,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { cancelCall, grpcClient, passBytes } from "#shared/runtime/grpc.ts";
import type { DirectoryRpc, FollowCall, FollowListener } from "./directory-rpc.ts";

const { followDirectory, changeDirectory } = DirectoryService.method;

export const grpcDirectoryRpc = (credentials: ChannelCredentials): DirectoryRpc => ({
  follow: (address, listener) => follow(credentials, address, listener),
  change: (address, request, timeoutMs) =>
    callUnary({
      client: grpcClient(address, credentials),
      address,
      path: pathOf(changeDirectory),
      request: toBinary(
        ChangeDirectoryRequestSchema,
        create(ChangeDirectoryRequestSchema, request),
      ),
      answer: ChangeDirectoryResponseSchema,
      timeoutMs,
    }),
});

/** Never throws: what does not decode closes the stream like anything else that is wrong. */
function follow(
  credentials: ChannelCredentials,
  address: string,
  listener: FollowListener,
): FollowCall {
  const client = grpcClient(address, credentials);
  const call = client.makeBidiStreamRequest(pathOf(followDirectory), passBytes, passBytes);
  let isOver = false;
  let isFull = false;
  const end = (): boolean => {
    if (isOver) return false;
    isOver = true;
    cancelCall(call);
    client.close();
    return true;
  };
  call.on("data", (bytes: Buffer) => {
    if (isOver) return;
    const message = decoded(FollowDirectoryResponseSchema, bytes);
    if (message !== undefined) listener.onMessage(message);
    else if (end()) listener.onClosed("it sent something else than the directory");
  });
  call.on("drain", () => {
    isFull = false;
  });
  // A `status` event always follows; without a listener the error would end the process.
  call.on("error", () => {});
  call.on("status", ({ details }: { readonly details: string }) => {
    if (end()) listener.onClosed(details === "" ? "it ended the stream" : details);
  });
  return {
    send: (request) => {
      if (isOver || isFull) return;
      isFull = !call.write(Buffer.from(toBinary(FollowDirectoryRequestSchema, request)));
    },
    cancel: () => void end(),
  };
}
