/** What the HTTP side sees of the cluster: its operators' door, and what this gateway knows itself. */
import type { ClusterMap } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import type { ClusterAdmin } from "./cluster-admin.ts";

export type ClusterView = {
  readonly admin: ClusterAdmin;
  /** The newest map known here. */
  readonly map: () => ClusterMap | undefined;
  /** Whether this gateway's stream to the node is up. */
  readonly isReachable: (node: NodeId) => boolean;
};
