/**
 * How a node without an identity becomes a member: it founds a cluster together with its seeds, or joins
 * one that exists.
 *
 * A cluster is founded once and only once:
 *
 * - Only the seed whose address sorts first founds, and it writes the founding down before it tells it to
 *   anybody. So there is at most one founding per data directory of that seed.
 * - It founds only when all seeds that are expected answer, have no identity, and were started with the
 *   same seeds and the same number. A seed that was told of an earlier founding has an identity, also
 *   after a restart, and then nobody founds any more; the founder, emptied, would join it.
 * - The others wait to be told. If the founder dies meanwhile, it tells them after its restart, and so does
 *   everybody who was told, until the meta group has its map (`coordinator.ts`). Whoever comes later asks
 *   for it: its join token is in the founding, so it gets the id it was meant to have.
 *
 * A node whose seeds are members joins with a fresh id. Ids are never used again: a node that has lost its
 * data directory is a new node.
 */
import { create } from "@bufbuild/protobuf";
import { fromMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type BootstrapRequest,
  type DiscoverResponse,
  JoinRequestSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { equalBytes } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import {
  type ClusterMap,
  type ClusterNode,
  isClusterNamed,
  NodeState,
  nodesOfPlacement,
} from "#shared/cluster-map.ts";
import { errorCodeFromWire, KvError } from "#shared/errors.ts";
import { FEATURE_VERSION, toldFeatureVersion, tooOldFor } from "#shared/features.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import { type Founding, fromFoundingMessage, toFoundingMessage } from "./founding.ts";
import type { ClusterPeers } from "./peers.ts";
import { initialPlacements } from "./planner.ts";

export type SelfDescription = {
  readonly address: string;
  readonly zone: string;
  readonly host: string;
  readonly capacityBytes: number;
  readonly joinToken: Uint8Array;
  /** Sorted, without duplicates. */
  readonly seeds: readonly string[];
  /** 0: never found, wait for an invitation. */
  readonly bootstrapExpect: number;
};

export type BecomeMemberOptions = {
  readonly self: SelfDescription;
  readonly peers: ClusterPeers;
  readonly clock: Clock;
  /** Of the cluster that this node would found. */
  readonly clusterId: string;
  /** Name or whole id of the cluster that it was started for: it becomes a member of no other. */
  readonly clusterName: string;
  readonly replicationFactor: number;
  readonly metaReplicas: number;
  /** Writes it down, durably, before it resolves. Called once. */
  readonly adopt: (membership: NewMembership) => Promise<void>;
  /** For the log: told when it changes. */
  readonly onWaiting: (reason: string) => void;
};

export type NewMembership = {
  readonly nodeId: NodeId;
  readonly map: ClusterMap;
  readonly founding: Founding | undefined;
};

const RETRY_MS = 200;
/** Nodes that are asked in one attempt to join; the next one begins anew. */
const JOIN_STEPS_MAX = 8;

export class MemberCandidate {
  readonly #options: BecomeMemberOptions;
  readonly #joined = Promise.withResolvers<NewMembership>();
  #adopting: Promise<void> | undefined;
  #adopted: NewMembership | undefined;
  #settled = false;
  #told = "";

  constructor(options: BecomeMemberOptions) {
    this.#options = options;
  }

  /**
   * Tries until the node is a member, which may take as long as the other seeds take to start.
   * @throws KvError INVALID_ARGUMENT or CLUSTER_CONFLICT when it never can be
   */
  async run(): Promise<NewMembership> {
    this.#attempts().catch((error: unknown) => {
      this.#settled = true;
      this.#joined.reject(error);
    });
    return await this.#joined.promise;
  }

  /** Another node tells of the founding, or invites this one. @throws KvError when it is refused */
  async told(request: BootstrapRequest): Promise<void> {
    const founding = fromFoundingMessage(request);
    const { joinToken } = this.#options.self;
    const node = founding.map.nodes.find(({ id }) =>
      equalBytes(founding.joinTokens.get(id)!, joinToken),
    );
    if (node === undefined) {
      throw new KvError("INVALID_ARGUMENT", "the founding does not name this node");
    }
    this.#checkCluster("this node was asked into", founding.map.clusterId);
    checkFeatures(founding.map);
    const isFounding = founding.map.version === 0;
    await this.#adopt({
      nodeId: node.id,
      map: founding.map,
      founding: isFounding ? founding : undefined,
    });
  }

  /** What it took over would be refused at its next start, by its own settings. */
  #checkCluster(who: string, clusterId: string): void {
    const { clusterName } = this.#options;
    if (isClusterNamed(clusterId, clusterName)) return;
    const detail = `${who} cluster "${clusterId}", but it was started for "${clusterName}": correct cluster-id or seeds`;
    throw new KvError("CLUSTER_CONFLICT", detail);
  }

  /** The first membership wins, whoever brings it. */
  async #adopt(membership: NewMembership): Promise<void> {
    if (this.#adopting === undefined) {
      this.#adopted = membership;
      this.#adopting = this.#options.adopt(membership).then(
        () => {
          this.#settled = true;
          this.#joined.resolve(membership);
        },
        (error: unknown) => {
          // Nobody tries again: whoever waits for the membership must hear of it.
          this.#settled = true;
          this.#joined.reject(error);
          throw error;
        },
      );
    }
    await this.#adopting;
    const { clusterId } = this.#adopted!.map;
    if (clusterId !== membership.map.clusterId) {
      throw new KvError("INVALID_ARGUMENT", `this node belongs to cluster "${clusterId}" already`);
    }
  }

  async #attempts(): Promise<void> {
    const { clock } = this.#options;
    while (!this.#settled && this.#adopting === undefined) {
      await this.#attempt();
      await new Promise<void>((resolve) => clock.after(RETRY_MS, resolve));
    }
  }

  async #attempt(): Promise<void> {
    const { self, peers } = this.#options;
    const others = self.seeds.filter((seed) => seed !== self.address);
    const answers = await Promise.allSettled(others.map((seed) => peers.discover(seed)));
    const found: DiscoverResponse[] = [];
    let silent = 0;
    answers.forEach((answer, i) => {
      if (answer.status === "fulfilled") found.push(answer.value);
      else {
        silent++;
        this.#wait(`seed ${others[i]} does not answer`);
      }
    });
    const memberAt = answers.findIndex(isMember);
    if (memberAt >= 0) {
      const { clusterId } = (answers[memberAt] as PromiseFulfilledResult<DiscoverResponse>).value;
      this.#checkCluster(`the seed ${others[memberAt]} of this node belongs to`, clusterId);
      await this.#join(others[memberAt]!);
      return;
    }
    if (self.bootstrapExpect === 0) this.#wait("waiting for an invitation: minikv cluster join");
    else if (self.seeds[0] !== self.address) this.#wait(`waiting for ${self.seeds[0]} to found`);
    else if (silent === 0) await this.#found(found);
  }

  async #found(others: readonly DiscoverResponse[]): Promise<void> {
    const { self, peers } = this.#options;
    if (self.seeds.length !== self.bootstrapExpect) {
      throw new KvError(
        "INVALID_ARGUMENT",
        `bootstrap-expect is ${self.bootstrapExpect}, but seeds names ${self.seeds.length} nodes: ` +
          "to found a cluster, name all its first nodes and no others",
      );
    }
    const refusal = others.map((other) => this.#disagreement(other)).find((why) => why !== "");
    if (refusal !== undefined) {
      this.#wait(refusal);
      return;
    }
    const founding = this.#founding(others);
    const self0 = founding.map.nodes.find(({ address }) => address === self.address)!;
    await this.#adopt({ nodeId: self0.id, map: founding.map, founding });
    const request = toFoundingMessage(founding);
    const told = others.map(({ address }) => peers.bootstrap(address, request));
    // Who misses it now is told again (coordinator.ts), or asks for it (see the head of this module).
    await Promise.allSettled(told);
  }

  #disagreement(other: DiscoverResponse): string {
    const { self } = this.#options;
    if (other.bootstrapExpect !== self.bootstrapExpect) {
      return `${other.address} was started with bootstrap-expect ${other.bootstrapExpect}, this node with ${self.bootstrapExpect}`;
    }
    if (other.seeds.join() !== self.seeds.join()) {
      return `${other.address} was started with other seeds: ${other.seeds.join(", ")}`;
    }
    if (!self.seeds.includes(other.address)) {
      return `a seed calls itself ${other.address}, which is not among the seeds`;
    }
    return "";
  }

  #founding(others: readonly DiscoverResponse[]): Founding {
    const { self, clusterId, replicationFactor, metaReplicas } = this.#options;
    const all = [...others.map(described), self].sort((a, b) => (a.address < b.address ? -1 : 1));
    const nodes = all.map(
      ({ address, zone, host, capacityBytes }, i): ClusterNode => ({
        id: toNodeId(i + 1),
        address,
        zone,
        host,
        state: NodeState.Up,
        capacityBytes,
      }),
    );
    const { placements, meta } = initialPlacements(nodes, { replicationFactor, metaReplicas });
    // Seeds of several builds found a cluster that all of them know.
    const known = others.map((other) => toldFeatureVersion(other.featureVersion));
    const featureVersion = Math.min(FEATURE_VERSION, ...known);
    const map = { clusterId, version: 0, featureVersion, nodes, placements, meta };
    const joinTokens = new Map(all.map(({ joinToken }, i) => [nodes[i]!.id, joinToken]));
    return { map, joinTokens };
  }

  async #join(firstSeed: string): Promise<void> {
    const { self, peers } = this.#options;
    const request = create(JoinRequestSchema, {
      address: self.address,
      zone: self.zone,
      host: self.host,
      capacityBytes: BigInt(self.capacityBytes),
      joinToken: self.joinToken,
      featureVersion: FEATURE_VERSION,
    });
    const next = [firstSeed];
    const asked = new Set<string>([self.address, ""]);
    for (let step = 0; step < JOIN_STEPS_MAX; step++) {
      const address = next.find((known) => !asked.has(known));
      if (address === undefined) return;
      asked.add(address);
      let answer: Awaited<ReturnType<ClusterPeers["join"]>>;
      try {
        answer = await peers.join(address, request);
      } catch (error) {
        this.#wait(`joining through ${address}: ${String(error)}`);
        continue;
      }
      const { failure } = answer;
      const map = fromMapMessage(answer.map);
      if (failure === undefined) {
        checkFeatures(map);
        await this.#adopt({ nodeId: toNodeId(answer.nodeId), map, founding: undefined });
        return;
      }
      const code = errorCodeFromWire(failure.code);
      if (code === "INVALID_ARGUMENT" || code === "CLUSTER_CONFLICT") {
        throw new KvError(code, failure.detail);
      }
      this.#wait(`joining through ${address}: ${failure.detail}`);
      // Whoever has no replica of the meta group knows no leader of it, but who its members are.
      const addressOf = (node: number): string =>
        map.nodes.find(({ id }) => id === node)?.address ?? "";
      next.unshift(addressOf(failure.leaderNodeId));
      next.push(...nodesOfPlacement(map.meta).map(addressOf));
    }
  }

  #wait(reason: string): void {
    if (reason === this.#told) return;
    this.#told = reason;
    this.#options.onWaiting(reason);
  }
}

/** @throws KvError CLUSTER_CONFLICT when the cluster uses what this build does not know */
export function checkFeatures(map: Pick<ClusterMap, "featureVersion">): void {
  const refusal = tooOldFor(map, FEATURE_VERSION, "this storage node");
  if (refusal !== undefined) throw new KvError("CLUSTER_CONFLICT", refusal);
}

const isMember = (answer: PromiseSettledResult<DiscoverResponse>): boolean =>
  answer.status === "fulfilled" && answer.value.nodeId !== 0;

const described = (other: DiscoverResponse) => ({
  address: other.address,
  zone: other.zone,
  host: other.host,
  capacityBytes: Number(other.capacityBytes),
  joinToken: other.joinToken,
});
