/** Changes streams to a storage node of another process, over gRPC. */
import type { ChannelCredentials } from "@grpc/grpc-js";
import { CHANGES_PATH } from "#proto/codec/service.ts";
import { grpcClient, openByteStream } from "#shared/runtime/grpc.ts";
import type { ChangesConnector } from "./changes-link.ts";

/** `address` is `host:port`. */
export function grpcChangesConnector(
  address: string,
  credentials: ChannelCredentials,
): ChangesConnector {
  const client = grpcClient(address, credentials);
  return {
    peer: `storage node ${address}`,
    open: () => openByteStream(client, CHANGES_PATH),
    close: () => client.close(),
  };
}
