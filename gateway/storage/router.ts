/**
 * Which storage node is asked for a vshard, as cluster maps come and nodes come and go.
 *
 * Per vshard there is one guess at the leader: the one that last proved or was said to lead, at first
 * the one that the map prefers. A guess whose node cannot be reached is passed over without being
 * asked, so when a stream breaks, everything that the node led is asked elsewhere at once. A wrong
 * guess costs a redirect, never an error: what a node answers corrects it.
 *
 * There is one channel per node of the map. A node that left or moved has its channel closed once
 * what is in flight there has been answered, or after `STREAM_DRAIN_MS`; what is left then breaks off
 * and is sent again elsewhere.
 */
import type { ClusterMap, ClusterNode, Placement, ReplicaRole } from "#shared/cluster-map.ts";
import { type NodeId, nodeOfReplica, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import { STREAM_DRAIN_MS } from "#shared/limits.ts";
import type { Channel, ChannelFigures, Readiness } from "./channel.ts";

/** A node of the map and the way to it. */
export type Peer = {
  readonly id: NodeId;
  readonly address: string;
  readonly channel: Channel;
};

export type RouterOptions = {
  /** Opens the channel to a node of the map. The router closes it. */
  readonly connect: (node: ClusterNode, clusterId: string) => Channel;
  /** A storage node names a leader that the map does not have: there must be a newer map. */
  readonly onUnknownNode: () => void;
  /** Why there is no map yet, for people. */
  readonly whyNoMap: () => string;
};

/** The nodes that hold a vshard, likely leaders first: `voters` voters, then leaving, then learning. */
type Replicas = { readonly nodes: readonly NodeId[]; readonly voters: number };

const NO_NODE = 0 as NodeId;
const NO_REPLICAS: Replicas = { nodes: [], voters: 0 };
/** One that is leaving may lead until it is out, a learner may have become a voter since. */
const BY_LIKELIHOOD: readonly ReplicaRole[] = ["voter", "leaving", "learner"];

export class Router {
  readonly #options: RouterOptions;
  readonly #peers = new Map<NodeId, Peer>();
  /** Channels of nodes that left or moved. */
  readonly #retiring = new Set<Promise<void>>();
  #map: ClusterMap | undefined;
  /** By vshard. */
  #replicas: readonly Replicas[] = [];
  /** By vshard. */
  readonly #leaders: NodeId[] = Array.from({ length: VSHARD_COUNT }, () => NO_NODE);
  /** By vshard: a storage node said so, it is more than the map's wish. */
  readonly #learned: boolean[] = Array.from({ length: VSHARD_COUNT }, () => false);
  /** By vshard: the guess has answered as leader. */
  readonly #proven: boolean[] = Array.from({ length: VSHARD_COUNT }, () => false);
  /** By vshard: how often a leader was found after there had been none. */
  readonly #findings: number[] = Array.from({ length: VSHARD_COUNT }, () => 0);
  /** Goes round, so that stale reads are spread. */
  #turn = 0;

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  get map(): ClusterMap | undefined {
    return this.#map;
  }

  /** Whether the node's stream is up. */
  isReachable(node: NodeId): boolean {
    return this.#peers.get(node)?.channel.readiness().ready ?? false;
  }

  channels(): readonly (ChannelFigures & { readonly node: NodeId })[] {
    return [...this.#peers.values()].map(({ id, channel }) => ({ node: id, ...channel.figures() }));
  }

  /** Takes over a map; one that is not newer is ignored. */
  setMap(map: ClusterMap): void {
    if (this.#map !== undefined && map.version <= this.#map.version) return;
    this.#map = map;
    this.#replicas = map.placements.map(replicasOf);
    this.#setPeers(map);
    for (const { group, preferredLeader } of map.placements) {
      const { nodes } = this.#replicas[group]!;
      if (this.#learned[group] && nodes.includes(this.#leaders[group]!)) continue;
      const isPlaced = nodes.includes(preferredLeader);
      this.#guess(group, isPlaced ? preferredLeader : (nodes[0] ?? NO_NODE), false);
    }
  }

  #setPeers(map: ClusterMap): void {
    const nodes = new Map(map.nodes.map((node) => [node.id, node]));
    for (const peer of [...this.#peers.values()]) {
      if (nodes.get(peer.id)?.address === peer.address) continue;
      this.#peers.delete(peer.id);
      const closed = peer.channel.close(STREAM_DRAIN_MS);
      this.#retiring.add(closed);
      void closed.then(() => this.#retiring.delete(closed));
    }
    for (const node of map.nodes) {
      if (this.#peers.has(node.id)) continue;
      const channel = this.#options.connect(node, map.clusterId);
      this.#peers.set(node.id, { id: node.id, address: node.address, channel });
    }
  }

  /**
   * Whom to ask as leader: the guess, or, when that cannot be reached, another replica that can.
   * Undefined when there is no map, or no node with a replica.
   */
  leaderOf(vshard: VshardId): Peer | undefined {
    const node = this.#leaders[vshard]!;
    const guess = this.#peers.get(node);
    if (guess?.channel.readiness().ready) return guess;
    return this.#reachableAfter(vshard, node) ?? guess ?? this.#nextAfter(vshard, node);
  }

  /**
   * Whom to ask for a read that may be stale: in turns each replica that can be reached and is not
   * among `tried`, those that may lag last. Undefined when there is none.
   */
  replicaOf(vshard: VshardId, tried: readonly NodeId[]): Peer | undefined {
    const { nodes, voters } = this.#replicas[vshard] ?? NO_REPLICAS;
    const turn = this.#turn++;
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i < voters ? (turn + i) % voters : i]!;
      const peer = this.#peers.get(node);
      if (!tried.includes(node) && peer?.channel.readiness().ready) return peer;
    }
    return undefined;
  }

  /** `node` has answered as leader. */
  prove(vshard: VshardId, node: NodeId): void {
    if (this.#proven[vshard] && this.#leaders[vshard] === node) return;
    this.#leaders[vshard] = node;
    this.#learned[vshard] = true;
    this.#proven[vshard] = true;
    this.#findings[vshard]!++;
  }

  /** Grows when a leader has been found: whoever waits for one need not wait longer. */
  findingsOf(vshard: VshardId): number {
    return this.#findings[vshard]!;
  }

  /** `node` says that `leader` leads. Returns whether that is another node, and one we can ask. */
  redirect(vshard: VshardId, node: NodeId, leader: NodeId): boolean {
    if (leader === node) return false;
    if (!this.#peers.has(leader)) {
      this.#options.onUnknownNode();
      return false;
    }
    if (!this.isReachable(leader)) return false;
    // Another call may have learned of a later leader since; then that one is asked next.
    if (this.#isSpent(vshard, node)) this.#guess(vshard, leader, true);
    return true;
  }

  /** `node` does not lead or cannot be reached: the next replica is asked next. */
  passOver(vshard: VshardId, node: NodeId): void {
    if (!this.#isSpent(vshard, node)) return;
    const next = this.#reachableAfter(vshard, node) ?? this.#nextAfter(vshard, node);
    if (next === undefined) return;
    this.#guess(vshard, next.id, false);
  }

  /** Ready when there is a map and somebody to ask; a vshard without a leader fails by itself. */
  readiness(): Readiness {
    if (this.#map === undefined) return { ready: false, reason: this.#options.whyNoMap() };
    let reason = "the cluster map has no nodes";
    for (const { channel } of this.#peers.values()) {
      const readiness = channel.readiness();
      if (readiness.ready) return readiness;
      reason = readiness.reason;
    }
    return { ready: false, reason };
  }

  async close(timeoutMs: number): Promise<void> {
    const open = [...this.#peers.values()].map(({ channel }) => channel.close(timeoutMs));
    await Promise.all([...open, ...this.#retiring]);
  }

  #guess(vshard: number, node: NodeId, isLearned: boolean): void {
    this.#leaders[vshard] = node;
    this.#learned[vshard] = isLearned;
    this.#proven[vshard] = false;
  }

  /** Whether what is known of `node` counts against the present guess. */
  #isSpent(vshard: VshardId, node: NodeId): boolean {
    const guess = this.#leaders[vshard]!;
    return guess === node || !this.isReachable(guess);
  }

  /** The first reachable one of the other replicas, beginning behind `node`. */
  #reachableAfter(vshard: VshardId, node: NodeId): Peer | undefined {
    const { nodes } = this.#replicas[vshard] ?? NO_REPLICAS;
    const start = nodes.indexOf(node) + 1;
    for (let i = 0; i < nodes.length; i++) {
      const candidate = nodes[(start + i) % nodes.length]!;
      const peer = this.#peers.get(candidate);
      if (candidate !== node && peer?.channel.readiness().ready) return peer;
    }
    return undefined;
  }

  /** The next replica whose node the map has, beginning behind `node` and ending with it. */
  #nextAfter(vshard: VshardId, node: NodeId): Peer | undefined {
    const { nodes } = this.#replicas[vshard] ?? NO_REPLICAS;
    const start = nodes.indexOf(node) + 1;
    for (let i = 0; i < nodes.length; i++) {
      const peer = this.#peers.get(nodes[(start + i) % nodes.length]!);
      if (peer !== undefined) return peer;
    }
    return undefined;
  }
}

function replicasOf({ replicas }: Placement): Replicas {
  const nodes = new Set<NodeId>();
  let voters = 0;
  for (const role of BY_LIKELIHOOD) {
    for (const replica of replicas) {
      if (replica.role === role) nodes.add(nodeOfReplica(replica.replica));
    }
    if (role === "voter") voters = nodes.size;
  }
  return { nodes: [...nodes], voters };
}
