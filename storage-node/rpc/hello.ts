/** What a storage node says of itself at the beginning of every stream of a gateway. */
import type { Hello } from "#proto/codec/messages.ts";
import { PROTOCOL_VERSION } from "#proto/codec/service.ts";
import type { NodeId } from "#shared/ids.ts";
import {
  CHANGE_READS_PER_STREAM_MAX,
  STREAM_WINDOW_BYTES_MAX,
  STREAM_WINDOW_OPERATIONS_MAX,
} from "#shared/limits.ts";

export type NodeIdentity = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly softwareVersion: string;
  /** Per stream; the limits file's by default. */
  readonly windowOperations?: number;
  readonly windowBytes?: number;
};

export function nodeHello(identity: NodeIdentity): Hello {
  const { clusterId, nodeId, softwareVersion } = identity;
  return {
    protocolVersion: PROTOCOL_VERSION,
    clusterId,
    nodeId,
    softwareVersion,
    windowOperations: identity.windowOperations ?? STREAM_WINDOW_OPERATIONS_MAX,
    windowBytes: identity.windowBytes ?? STREAM_WINDOW_BYTES_MAX,
  };
}

/** The same on a Changes stream: its window is the pieces of logs that may be asked for at once. */
export function changesHello(identity: NodeIdentity): Hello {
  return { ...nodeHello(identity), windowOperations: CHANGE_READS_PER_STREAM_MAX };
}
