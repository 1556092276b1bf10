/**
 * Keeps a gateway's cluster map up to date, whatever happens to single storage nodes.
 *
 * It watches the map of one node: one of the seeds, later of all that the map names. When that watch
 * breaks, another node is watched, with back-off. The newest map is kept meanwhile and always: older
 * ones are ignored, and a map of another cluster is refused, because its nodes hold other data under
 * the same keys.
 *
 * A node that is cut off from the others goes on showing the map that it had. So now and then, and when
 * a storage node names one that the map lacks, another node is tried. The watch that works is kept until
 * the other one has delivered.
 */
import { fromMapMessage } from "#proto/codec/cluster-map.ts";
import type { ClusterMap as ClusterMapMessage } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { type ClusterMap, isClusterNamed } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import {
  CLUSTER_CALL_TIMEOUT_MS,
  MAP_WATCH_BACKOFF_MS_MAX,
  MAP_WATCH_BACKOFF_MS_MIN,
  MAP_WATCH_REFRESH_INTERVAL_MS,
  MAP_WATCH_ROTATE_MS,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { WatchMap } from "./cluster-rpc.ts";

export type MapFollowerOptions = {
  /** `host:port` of storage nodes of the cluster; one that answers is enough. */
  readonly seeds: readonly string[];
  /** Name or whole id of the cluster; empty takes the first one found. Its id is then held on to. */
  readonly clusterName: string;
  readonly watch: WatchMap;
  readonly clock: Clock;
  readonly random: Random;
  /** A newer map than any before. */
  readonly onMap: (map: ClusterMap) => void;
  /** A node could not be watched, and why; not repeated while it stays the same. */
  readonly onTrouble: (address: string, reason: string) => void;
};

/** A watch that was opened. */
type Watch = { readonly address: string; cancel: () => void };

export class MapFollower {
  readonly #options: MapFollowerOptions;
  #map: ClusterMap | undefined;
  /** Has delivered a map. */
  #current: Watch | undefined;
  /** Has yet to deliver one. */
  #trial: Watch | undefined;
  #cancelTrialTimer: () => void = () => {};
  #cancelRetry: () => void = () => {};
  #cancelRotation: () => void = () => {};
  #backoffMs = MAP_WATCH_BACKOFF_MS_MIN;
  #lastAddress = "";
  #lastTrialMs = Number.NEGATIVE_INFINITY;
  #problem = "no storage node has been asked for the cluster map yet";
  readonly #troubles = new Map<string, string>();
  #closed = false;

  constructor(options: MapFollowerOptions) {
    this.#options = options;
    const { seeds, random } = options;
    // Gateways that are started alike shall not all hang on the same node.
    this.#lastAddress = seeds[random.below(seeds.length)]!;
  }

  start(): void {
    this.#try();
    this.#rotateLater();
  }

  /** The newest map. */
  get map(): ClusterMap | undefined {
    return this.#map;
  }

  /** Why there is no map yet, for people. */
  get problem(): string {
    return this.#problem;
  }

  /** Where storage nodes are, as far as is known; the seeds first. */
  addresses(): readonly string[] {
    const known = new Set(this.#options.seeds);
    for (const { address } of this.#map?.nodes ?? []) if (address !== "") known.add(address);
    return [...known];
  }

  /** Somebody knows more than the map shows: another node may have a newer one. */
  lookElsewhere(): void {
    const sinceMs = this.#options.clock.monotonicMs() - this.#lastTrialMs;
    if (sinceMs >= MAP_WATCH_REFRESH_INTERVAL_MS) this.#try();
  }

  close(): void {
    this.#closed = true;
    this.#current?.cancel();
    this.#trial?.cancel();
    this.#cancelTrialTimer();
    this.#cancelRetry();
    this.#cancelRotation();
  }

  /** Opens a watch of the next node, unless one is being tried. */
  #try(): void {
    if (this.#closed || this.#trial !== undefined) return;
    const { clock, watch } = this.#options;
    this.#cancelRetry();
    this.#lastTrialMs = clock.monotonicMs();
    const address = this.#nextAddress();
    const trial: Watch = { address, cancel: () => {} };
    this.#trial = trial;
    trial.cancel = watch({
      address,
      clusterId: this.#map?.clusterId ?? "",
      listener: {
        onMap: (message) => this.#receive(trial, message),
        onClosed: (reason) => this.#lost(trial, reason),
      },
    });
    this.#cancelTrialTimer = clock.after(CLUSTER_CALL_TIMEOUT_MS, () => {
      trial.cancel();
      this.#lost(trial, "it sends no cluster map");
    });
  }

  /** Round all known nodes, past the one that is watched when there is another. */
  #nextAddress(): string {
    const addresses = this.addresses();
    const start = addresses.indexOf(this.#lastAddress) + 1;
    for (let i = 0; i < addresses.length; i++) {
      const address = addresses[(start + i) % addresses.length]!;
      if (address === this.#current?.address && addresses.length > 1) continue;
      this.#lastAddress = address;
      return address;
    }
    return this.#lastAddress;
  }

  #receive(watch: Watch, message: ClusterMapMessage | undefined): void {
    if (watch !== this.#trial && watch !== this.#current) return;
    let map: ClusterMap;
    try {
      map = fromMapMessage(message);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#refuse(watch, error.message);
      return;
    }
    if (!this.#isOurs(map)) {
      const ours = this.#map?.clusterId ?? this.#options.clusterName;
      const ids = `"${ours}", that storage node to "${map.clusterId}"`;
      this.#refuse(watch, `the gateway belongs to cluster ${ids}`);
      return;
    }
    if (watch === this.#trial) this.#settle(watch);
    if (this.#map !== undefined && map.version <= this.#map.version) return;
    this.#map = map;
    this.#options.onMap(map);
  }

  #isOurs({ clusterId }: ClusterMap): boolean {
    if (this.#map !== undefined) return clusterId === this.#map.clusterId;
    const { clusterName } = this.#options;
    return clusterName === "" || isClusterNamed(clusterId, clusterName);
  }

  /** The trial works: it takes the place of the watch before it. */
  #settle(trial: Watch): void {
    this.#cancelTrialTimer();
    this.#current?.cancel();
    this.#current = trial;
    this.#trial = undefined;
    this.#backoffMs = MAP_WATCH_BACKOFF_MS_MIN;
    this.#troubles.delete(trial.address);
  }

  #refuse(watch: Watch, reason: string): void {
    watch.cancel();
    this.#lost(watch, reason);
  }

  #lost(watch: Watch, reason: string): void {
    if (this.#closed) return;
    if (watch === this.#trial) {
      this.#trial = undefined;
      this.#cancelTrialTimer();
    } else if (watch === this.#current) {
      this.#current = undefined;
    } else {
      return;
    }
    this.#report(watch.address, reason);
    // With a watch that works there is no hurry: the next rotation tries another node.
    if (this.#current === undefined) this.#retryLater();
  }

  #report(address: string, reason: string): void {
    this.#problem = `no cluster map from storage node ${address}: ${reason}`;
    if (this.#troubles.get(address) === reason) return;
    this.#troubles.set(address, reason);
    this.#options.onTrouble(address, reason);
  }

  #retryLater(): void {
    const { clock, random } = this.#options;
    const delayMs = this.#backoffMs * (0.5 + random.float() / 2);
    this.#backoffMs = Math.min(this.#backoffMs * 2, MAP_WATCH_BACKOFF_MS_MAX);
    this.#cancelRetry();
    this.#cancelRetry = clock.after(delayMs, () => this.#try());
  }

  #rotateLater(): void {
    this.#cancelRotation = this.#options.clock.after(MAP_WATCH_ROTATE_MS, () => {
      this.#try();
      this.#rotateLater();
    });
  }
}
