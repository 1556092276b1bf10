/**
 * What the Operate protocol asks of its carrier: a stream of whole messages, both ways, in order.
 *
 * Two carriers exist: a gRPC stream between processes, and a message port between threads
 * (`shared/runtime/port-stream.ts`). Both ends of the protocol know this interface only.
 */
import type { GrpcStatus } from "./errors.ts";

/** How a stream ended; a status of gRPC, whatever carries the stream. */
export type StreamStatus = { readonly code: GrpcStatus; readonly details: string };

export type StreamListener = {
  /** `bytes` belong to the listener. */
  readonly onMessage: (bytes: Uint8Array) => void;
  /** Writing may go on after `write` has returned false. */
  readonly onDrain: () => void;
  /** Nothing comes or goes any more. Perhaps called again, and after an own `end` or `abort`. */
  readonly onClosed: (status: StreamStatus) => void;
};

export interface MessageStream {
  /** To be called once, at once. */
  listen(listener: StreamListener): void;
  /** `bytes` belong to the stream from here on. Returns false to ask for a pause until `onDrain`. */
  write(bytes: Uint8Array): boolean;
  /** Ends the stream when what was written has arrived; the peer sees the status Ok. */
  end(): void;
  /** Ends the stream at once, and tells the peer why where the carrier can. */
  abort(status: StreamStatus): void;
}
