/**
 * `DirectoryService` of storage nodes, as a gateway uses it. Implemented over gRPC
 * (`grpc-directory-rpc.ts`) and, in the all-in-one, over ports to the storage node's thread.
 */
import type {
  ChangeDirectoryRequest,
  ChangeDirectoryResponse,
  FollowDirectoryRequest,
  FollowDirectoryResponse,
} from "#proto/gen/minikv/v1/directory_pb.ts";

export type FollowListener = {
  readonly onMessage: (message: FollowDirectoryResponse) => void;
  /** Nothing comes any more. Called once at most, and not after a cancel. */
  readonly onClosed: (reason: string) => void;
};

export interface FollowCall {
  /** Dropped while the peer takes nothing: only what is newest matters. */
  send(request: FollowDirectoryRequest): void;
  cancel(): void;
}

export interface DirectoryRpc {
  /** Never calls back at once. */
  follow(address: string, listener: FollowListener): FollowCall;
  /** @throws NoAnswer */
  change(
    address: string,
    request: ChangeDirectoryRequest,
    timeoutMs: number,
  ): Promise<ChangeDirectoryResponse>;
}
