/**
 * The transport over gRPC: a link to each peer, and streams of snapshots beside them.
 *
 * Of two nodes the one with the lower id dials; the other takes what `NodeService` brings. A peer that
 * is not known here is taken in as well when it belongs to the cluster: its map is newer than ours.
 * One that was known and is no more is refused, for ids of nodes are never used again.
 */
import type { ChannelCredentials } from "@grpc/grpc-js";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { type NodeId, nodeOfReplica } from "#shared/ids.ts";
import { CLUSTER_NODES_MAX, LINK_GREETINGS_MAX, LINK_PEERS_MAX } from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import type { Random } from "#shared/random.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { Dialer } from "./dialer.ts";
import { EntryMemory } from "./entry-memory.ts";
import { EntryTraces } from "./entry-traces.ts";
import { grpcConnection, type NodeConnection } from "./grpc-connection.ts";
import { greet, type Heard, helloTo, type NodeIdentity, refusalOf, refused } from "./handshake.ts";
import { Lane, type NodeHello } from "./hello-codec.ts";
import { Link, type LinkLane, type PeerEvent } from "./link.ts";
import type { NodeAcceptor } from "./node-service.ts";
import { acceptedSnapshotStream, openedSnapshotStream } from "./snapshot-stream.ts";
import type { PeerStatistics } from "./statistics.ts";
import type { CarriedTrace, PeerFigures, Transport, TransportEvents } from "./transport.ts";

export type GrpcTransportOptions = NodeIdentity & {
  readonly clock: Clock;
  readonly random: Random;
  readonly credentials: ChannelCredentials;
  /** For the log: one event for each change of a peer's state. */
  readonly onEvent: (event: PeerEvent) => void;
};

type Peer = {
  readonly link: Link;
  /** Of a peer with a higher id whose address is known. */
  dialer: Dialer | undefined;
};

const CLOSING: StreamStatus = { code: GrpcStatus.Unavailable, details: "the node is stopping" };

const tooMany = (details: string): StreamStatus => ({
  code: GrpcStatus.ResourceExhausted,
  details,
});

export class GrpcTransport implements Transport, NodeAcceptor {
  readonly #options: GrpcTransportOptions;
  readonly #memory = new EntryMemory();
  readonly #traces = new EntryTraces();
  #events: TransportEvents | undefined;
  #addresses: ReadonlyMap<NodeId, string> = new Map();
  readonly #peers = new Map<NodeId, Peer>();
  /** Were known once, and are no more. */
  readonly #removed = new Set<NodeId>();
  /** What peers that dialled were last refused for, to tell of it once. */
  readonly #refusals = new Map<number, string>();
  readonly #snapshotStreams = new Set<MessageStream>();
  /** Streams that peers have opened and not said hello on. */
  #greetings = 0;
  #unroutable = 0;
  #accepting = true;
  #closed = false;

  constructor(options: GrpcTransportOptions) {
    this.#options = options;
  }

  start(events: TransportEvents): void {
    this.#events = events;
  }

