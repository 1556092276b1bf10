/** A node that is a cluster of its own: the all-in-one, and a storage node without seeds. */
import { KvError } from "#shared/errors.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import {
  META_REPLICAS_DEFAULT,
  MOVES_AT_ONCE_MAX,
  NODE_REBUILD_AFTER_MS_DEFAULT,
  REPLICATION_FACTOR_DEFAULT,
} from "#shared/limits.ts";
import { soloMembership } from "./meta/founding.ts";
import type { ClusterPeers } from "./meta/peers.ts";
import {
  type ClusterOptions,
  type OpenNode,
  type OpenNodeOptions,
  openStorageNode,
} from "./open-node.ts";
import { soloTransport } from "./transport/transport.ts";

export const CLUSTER_DEFAULTS: ClusterOptions = {
  replicationFactor: REPLICATION_FACTOR_DEFAULT,
  metaReplicas: META_REPLICAS_DEFAULT,
  movesAtOnceMax: MOVES_AT_ONCE_MAX,
  rebuildAfterMs: NODE_REBUILD_AFTER_MS_DEFAULT,
};

const alone = (): never => {
  throw new KvError("UNAVAILABLE", "this node is alone: it knows of no other");
};

const NO_PEERS: ClusterPeers = {
  discover: async () => alone(),
  bootstrap: async () => alone(),
  join: async () => alone(),
  report: async () => alone(),
  watchMap: () => alone(),
  keepOnly: () => {},
  close: () => {},
};

export type OpenSoloOptions = Omit<
  OpenNodeOptions,
  "becomeMember" | "describe" | "connect" | "cluster" | "onPlan" | "onRemoved"
> & {
  readonly nodeId: NodeId;
};

/** It has no address: nobody can join it. */
export function openSoloNode(options: OpenSoloOptions): Promise<OpenNode> {
  const { clusterId, random, nodeId } = options;
  const describe: OpenNodeOptions["describe"] = ({ joinToken }) => ({
    address: "",
    zone: "",
    host: "",
    capacityBytes: 0,
    joinToken,
    seeds: [],
    bootstrapExpect: 1,
  });
  return openStorageNode({
    ...options,
    cluster: CLUSTER_DEFAULTS,
    describe,
    becomeMember: async (directory) => {
      const id = clusterId ?? random.fill(new Uint8Array(16)).toHex();
      await directory.adopt(soloMembership(toNodeId(nodeId), id, describe(directory)));
    },
    connect: () => ({ transport: soloTransport(), peers: NO_PEERS }),
    onPlan: () => {},
    onRemoved: () => {},
  });
}
