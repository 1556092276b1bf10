/** Raft messages and snapshot streams between simulated nodes. */
import type { NodeId } from "#shared/ids.ts";
import { nodeOfReplica } from "#shared/ids.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { Transport, TransportEvents } from "#storage-node/transport/transport.ts";
import type { Network, SimStream } from "./network.ts";
import type { Party } from "./party.ts";

export type TransportParts = {
  readonly network: Network;
  readonly party: Party;
  readonly nodeId: NodeId;
  readonly clusterId: string;
  /** The transport of the node that lives at an address now. */
  readonly at: (address: string) => SimTransport | undefined;
  readonly onSend: (message: Message) => void;
};

/** A peer that is out of reach is told of once in this time. */
const UNREACHABLE_EVERY_MS = 300;

export class SimTransport implements Transport {
  readonly parts: TransportParts;
  #events: TransportEvents | undefined;
  #peers: ReadonlyMap<NodeId, string> = new Map();
  readonly #toldMs = new Map<NodeId, number>();
  #closed = false;

  constructor(parts: TransportParts) {
    this.parts = parts;
  }

  start(events: TransportEvents): void {
    this.#events = events;
  }

  setPeers(peers: ReadonlyMap<NodeId, string>): void {
    this.#peers = peers;
  }

  send(messages: readonly Message[]): void {
    const { party, network, onSend } = this.parts;
    if (this.#closed || party.isOver) return;
    for (const message of messages) {
      const to = nodeOfReplica(message.to);
      const address = this.#peers.get(to);
      if (address === undefined) continue;
      onSend(message);
      network.datagram(
        party.name,
        address,
        () => this.#deliver(message, to, address),
        () => this.#unreachable(to),
      );
    }
  }

  #deliver(message: Message, to: NodeId, address: string): void {
    const target = this.parts.at(address);
    if (target === undefined) {
      this.#unreachable(to);
      return;
    }
    const { nodeId, clusterId, party } = target.parts;
    if (nodeId !== to || clusterId !== this.parts.clusterId) return;
    party.run(() => target.#receive(message));
  }

  #receive(message: Message): void {
    // A node whose map does not have the sender has no way to it, and takes nothing from it.
    if (this.#closed || !this.#peers.has(nodeOfReplica(message.from))) return;
    this.#events?.onMessage(message);
  }

  #unreachable(node: NodeId): void {
    const { party, network } = this.parts;
    const nowMs = network.agenda.nowMs;
    if (nowMs - (this.#toldMs.get(node) ?? Number.NEGATIVE_INFINITY) < UNREACHABLE_EVERY_MS) return;
    this.#toldMs.set(node, nowMs);
    party.run(() => {
      if (!this.#closed) this.#events?.onUnreachable(node);
    });
  }

  openSnapshotStream(to: NodeId): MessageStream | undefined {
    const address = this.#peers.get(to);
    const { network, party, nodeId } = this.parts;
    if (address === undefined || this.#closed) return undefined;
    return network.connect(party, address, {
      purpose: `snapshot ${nodeId} ${to}`,
      waits: false,
    });
  }

  /** Somebody opened a snapshot stream to this node. */
  accept(stream: SimStream, from: NodeId): void {
    if (this.#closed || this.#events === undefined) stream.end();
    else this.#events.onSnapshotStream(from, stream);
  }

  close(): void {
    this.#closed = true;
  }
}
