/**
 * The newest cluster map that this node knows, and who wants to hear of newer ones.
 *
 * A map is on disk before anybody acts by it. So after a restart a node never acts by an older map than
 * before, and in particular never creates a replica again that it has destroyed.
 */
import type { ClusterMap } from "#shared/cluster-map.ts";

export type MapListener = (map: ClusterMap) => void;

export class MapHolder {
  readonly #persist: (map: ClusterMap) => Promise<void>;
  readonly #onFatal: (error: unknown) => void;
  readonly #listeners = new Set<MapListener>();
  #current: ClusterMap;
  /** Being written, or waiting to be. */
  #next: ClusterMap | undefined;
  #writing: Promise<void> | undefined;
  #closed = false;

  /** `current` is on disk already. `persist` resolves when a map is. */
  constructor(
    current: ClusterMap,
    persist: (map: ClusterMap) => Promise<void>,
    onFatal: (error: unknown) => void,
  ) {
    this.#current = current;
    this.#persist = persist;
    this.#onFatal = onFatal;
  }

  get current(): ClusterMap {
    return this.#current;
  }

  /** Takes over `map` if it is newer; of several that come while one is written, the newest. */
  offer(map: ClusterMap): void {
    const newest = this.#next ?? this.#current;
    if (map.version <= newest.version || this.#closed) return;
    this.#next = map;
    this.#writing ??= this.#write().catch(this.#onFatal);
  }

  async #write(): Promise<void> {
    while (this.#next !== undefined && !this.#closed) {
      const map = this.#next;
      await this.#persist(map);
      this.#current = map;
      if (this.#next === map) this.#next = undefined;
      if (this.#closed) break;
      for (const listener of [...this.#listeners]) listener(map);
    }
    this.#writing = undefined;
  }

  /** Takes no more maps, and waits for the one that is being written. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
  }

  /** Calls `listener` with each later map; returns a function that ends that. */
  subscribe(listener: MapListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
