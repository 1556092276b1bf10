/**
 * With what a cluster begins: its first map, and the join tokens of its founders. All founders have the
 * same, on disk, before they have an identity; whoever of them first leads the meta group writes it there.
 */
import { create } from "@bufbuild/protobuf";
import { fromMapMessage, toMapMessage } from "#proto/codec/cluster-map.ts";
import { type BootstrapRequest, BootstrapRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { type ClusterMap, fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import type { SelfDescription } from "./bootstrap.ts";

export type Founding = {
  readonly map: ClusterMap;
  readonly joinTokens: ReadonlyMap<NodeId, Uint8Array>;
};

export function toFoundingMessage({ map, joinTokens }: Founding): BootstrapRequest {
  return create(BootstrapRequestSchema, {
    map: toMapMessage(map),
    joinTokens: map.nodes.map(({ id }) => joinTokens.get(id) ?? EMPTY_BYTES),
  });
}

/** @throws KvError DATA_CORRUPT when it holds no whole map. */
export function fromFoundingMessage(message: BootstrapRequest): Founding {
  const map = fromMapMessage(message.map);
  return {
    map,
    joinTokens: new Map(map.nodes.map(({ id }, i) => [id, message.joinTokens[i] ?? EMPTY_BYTES])),
  };
}

/** The membership of a node that is a cluster of its own, and can be joined by others later. */
export function soloMembership(
  nodeId: NodeId,
  clusterId: string,
  self: Pick<SelfDescription, "address" | "zone" | "host" | "capacityBytes" | "joinToken">,
): { readonly nodeId: NodeId; readonly map: ClusterMap; readonly founding: Founding } {
  const { address, zone, host, capacityBytes, joinToken } = self;
  const node = { id: nodeId, address, zone, host, state: NodeState.Up, capacityBytes };
  const map = fullyReplicatedMap(clusterId, [node]);
  return { nodeId, map, founding: { map, joinTokens: new Map([[nodeId, joinToken]]) } };
}
