/** The cluster of the all-in-one: one node, which leads everything, and nothing to change. */
import { create } from "@bufbuild/protobuf";
import type { ClusterHandler } from "#gateway/cluster/port-cluster-rpc.ts";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  ChangeClusterResponseSchema,
  GetClusterStatusResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { ERRORS } from "#shared/errors.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { StorageNode } from "#storage-node/node.ts";

export function soloCluster(node: StorageNode): ClusterHandler {
  const { nodeId, clusterId } = node.status();
  const self = {
    id: nodeId,
    address: "",
    zone: "",
    host: "",
    state: NodeState.Up,
    capacityBytes: 0,
  };
  const map = fullyReplicatedMap(clusterId, [self]);
  const replicaId = BigInt(nodeId);
  const groups = [...map.placements, map.meta].map(({ group }) => ({
    group,
    replicaId,
    leaderReplicaId: replicaId,
    voters: [replicaId],
  }));
  return {
    status: async () => {
      const { writable } = node.status();
      const report = { clusterId, nodeId, groups, writable, softwareVersion: VERSION };
      return create(GetClusterStatusResponseSchema, {
        map: toMapMessage(map),
        nodes: [{ report }],
        metaLeaderNodeId: nodeId,
      });
    },
    change: async () => {
      const detail = "the all-in-one is a cluster of one node, which has to do everything";
      const failure = { code: ERRORS.CONFLICT.wire, detail, notApplied: true };
      return create(ChangeClusterResponseSchema, { failure });
    },
  };
}
