/** The directory of a node: gRPC in front of a `DirectoryHandler`. */
import { DirectoryService } from "#proto/gen/minikv/v1/directory_pb.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import { type GrpcService, passBytes } from "#shared/runtime/grpc.ts";
import type { DirectoryHandler } from "#storage-node/meta/peers.ts";
import { definitionOf } from "./cluster-definition.ts";
import { unary } from "./cluster-service.ts";
import { type BytesCall, grpcStream } from "./grpc-stream.ts";

const { followDirectory, changeDirectory } = DirectoryService.method;

const DEFINITION = {
  // As bytes: the same code serves the gateway of the all-in-one, over a port.
  followDirectory: {
    path: `/${DirectoryService.typeName}/${followDirectory.name}`,
    requestStream: true,
    responseStream: true,
    requestSerialize: passBytes,
    requestDeserialize: (bytes: Buffer) => new Uint8Array(bytes),
    responseSerialize: ({ buffer, byteOffset, byteLength }: Uint8Array) =>
      Buffer.from(buffer, byteOffset, byteLength),
    responseDeserialize: passBytes,
  },
  changeDirectory: definitionOf(changeDirectory),
};

const NOT_YET = "the storage node belongs to no cluster yet";

/** `handler` is undefined as long as the node belongs to no cluster. */
export function directoryService(handler: () => DirectoryHandler | undefined): GrpcService {
  const calls = new Set<BytesCall>();
  const follow = (call: BytesCall): void => {
    calls.add(call);
    call.on("close", () => calls.delete(call));
    const stream = grpcStream(call);
    const node = handler();
    if (node === undefined) {
      stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
      stream.abort({ code: GrpcStatus.Unavailable, details: NOT_YET });
      return;
    }
    node.follow(stream);
    // The gateway has said its last: it wants nothing more.
    call.on("end", () => call.end());
  };
  return {
    definition: DEFINITION,
    handlers: {
      followDirectory: follow,
      changeDirectory: unary((request: Parameters<DirectoryHandler["changeDirectory"]>[0]) => {
        const node = handler();
        if (node !== undefined) return node.changeDirectory(request);
        throw new KvError("UNAVAILABLE", NOT_YET);
      }),
    },
    drain: () => Promise.resolve(),
    end: () => {
      for (const call of [...calls]) call.end();
    },
  };
}
