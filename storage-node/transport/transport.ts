/**
 * How nodes speak with each other: Raft messages, and streams of snapshots.
 *
 * Delivery of messages may lose, duplicate, delay and reorder them: Raft bears all of it. A transport
 * never changes them and never blocks: what does not fit into its bounded queues is dropped. Which
 * node a message goes to is read off the replica it is for (`nodeOfReplica`).
 */
import type { GroupId, LogIndex, NodeId, Term } from "#shared/ids.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { TraceContext } from "#shared/tracing.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { PeerStatistics } from "./statistics.ts";

/** The trace of a log entry, which travels beside the message that carries the entry. */
export type CarriedTrace = {
  readonly group: GroupId;
  readonly index: LogIndex;
  readonly term: Term;
  readonly context: TraceContext;
};

export type TransportEvents = {
  readonly onMessage: (message: Message) => void;
  /** Told before the messages with which they came. */
  readonly onTraces?: (traces: readonly CarriedTrace[]) => void;
  /** Nothing can be sent to `node` at present: what was under way is probably lost. */
  readonly onUnreachable: (node: NodeId) => void;
  /** A peer opened a stream to send a snapshot. To be listened to at once. */
  readonly onSnapshotStream: (from: NodeId, stream: MessageStream) => void;
};

export type PeerFigures = Readonly<PeerStatistics> & { readonly isUp: boolean };

export interface Transport {
  /** Sets the one receiver. Called once, before the first message. */
  start(events: TransportEvents): void;
  /** The other nodes and where they are (`host:port`). Replaces what was known. */
  setPeers(peers: ReadonlyMap<NodeId, string>): void;
  /** Queues messages of any groups to any replicas. They are immutable from here on. */
  send(messages: readonly Message[]): void;
  /**
   * Lets messages that carry the entry from now on, or that were sent in this turn, carry its trace as
   * well. A transport without it carries none.
   */
  carry?(trace: CarriedTrace): void;
  /** A stream of its own to send a snapshot on; undefined when the node is not known. */
  openSnapshotStream(to: NodeId): MessageStream | undefined;
  /** Of each other node that it knows; absent where there are none. */
  figures?(): readonly PeerFigures[];
  /** Messages that were not of a replica of this node, or for no peer that it knows; absent as well. */
  readonly messagesUnroutable?: number;
  close(): void;
}

/** For a node whose groups have no other members: there is nobody to send to. */
export function soloTransport(): Transport {
  return {
    start: () => {},
    setPeers: () => {},
    send: () => {},
    openSnapshotStream: () => undefined,
    close: () => {},
  };
}
