/**
 * The beginning of every stream between two nodes: each side says who it is and whom it means to speak
 * with, and neither takes a message of the other before it has agreed.
 *
 * The side that opened the stream speaks first. Whoever refuses ends the stream with
 * FAILED_PRECONDITION and says what does not fit; a dialling side cannot, but it refuses nothing that
 * the other has not refused already, unless another process answers at the address.
 */
import {
  NODE_PROTOCOL_VERSION,
  NODE_PROTOCOL_VERSION_MIN,
  oldProtocol,
} from "#proto/codec/service.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import { NODE_ID_MAX, type NodeId } from "#shared/ids.ts";
import { LINK_OPEN_TIMEOUT_MS } from "#shared/limits.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import { decodeHelloFrame, encodeHelloFrame, type Lane, type NodeHello } from "./hello-codec.ts";

/** Who this node is. */
export type NodeIdentity = {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly softwareVersion: string;
};

export function helloTo(peer: NodeId, lane: Lane, identity: NodeIdentity): NodeHello {
  return { protocolVersion: NODE_PROTOCOL_VERSION, ...identity, peerNodeId: peer, lane };
}

/** Why this node does not speak with one that says `theirs`; undefined when it does. */
export function refusalOf(theirs: NodeHello, identity: NodeIdentity): string | undefined {
  const { nodeId, clusterId } = identity;
  const peer = `node ${theirs.nodeId}`;
  const old = oldProtocol(peer, theirs, NODE_PROTOCOL_VERSION_MIN);
  if (old !== undefined) return old;
  if (theirs.clusterId !== clusterId) {
    return `${peer} belongs to cluster "${theirs.clusterId}", node ${nodeId} to "${clusterId}"`;
  }
  if (theirs.nodeId < 1 || theirs.nodeId > NODE_ID_MAX) return `${peer} cannot exist`;
  if (theirs.nodeId === nodeId) return `${peer} is this node itself, or another with its id`;
  if (theirs.peerNodeId !== nodeId) {
    return `${peer} looks for node ${theirs.peerNodeId}, and reached node ${nodeId}`;
  }
  return undefined;
}

export type Heard =
  | { readonly kind: "refused"; readonly status: StreamStatus }
  | {
      readonly kind: "accepted";
      /** Said before anything else, by the side that did not open the stream. */
      readonly answer?: NodeHello;
      /** To whom the stream belongs from then on. */
      readonly open: () => StreamListener;
    };

export const refused = (details: string): Heard => ({
  kind: "refused",
  status: { code: GrpcStatus.FailedPrecondition, details },
});

export type GreetOptions = {
  readonly stream: MessageStream;
  readonly clock: Clock;
  /** Said at once, by the side that opened the stream. */
  readonly say?: NodeHello;
  readonly hear: (theirs: NodeHello) => Heard;
  /** The stream is over before the other side was accepted. Called at most once. */
  readonly onFailed: (status: StreamStatus) => void;
  /** Of a side that writes before it has heard the other. */
  readonly onDrain?: () => void;
};

/** Listens to a stream until the other side has said hello, then hands it on. */
export function greet(options: GreetOptions): void {
  const { stream, clock, say, hear, onFailed, onDrain } = options;
  let listener: StreamListener | undefined;
  let over = false;
  const fail = (status: StreamStatus): void => {
    if (over) return;
    over = true;
    cancelTimer();
    stream.abort(status);
    onFailed(status);
  };
  const cancelTimer = clock.after(LINK_OPEN_TIMEOUT_MS, () => {
    const details = `the other node did not say hello within ${LINK_OPEN_TIMEOUT_MS} ms`;
    fail({ code: GrpcStatus.DeadlineExceeded, details });
  });
  const listen = (bytes: Uint8Array): void => {
    const heard = tryToHear(bytes, hear);
    if (heard.kind === "refused") {
      fail(heard.status);
      return;
    }
    over = true;
    cancelTimer();
    if (heard.answer !== undefined) stream.write(encodeHelloFrame(heard.answer));
    listener = heard.open();
  };
  stream.listen({
    onMessage: (bytes) => {
      if (listener !== undefined) listener.onMessage(bytes);
      else if (!over) listen(bytes);
    },
    onDrain: () => {
      if (listener !== undefined) listener.onDrain();
      else if (!over) onDrain?.();
    },
    onClosed: (status) => {
      if (listener !== undefined) listener.onClosed(status);
      else fail(status);
    },
  });
  if (say !== undefined) stream.write(encodeHelloFrame(say));
}

function tryToHear(bytes: Uint8Array, hear: (theirs: NodeHello) => Heard): Heard {
  let theirs: NodeHello;
  try {
    theirs = decodeHelloFrame(bytes);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    const status = { code: GrpcStatus.InvalidArgument, details: error.message };
    return { kind: "refused", status };
  }
  return hear(theirs);
}