  setPeers(addresses: ReadonlyMap<NodeId, string>): void {
    if (this.#closed) return;
    const known = this.#addresses;
    this.#addresses = new Map(addresses);
    for (const node of known.keys()) if (!addresses.has(node)) this.#remove(node);
    for (const [node, address] of addresses) {
      if (node === this.#options.nodeId) continue;
      this.#removed.delete(node);
      const peer = this.#peer(node);
      // A member whose address nobody knows yet can only come by itself.
      if (address === "") continue;
      if (peer.dialer !== undefined) peer.dialer.redirect(address);
      else if (node > this.#options.nodeId) this.#dial(node, peer, address);
    }
  }

  send(messages: readonly Message[]): void {
    const { nodeId } = this.#options;
    for (const message of messages) {
      const peer = this.#peers.get(nodeOfReplica(message.to));
      if (peer !== undefined && nodeOfReplica(message.from) === nodeId) peer.link.send(message);
      else this.#unroutable++;
    }
  }

  carry(trace: CarriedTrace): void {
    this.#traces.add(trace);
  }

  openSnapshotStream(to: NodeId): MessageStream | undefined {
    const address = this.#addresses.get(to) ?? "";
    if (address === "" || to === this.#options.nodeId || this.#closed) return undefined;
    const connection = this.#connect(address);
    const frames = connection.openSnapshot();
    this.#snapshotStreams.add(frames);
    return openedSnapshotStream({
      frames,
      clock: this.#options.clock,
      hello: helloTo(to, Lane.Snapshot, this.#options),
      refusalOf: (theirs) =>
        refusalOf(theirs, this.#options) ??
        (theirs.nodeId === to ? undefined : `node ${theirs.nodeId} answers, not node ${to}`),
      onClosed: () => {
        this.#snapshotStreams.delete(frames);
        connection.close();
      },
    });
  }

  acceptLink(stream: MessageStream): void {
    this.#accept(stream, (theirs) => this.#hearLink(theirs, stream));
  }

  acceptSnapshot(stream: MessageStream): void {
    this.#accept(stream, (theirs) => this.#hearSnapshot(theirs, stream));
  }

  stopAccepting(): void {
    if (!this.#accepting) return;
    this.#accepting = false;
    for (const [node, { link }] of this.#peers) {
      if (node < this.#options.nodeId) link.close(CLOSING.details);
    }
    for (const stream of [...this.#snapshotStreams]) stream.abort(CLOSING);
  }

  /** What passed between this node and each peer that it has had a link with. */
  statistics(): ReadonlyMap<NodeId, Readonly<PeerStatistics>> {
    return new Map([...this.#peers].map(([node, { link }]) => [node, link.statistics]));
  }

  figures(): readonly PeerFigures[] {
    return [...this.#peers.values()].map(({ link }) => ({
      ...link.statistics,
      isUp: link.connected,
    }));
  }

  get messagesUnroutable(): number {
    return this.#unroutable;
  }

  close(): void {
    if (this.#closed) return;
    this.stopAccepting();
    this.#closed = true;
    for (const { link, dialer } of this.#peers.values()) {
      link.close(CLOSING.details);
      dialer?.close();
    }
    this.#peers.clear();
  }

  #peer(node: NodeId): Peer {
    const known = this.#peers.get(node);
    if (known !== undefined) return known;
    const { nodeId, clock } = this.#options;
    const peer: Peer = {
      link: new Link({
        node,
        nodeId,
        clock,
        memory: this.#memory,
        traces: this.#traces,
        onTraces: (traces) => this.#events?.onTraces?.(traces),
        onMessage: (message) => this.#events?.onMessage(message),
        onUnreachable: () => this.#events?.onUnreachable(node),
        onEvent: this.#options.onEvent,
        onConnected: () => peer.dialer?.connected(),
        onDisconnected: () => this.#onDisconnected(node, peer),
      }),
      dialer: undefined,
    };
    this.#peers.set(node, peer);
    return peer;
  }

  #onDisconnected(node: NodeId, peer: Peer): void {
    peer.dialer?.disconnected();
    if (this.#addresses.has(node)) return;
    // It came unknown, and perhaps is gone for good. A newer stream may be about to be taken over.
    process.nextTick(() => {
      const gone = peer.link.idle && !this.#addresses.has(node);
      if (gone && this.#peers.get(node) === peer) this.#forget(node, peer);
    });
  }

  #remove(node: NodeId): void {
    const peer = this.#peers.get(node);
    if (peer !== undefined) {
      const { connected } = peer.link;
      this.#forget(node, peer);
      const reason = "it is no longer a member of the cluster";
      if (connected) this.#options.onEvent({ kind: "lost", node, reason });
    }
    if (this.#removed.size >= CLUSTER_NODES_MAX) this.#removed.clear();
    this.#removed.add(node);
  }

  #forget(node: NodeId, { link, dialer }: Peer): void {
    this.#peers.delete(node);
    link.close("not a member of the cluster");
    dialer?.close();
  }

  #connect(address: string): NodeConnection {
    return grpcConnection(address, this.#options.credentials);
  }

  #dial(node: NodeId, peer: Peer, address: string): void {
    const { clock, random } = this.#options;
    peer.dialer = new Dialer(address, {
      identity: this.#options,
      peer: node,
      link: peer.link,
      connect: (target) => this.#connect(target),
      clock,
      random,
    });
    peer.dialer.start();
  }

  #accept(stream: MessageStream, hear: (theirs: NodeHello) => Heard): void {
    if (!this.#accepting || this.#events === undefined) {
      stream.abort(this.#accepting ? { ...CLOSING, details: "the node is starting" } : CLOSING);
      return;
    }
    if (this.#greetings >= LINK_GREETINGS_MAX) {
      stream.abort(tooMany(`${LINK_GREETINGS_MAX} streams have not said hello yet`));
      return;
    }
    this.#greetings++;
    greet({
      stream,
      clock: this.#options.clock,
      hear: (theirs) => {
        const heard = hear(theirs);
        if (heard.kind === "accepted") this.#greetings--;
        return heard;
      },
      // Who leaves before its hello, or sends none, is nobody that could be told of.
      onFailed: () => {
        this.#greetings--;
      },
    });
  }

  #hearLink(theirs: NodeHello, stream: MessageStream): Heard {
    const { nodeId } = this.#options;
    const refusal = this.#refuse(theirs, () => {
      if (theirs.lane !== Lane.Control && theirs.lane !== Lane.Appends) return "no such lane";
      if (theirs.nodeId > nodeId) return "of two nodes the one with the lower id dials";
      return undefined;
    });
    if (refusal !== undefined) return refusal;
    const node = theirs.nodeId as NodeId;
    if (!this.#peers.has(node) && this.#peers.size >= LINK_PEERS_MAX) {
      const status = tooMany(`node ${nodeId} has ${LINK_PEERS_MAX} peers already`);
      return { kind: "refused", status };
    }
    const lane = theirs.lane as LinkLane;
    const open = () => this.#peer(node).link.adopt(lane, stream, theirs);
    return { kind: "accepted", answer: helloTo(node, lane, this.#options), open };
  }

  #hearSnapshot(theirs: NodeHello, frames: MessageStream): Heard {
    const refusal = this.#refuse(theirs, () =>
      theirs.lane === Lane.Snapshot ? undefined : "no lane for snapshots",
    );
    if (refusal !== undefined) return refusal;
    const node = theirs.nodeId as NodeId;
    const open = () => {
      const { stream, listener } = acceptedSnapshotStream(frames);
      this.#snapshotStreams.add(frames);
      this.#events?.onSnapshotStream(node, stream);
      const { onMessage, onDrain, onClosed } = listener();
      return {
        onMessage,
        onDrain,
        onClosed: (status: StreamStatus) => {
          this.#snapshotStreams.delete(frames);
          onClosed(status);
        },
      };
    };
    return { kind: "accepted", answer: helloTo(node, Lane.Snapshot, this.#options), open };
  }

  /** Refuses who dialled, and tells of it unless it was told for the same reason before. */
  #refuse(theirs: NodeHello, further: () => string | undefined): Heard | undefined {
    const node = theirs.nodeId as NodeId;
    if (!this.#accepting) return { kind: "refused", status: CLOSING };
    const removed = this.#removed.has(node)
      ? `node ${node} was removed from the cluster`
      : undefined;
    const reason = refusalOf(theirs, this.#options) ?? removed ?? further();
    if (reason === undefined) {
      this.#refusals.delete(node);
      return undefined;
    }
    if (this.#refusals.get(node) !== reason) {
      if (this.#refusals.size >= CLUSTER_NODES_MAX) this.#refusals.clear();
      this.#refusals.set(node, reason);
      this.#options.onEvent({ kind: "refused", node, reason });
    }
    return refused(reason);
  }
}
