/**
 * How a node hears of new maps when it does not see the meta group's changes itself: it watches the map
 * of other nodes, one at a time, those first that are members of the meta group by the map known here.
 *
 * The node watched may itself be cut off, or may be watching this one, so that neither would ever hear
 * of anything. So each is watched for a while only, then the next. A node never watches its own address,
 * which may also be that of an earlier node whose disk was lost there.
 */
import type { Clock } from "#shared/clock.ts";
import { nodesOfPlacement } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import { MAP_WATCH_ROTATE_MS } from "#shared/limits.ts";
import type { MapHolder } from "./map-holder.ts";
import type { ClusterPeers } from "./peers.ts";

/** Between attempts to watch another node. */
const RETRY_MS = 500;

export type MapWatchOptions = {
  readonly nodeId: NodeId;
  /** Of this node. */
  readonly address: string;
  readonly maps: MapHolder;
  readonly peers: Pick<ClusterPeers, "watchMap">;
  readonly clock: Clock;
};

export class MapWatch {
  readonly #options: MapWatchOptions;
  #stopWatching: (() => void) | undefined;
  #nextMs = 0;
  #watched = 0;

  constructor(options: MapWatchOptions) {
    this.#options = options;
  }

  /** To be called often, as long as the map must be heard of from others. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs < this.#nextMs) return;
    this.stop();
    this.#nextMs = nowMs + RETRY_MS;
    const target = this.#nextAddress();
    if (target !== undefined) this.#watch(target);
  }

  stop(): void {
    this.#stopWatching?.();
    this.#stopWatching = undefined;
    this.#nextMs = 0;
  }

  #nextAddress(): string | undefined {
    const { maps, nodeId, address } = this.#options;
    const { nodes, meta } = maps.current;
    const order = new Set([...nodesOfPlacement(meta), ...nodes.map(({ id }) => id)]);
    order.delete(nodeId);
    const addresses = [...order]
      .map((id) => nodes.find((node) => node.id === id)?.address ?? "")
      .filter((other) => other !== "" && other !== address);
    return addresses[this.#watched++ % Math.max(1, addresses.length)];
  }

  #watch(address: string): void {
    const { maps, peers, clock } = this.#options;
    let ended = false;
    const stop = peers.watchMap(address, maps.current.clusterId, {
      onMap: (map) => maps.offer(map),
      onEnd: () => {
        ended = true;
        if (this.#stopWatching !== stop) return;
        this.#stopWatching = undefined;
        this.#nextMs = clock.monotonicMs() + RETRY_MS;
      },
    });
    // It may have ended at once; then the next one comes after the usual pause.
    if (ended) return;
    this.#stopWatching = stop;
    this.#nextMs = clock.monotonicMs() + MAP_WATCH_ROTATE_MS;
  }
}
