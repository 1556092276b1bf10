/**
 * Asks nodes that wait for a cluster into this one, as operators wish: `minikv cluster join`.
 *
 * First the node gets its row in the map, then it is told. What fails in between is never called "not
 * done": either the row is taken out again, or the answer says that it is there. Asking again goes on
 * where the last attempt ended, because a node is known again by its join token.
 */
import { create } from "@bufbuild/protobuf";
import { fromMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type DiscoverResponse,
  type JoinRequest,
  JoinRequestSchema,
  type JoinResponse,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { Failure } from "#proto/gen/minikv/v1/storage_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { replicaOn } from "#shared/cluster-map.ts";
import { errorCodeFromWire, KvError, type WriteOutcome } from "#shared/errors.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import { INVITED_ANSWER_TIMEOUT_MS } from "#shared/limits.ts";
import { toFoundingMessage } from "./founding.ts";
import type { MapHolder } from "./map-holder.ts";
import type { MetaStore } from "./meta-store.ts";
import type { ClusterPeers } from "./peers.ts";

export type InvitationsOptions = {
  readonly store: MetaStore;
  readonly peers: Pick<ClusterPeers, "discover" | "bootstrap">;
  readonly maps: MapHolder;
  readonly clock: Clock;
  /** Gives a node its row in the map. */
  readonly join: (request: JoinRequest) => Promise<JoinResponse>;
};

export type Invited = { readonly nodeId: NodeId; readonly detail: string };

export class Invitations {
  readonly #options: InvitationsOptions;

  constructor(options: InvitationsOptions) {
    this.#options = options;
  }

  /** @throws KvError with its outcome */
  async invite(address: string): Promise<Invited> {
    const { peers, store, join } = this.#options;
    if (!store.leads) throw new KvError("NOT_LEADER", "this node does not lead the meta group");
    const found = await this.#within(address, "not_applied", peers.discover(address));
    if (found.nodeId !== 0) return this.#member(address, found);
    const { zone, host, capacityBytes, joinToken, featureVersion } = found;
    const described = { zone, host, capacityBytes, joinToken, featureVersion };
    const request = { address: found.address, ...described };
    const { failure, nodeId, map } = await join(create(JoinRequestSchema, request));
    if (failure !== undefined) throw failed(failure);
    const id = toNodeId(nodeId);
    const founding = { map: fromMapMessage(map), joinTokens: new Map([[id, joinToken]]) };
    const told = peers.bootstrap(address, toFoundingMessage(founding));
    const answer = await this.#within(address, "unknown", told);
    if (answer.failure !== undefined) return this.#undo(address, id, answer.failure.detail);
    return { nodeId: id, detail: `node ${id} joins` };
  }

  #member(address: string, { nodeId, clusterId }: DiscoverResponse): Invited {
    const { current } = this.#options.maps;
    if (clusterId !== current.clusterId) {
      throw new KvError("CLUSTER_CONFLICT", `${address} belongs to cluster "${clusterId}" already`);
    }
    if (!current.nodes.some(({ id }) => id === nodeId)) {
      const detail =
        `${address} is node ${nodeId}, which was removed from this cluster. Ids are never used ` +
        "again: start it with an empty data directory first";
      throw new KvError("CLUSTER_CONFLICT", detail);
    }
    return { nodeId: toNodeId(nodeId), detail: `${address} is a member already: node ${nodeId}` };
  }

  /** The node will never use its row: it goes again. */
  async #undo(address: string, node: NodeId, why: string): Promise<never> {
    const refusal = `${address} does not take the invitation: ${why}`;
    try {
      await this.#options.store.change((state) => {
        const { map } = state ?? {};
        if (state === undefined || !map?.nodes.some(({ id }) => id === node)) return undefined;
        const isUsed = [...map.placements, map.meta].some((row) => replicaOn(row, node));
        if (isUsed) throw new KvError("CLUSTER_CONFLICT", "it holds replicas already");
        return { state, change: { removedNodes: [node] } };
      });
    } catch (error) {
      const detail = `${refusal}. Its row is left in the map: minikv cluster remove ${node}`;
      throw new KvError("CLUSTER_CONFLICT", detail, { outcome: "unknown", cause: error });
    }
    throw new KvError("CLUSTER_CONFLICT", refusal, { outcome: "not_applied" });
  }

  /** Shorter than whoever asked us waits: a silent node must be named, and not taken for this one. */
  #within<T>(address: string, outcome: WriteOutcome, answer: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const fail = (detail: string, cause?: unknown): void =>
        reject(new KvError("UNAVAILABLE", detail, { outcome, cause }));
      const cancel = this.#options.clock.after(INVITED_ANSWER_TIMEOUT_MS, () =>
        fail(`${address} does not answer within ${INVITED_ANSWER_TIMEOUT_MS} ms`),
      );
      answer.then(
        (value) => {
          cancel();
          resolve(value);
        },
        (error: unknown) => {
          cancel();
          fail(error instanceof Error ? error.message : String(error), error);
        },
      );
    });
  }
}

function failed({ code, detail, notApplied }: Failure): KvError {
  const outcome = notApplied ? "not_applied" : "unknown";
  return new KvError(errorCodeFromWire(code), detail, { outcome });
}
