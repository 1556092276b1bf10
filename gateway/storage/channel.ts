/** A way to one storage node. */
import type { Operation, ResultBody } from "#proto/codec/messages.ts";

export type Readiness = { readonly ready: boolean; readonly reason: string };

export type ChannelFigures = {
  readonly isUp: boolean;
  /** Operations that are not answered yet. */
  readonly inFlight: number;
  /** What they cost of the window. */
  readonly inFlightBytes: number;
  /** What the node allows; 0 before its first hello. */
  readonly windowBytes: number;
};

/**
 * Never throws and never loses an operation: what cannot be sent, or breaks off, is answered with a
 * `Failure`. Its `notApplied` is true exactly when the storage node cannot have received the
 * operation, or says so itself.
 */
export interface Channel {
  /**
   * Hands a get or a write on and answers it exactly once, now or later, unless it is cancelled
   * before. The operation's buffers must not change any more, even after the answer.
   */
  send(operation: Operation, reply: (body: ResultBody) => void): void;
  /** Nobody waits for the answer any more. Returns whether the operation certainly never left. */
  cancel(operation: Operation): boolean;
  readiness(): Readiness;
  figures(): ChannelFigures;
  /** Breaks off what is in flight after `timeoutMs`. Idempotent. */
  close(timeoutMs: number): Promise<void>;
}
