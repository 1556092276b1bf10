/** Operate streams to a storage node in another process, over gRPC. */
import { type ChannelCredentials, Metadata } from "@grpc/grpc-js";
import { OPERATE_PATH } from "#proto/codec/service.ts";
import { STREAM_OPERATIONS_PER_BATCH_MAX } from "#shared/limits.ts";
import { grpcClient, openByteStream } from "#shared/runtime/grpc.ts";
import type { Connector } from "./stream-channel.ts";

/** `address` is `host:port`. */
export function grpcConnector(address: string, credentials: ChannelCredentials): Connector {
  const client = grpcClient(address, credentials);
  return {
    peer: `storage node ${address}`,
    // A message costs much more than an operation in it.
    operationsGatheredMax: STREAM_OPERATIONS_PER_BATCH_MAX,
    givesUpSilent: true,
    // The stream waits for a connection instead of failing while there is none.
    open: () => openByteStream(client, OPERATE_PATH, new Metadata({ waitForReady: true })),
    close: () => client.close(),
  };
}
