/**
 * Which storage node is asked for a vshard: the one that last proved or was said to lead it, at
 * first the one that the cluster map prefers.
 */
import { type ClusterMap, type ClusterNode, nodesOfPlacement } from "#shared/cluster-map.ts";
import type { NodeId, VshardId } from "#shared/ids.ts";
import type { Channel, Readiness } from "./channel.ts";

export class Router {
  readonly #map: ClusterMap;
  readonly #channels = new Map<NodeId, Channel>();
  /** By vshard. */
  readonly #leaders: NodeId[];

  constructor(map: ClusterMap, connect: (node: ClusterNode) => Channel) {
    this.#map = map;
    for (const node of map.nodes) this.#channels.set(node.id, connect(node));
    this.#leaders = map.placements.map((placement) => placement.preferredLeader);
  }

  leaderOf(vshard: VshardId): NodeId {
    return this.#leaders[vshard]!;
  }

  /** Undefined when the cluster map does not know the node. */
  channelTo(node: NodeId): Channel | undefined {
    return this.#channels.get(node);
  }

  /** `node` says that `leader` leads. Returns whether that is another node, and one we can ask. */
  redirect(vshard: VshardId, node: NodeId, leader: NodeId): boolean {
    if (leader === node || !this.#channels.has(leader)) return false;
    // Another call may have learned of a later leader since; then that one is asked next.
    if (this.#leaders[vshard] === node) this.#leaders[vshard] = leader;
    return true;
  }

  /** `node` does not lead or cannot be reached: the next replica is asked next. */
  passOver(vshard: VshardId, node: NodeId): void {
    if (this.#leaders[vshard] !== node) return;
    const nodes = nodesOfPlacement(this.#map.placements[vshard]!);
    const next = nodes[(nodes.indexOf(node) + 1) % nodes.length];
    if (next !== undefined) this.#leaders[vshard] = next;
  }

  /** Ready when every vshard has a replica that can be asked. */
  readiness(): Readiness {
    for (const placement of this.#map.placements) {
      let reason = `no replica of vshard ${placement.group} is known`;
      let reachable = false;
      for (const node of nodesOfPlacement(placement)) {
        const readiness = this.#channels.get(node)?.readiness();
        if (readiness?.ready) reachable = true;
        else if (readiness) reason = readiness.reason;
      }
      if (!reachable) return { ready: false, reason };
    }
    return { ready: true, reason: "" };
  }

  async close(timeoutMs: number): Promise<void> {
    await Promise.all([...this.#channels.values()].map((channel) => channel.close(timeoutMs)));
  }
}
