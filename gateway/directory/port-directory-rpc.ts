/**
 * `DirectoryService` of the storage node in the same process, which runs in another thread. A stream has a
 * pair of ports of its own, which ends with it: one port stays here, the other one is given to that thread.
 */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { PortClusterRpc } from "#gateway/cluster/port-cluster-rpc.ts";
import {
  ChangeDirectoryRequestSchema,
  ChangeDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import type { DirectoryRpc } from "./directory-rpc.ts";
import { followStream } from "./follow-stream.ts";

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
    return followStream(new PortStream(port1), listener);
  },
  change: async (_, request, timeoutMs) => {
    const bytes = toBinary(ChangeDirectoryRequestSchema, request);
    const answer = await cluster.ask("changeDirectory", bytes, timeoutMs);
    return fromBinary(ChangeDirectoryResponseSchema, answer);
  },
});
