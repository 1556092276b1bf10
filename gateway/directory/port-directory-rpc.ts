/**
 * `DirectoryService` of the storage node in the same process, which runs in another thread. A stream has a
 * pair of ports of its own, which ends with it: one port stays here, the other one is given to that thread.
 */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { decoded } from "#gateway/cluster/grpc-cluster-rpc.ts";
import type { PortClusterRpc } from "#gateway/cluster/port-cluster-rpc.ts";
import {
  ChangeDirectoryRequestSchema,
  ChangeDirectoryResponseSchema,
  FollowDirectoryRequestSchema,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import type { DirectoryRpc, FollowCall, FollowListener } from "./directory-rpc.ts";

export type PortDirectoryOptions = {
  readonly cluster: PortClusterRpc;
  /** Gives the port, which is one end of a stream, to the storage node's thread. */
  readonly give: (port: MessagePort) => void;
};

/** One node, so the addresses that it is asked with do not matter. */
export const portDirectoryRpc = ({ cluster, give }: PortDirectoryOptions): DirectoryRpc => ({
  follow: (_, listener) => {
    const { port1, port2 } = new MessageChannel();
    give(port2);
    return follow(port1, listener);
  },
  change: async (_, request, timeoutMs) => {
    const bytes = toBinary(ChangeDirectoryRequestSchema, request);
    const answer = await cluster.ask("changeDirectory", bytes, timeoutMs);
    return fromBinary(ChangeDirectoryResponseSchema, answer);
  },
});

function follow(port: MessagePort, listener: FollowListener): FollowCall {
  const stream = new PortStream(port);
  let isOver = false;
  let isFull = false;
  stream.listen({
    onMessage: (bytes) => {
      if (isOver) return;
      const message = decoded(FollowDirectoryResponseSchema, bytes);
      if (message !== undefined) listener.onMessage(message);
    },
    onDrain: () => {
      isFull = false;
    },
    onClosed: ({ details }) => {
      if (isOver) return;
      isOver = true;
      listener.onClosed(details);
    },
  });
  return {
    send: (request) => {
      if (isOver || isFull) return;
      isFull = !stream.write(toBinary(FollowDirectoryRequestSchema, request));
    },
    cancel: () => {
      if (isOver) return;
      isOver = true;
      stream.end();
    },
  };
}
