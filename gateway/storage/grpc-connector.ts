/** Operate streams to a storage node in another process, over gRPC. */
import {
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  credentials as grpcCredentials,
  Metadata,
} from "@grpc/grpc-js";
import { OPERATE_PATH } from "#proto/codec/service.ts";
import { STREAM_OPERATIONS_PER_BATCH_MAX } from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { cancelCall, grpcClient, passBytes } from "#shared/runtime/grpc.ts";
import type { Connector } from "./stream-channel.ts";

type Call = ClientDuplexStream<Uint8Array, Buffer>;

/** `address` is `host:port`. */
export function grpcConnector(
  address: string,
  credentials: ChannelCredentials = grpcCredentials.createInsecure(),
): Connector {
  const client = grpcClient(address, credentials);
  return {
    peer: `storage node ${address}`,
    // A message costs much more than an operation in it.
    operationsGatheredMax: STREAM_OPERATIONS_PER_BATCH_MAX,
    givesUpSilent: true,
    open: () => openStream(client),
    close: () => client.close(),
  };
}

function openStream(client: Client): MessageStream {
  // The stream waits for a connection instead of failing while there is none.
  const metadata = new Metadata({ waitForReady: true });
  const call: Call = client.makeBidiStreamRequest(
    OPERATE_PATH,
    passBytes as (bytes: Uint8Array) => Buffer,
    passBytes,
    metadata,
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
    // A client of gRPC has no way to say why.
    abort: () => cancelCall(call),
  };
}
