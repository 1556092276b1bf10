/** Changes streams to a storage node: in another process, over gRPC, and in another thread, over a port. */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import {
  type ChannelCredentials,
  type ClientDuplexStream,
  credentials as grpcCredentials,
} from "@grpc/grpc-js";
import { CHANGES_PATH } from "#proto/codec/service.ts";
import type { StreamStatus } from "#shared/message-stream.ts";
import { cancelCall, grpcClient, passBytes } from "#shared/runtime/grpc.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import type { ChangesConnector } from "./changes-link.ts";

type Call = ClientDuplexStream<Uint8Array, Buffer>;

/** `address` is `host:port`. */
export function grpcChangesConnector(
  address: string,
  credentials: ChannelCredentials = grpcCredentials.createInsecure(),
): ChangesConnector {
  const client = grpcClient(address, credentials);
  return {
    peer: `storage node ${address}`,
    open: () => {
      const call: Call = client.makeBidiStreamRequest(
        CHANGES_PATH,
        passBytes as (bytes: Uint8Array) => Buffer,
        passBytes,
      );
      return {
        listen: ({ onMessage, onDrain, onClosed }) => {
          call.on("data", onMessage);
          call.on("drain", onDrain);
          // A `status` event always follows; without a listener the error would end the process.
          call.on("error", () => {});
          call.on("status", ({ code, details }: StreamStatus) => onClosed({ code, details }));
        },
        write: (bytes) => call.write(bytes),
        end: () => call.end(),
        abort: () => cancelCall(call),
      };
    },
    close: () => client.close(),
  };
}

/** `give` hands the far end of a channel to the storage node's thread. */
export function portChangesConnector(give: (port: MessagePort) => void): ChangesConnector {
  return {
    peer: "the storage node of this process",
    open: () => {
      const { port1, port2 } = new MessageChannel();
      give(port2);
      return new PortStream(port1);
    },
    close: () => {},
  };
}
