/**
 * How Raft messages leave a node and arrive at it.
 *
 * Delivery may lose, duplicate, delay and reorder messages: Raft bears all of it. A transport never
 * changes them and never blocks: what does not fit into its bounded queues is dropped.
 */
import type { Message } from "#storage-node/raft/types.ts";

export interface Transport {
  /** Queues messages of any groups to any replicas. They are immutable from here on. */
  send(messages: readonly Message[]): void;
  /** Sets the one receiver. Called once, before the first message. */
  onMessage(receive: (message: Message) => void): void;
}

/** For a node whose groups have no other members: there is nobody to send to. */
export function soloTransport(): Transport {
  return { send: () => {}, onMessage: () => {} };
}
