/** Changes streams to a storage node of another process, over gRPC. */
import {
  type ChannelCredentials,
  type ClientDuplexStream,
  credentials as grpcCredentials,
} from "@grpc/grpc-js";
import { CHANGES_PATH } from "#proto/codec/service.ts";
import type { StreamStatus } from "#shared/message-stream.ts";
import { cancelCall, grpcClient, passBytes } from "#shared/runtime/grpc.ts";
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
