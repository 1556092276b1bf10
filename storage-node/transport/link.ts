/**
 * All that connects this node with one peer: a lane for control and one for appends, and what is told
 * of them. Both sides use the same object; only where its streams come from differs (dialer.ts for the
 * lower node id, `GrpcTransport.services` for the higher one).
 *
 * The lanes stand and fall together: they share a connection, so that one of them broke says that the
 * other is about to, and a peer that opens a new stream has given up both old ones. The newest stream
 * wins: the older may be of a process that is gone, which this side has not noticed yet.
 */
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import { type NodeId, nodeOfReplica } from "#shared/ids.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { EntryMemory } from "./entry-memory.ts";
import type { EntryTraces } from "./entry-traces.ts";
import { decodeLinkFrame } from "./frame-codec.ts";
import { Lane, type NodeHello } from "./hello-codec.ts";
import { LaneQueue } from "./lane-queue.ts";
import { createStatistics, type PeerStatistics } from "./statistics.ts";
import type { CarriedTrace, TransportEvents } from "./transport.ts";

/** A lane that a link has; snapshots are no part of it. */
export type LinkLane = typeof Lane.Control | typeof Lane.Appends;

/** What can be logged of a peer: one event for each change of its state, not for each attempt. */
export type PeerEvent =
  | { readonly kind: "connected"; readonly node: NodeId; readonly softwareVersion: string }
  /** It was connected, or could have been reached for the first time. */
  | { readonly kind: "lost"; readonly node: NodeId; readonly reason: string }
  /** One of the two sides does not want to speak with the other. */
  | { readonly kind: "refused"; readonly node: NodeId; readonly reason: string };

export type LinkOptions = {
  readonly node: NodeId;
  /** This node. */
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly memory: EntryMemory;
  readonly traces?: EntryTraces | undefined;
  readonly onMessage: (message: Message) => void;
  readonly onTraces?: NonNullable<TransportEvents["onTraces"]>;
  readonly onUnreachable: (node: NodeId) => void;
  readonly onEvent: (event: PeerEvent) => void;
  /** Both lanes have a stream. */
  readonly onConnected?: () => void;
  /** The streams have gone. */
  readonly onDisconnected: (status: StreamStatus) => void;
};

const CLOSED: StreamStatus = { code: GrpcStatus.Unavailable, details: "the link is closed" };

export class Link {
  readonly #options: LinkOptions;
  readonly statistics: PeerStatistics = createStatistics();
  readonly #control: LaneQueue;
  readonly #appends: LaneQueue;
  /** What was last told of the peer. */
  #told: { readonly kind: PeerEvent["kind"] | "nothing"; readonly reason: string };
  #unreachableTold = false;
  #scheduled = false;
  #connected = false;
  #closed = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    const { clock, traces } = options;
    const { statistics } = this;
    const onDropped = () => this.#onDropped();
    const schedule = () => this.#schedule();
    this.#control = new LaneQueue({ clock, statistics, schedule, onDropped });
    this.#appends = new LaneQueue({ clock, statistics, traces, schedule, onDropped });
    this.#told = { kind: "nothing", reason: "" };
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** No lane has a stream. */
  get idle(): boolean {
    return this.#control.stream === undefined && this.#appends.stream === undefined;
  }

  /** Appends without entries go with the others: they must not overtake what they build on. */
  send(message: Message): void {
    if (this.#closed) return;
    if (message.kind === "append") this.#appends.send(message);
    else this.#control.send(message);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Behind what runs now: a pass of the node sends what all of its groups have to say.
    process.nextTick(this.#tick);
  }

  /**
   * A frame costs more than the messages in it. So what both lanes have to send leaves as one frame when
   * it is little; control has a lane of its own so as not to wait behind what is much.
   */
  readonly #tick = (): void => {
    this.#scheduled = false;
    if (this.#appends.hasRoom) this.#control.joinTo(this.#appends);
    this.#appends.tick();
    this.#control.tick();
  };

  /** Takes over a stream on which both sides have said hello. */
  adopt(lane: LinkLane, stream: MessageStream, hello: NodeHello): StreamListener {
    const queue = lane === Lane.Control ? this.#control : this.#appends;
    if (queue.stream !== undefined) {
      this.disconnect({ code: GrpcStatus.Aborted, details: "the peer opened a newer stream" });
    }
    if (this.#closed) {
      stream.abort(CLOSED);
      return { onMessage: () => {}, onDrain: () => {}, onClosed: () => {} };
    }
    queue.attach(stream);
    if (this.#control.stream !== undefined && this.#appends.stream !== undefined) {
      this.#connect(hello);
    }
    return {
      onMessage: (frame) => {
        if (queue.stream === stream) this.#receive(frame);
      },
      onDrain: () => {
        if (queue.stream === stream) queue.drained();
      },
      onClosed: (status) => {
        if (queue.stream !== stream) return;
        const { code } = status;
        const ended = { code, details: "the peer ended the stream" };
        this.disconnect(code === GrpcStatus.Ok ? ended : status);
      },
    };
  }

  /** Gives up the streams, or the hope for some: `status` says why. Does nothing once closed. */
  disconnect(status: StreamStatus): void {
    if (this.#closed) return;
    this.#connected = false;
    this.#endStreams(status);
    const { node, onEvent } = this.#options;
    const kind = status.code === GrpcStatus.FailedPrecondition ? "refused" : "lost";
    const reason = status.details;
    const known = kind === "lost" || reason === this.#told.reason;
    if (kind !== this.#told.kind || !known) {
      this.#told = { kind, reason };
      onEvent({ kind, node, reason });
    }
    this.#tellUnreachable();
    this.#options.onDisconnected(status);
  }

  /** Ends the link for good. Tells nobody. */
  close(details: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connected = false;
    this.#endStreams({ code: GrpcStatus.Unavailable, details });
  }

  #endStreams(status: StreamStatus): void {
    for (const queue of [this.#control, this.#appends]) {
      const { stream } = queue;
      queue.detach();
      stream?.abort(status);
    }
  }

  #connect({ softwareVersion }: NodeHello): void {
    const { node, onEvent, onConnected } = this.#options;
    this.#connected = true;
    this.#unreachableTold = false;
    this.statistics.connects++;
    this.#told = { kind: "connected", reason: "" };
    onEvent({ kind: "connected", node, softwareVersion });
    onConnected?.();
  }

  #onDropped(): void {
    if (this.#closed) return;
    // A connected peer that is too slow is told of each time; a missing one, once.
    if (this.#connected) this.#options.onUnreachable(this.#options.node);
    else this.#tellUnreachable();
  }

  #tellUnreachable(): void {
    if (this.#unreachableTold) return;
    this.#unreachableTold = true;
    this.#options.onUnreachable(this.#options.node);
  }

  #receive(frame: Uint8Array): void {
    const { node, nodeId, memory, onMessage, onTraces } = this.#options;
    const traces: CarriedTrace[] = [];
    const { statistics } = this;
    statistics.framesReceived++;
    statistics.bytesReceived += frame.length;
    let messages: readonly Message[];
    try {
      messages = decodeLinkFrame(frame, { from: node, to: nodeId }, memory, traces);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.disconnect({ code: GrpcStatus.InvalidArgument, details: error.message });
      return;
    }
    if (traces.length > 0) onTraces?.(traces);
    for (const message of messages) {
      if (this.#closed) return;
      if (nodeOfReplica(message.from) !== node || nodeOfReplica(message.to) !== nodeId) {
        statistics.messagesMisaddressed++;
        continue;
      }
      statistics.messagesReceived++;
      onMessage(message);
    }
  }
}
