/**
 * `NodeService` on the gRPC server of a node. The server may listen before the node belongs to a
 * cluster: until a transport is attached, peers are told to come back.
 */
import type { ServiceDefinition } from "@grpc/grpc-js";
import { LINK_PATH, SNAPSHOT_PATH } from "#proto/codec/service.ts";
import { GrpcStatus } from "#shared/errors.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import { type GrpcService, passBytes } from "#shared/runtime/grpc.ts";
import { type ServerCall, serverStream } from "./grpc-connection.ts";

/** Takes the streams that peers open. */
export type NodeAcceptor = {
  acceptLink(stream: MessageStream): void;
  acceptSnapshot(stream: MessageStream): void;
  /** Takes no more streams, and ends those that were taken. */
  stopAccepting(): void;
};

const METHOD = {
  requestStream: true,
  responseStream: true,
  requestSerialize: passBytes,
  requestDeserialize: passBytes,
  responseSerialize: passBytes,
  responseDeserialize: passBytes,
} as const;

const DEFINITION = {
  link: { path: LINK_PATH, ...METHOD },
  snapshot: { path: SNAPSHOT_PATH, ...METHOD },
} as const satisfies ServiceDefinition;

export type NodeService = GrpcService & {
  /** Whose streams they are from now on. */
  attach(acceptor: NodeAcceptor): void;
};

export function nodeService(): NodeService {
  let acceptor: NodeAcceptor | undefined;
  const handle =
    (accept: (to: NodeAcceptor, stream: MessageStream) => void) =>
    (call: ServerCall): void => {
      const stream = serverStream(call);
      if (acceptor !== undefined) accept(acceptor, stream);
      else
        stream.abort({ code: GrpcStatus.Unavailable, details: "the node is not in a cluster yet" });
    };
  return {
    definition: DEFINITION,
    handlers: {
      link: handle((to, stream) => to.acceptLink(stream)),
      snapshot: handle((to, stream) => to.acceptSnapshot(stream)),
    },
    attach: (attached) => {
      acceptor = attached;
    },
    // Peers are needed until the last write of a gateway is replicated: their streams are cut at the end.
    drain: () => Promise.resolve(),
    end: () => {
      acceptor?.stopAccepting();
    },
  };
}
