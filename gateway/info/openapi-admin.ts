/** The operators' routes in the OpenAPI document. */
import { NODE_ID_MAX } from "#shared/ids.ts";
import { jsonContent, problem, requestParameters } from "./openapi-parts.ts";

const nodeParameter = {
  name: "id",
  in: "path",
  required: true,
  description: "The node's id",
  schema: { type: "integer", minimum: 1, maximum: NODE_ID_MAX },
} as const;

const vshardParameter = {
  name: "vshard",
  in: "path",
  required: true,
  description: "0 to 255, or `meta` for the group that holds the cluster map",
  schema: { type: "string" },
} as const;

const groupsParameter = {
  name: "groups",
  in: "query",
  description: "1 to list every group with its replicas",
  schema: { enum: ["0", "1"], default: "0" },
} as const;

export function adminPaths() {
  return {
    "/admin/status": { get: statusOperation },
    "/admin/nodes": {
      post: change({
        operationId: "inviteNode",
        summary: "Invite a storage node",
        description:
          "Asks the node at `address`, which runs and belongs to no cluster, to join this one.",
        body: "AdminInvite",
      }),
    },
    "/admin/nodes/{id}": {
      parameters: [nodeParameter],
      delete: change({
        operationId: "removeNode",
        summary: "Remove a node for good",
        description:
          "One that answers must have been drained. One that is dead is taken out as soon as its " +
          "replicas have been rebuilt elsewhere, or their groups been made smaller where there is no " +
          "other node; refused while a quorum needs them.",
      }),
    },
    "/admin/nodes/{id}/drain": {
      parameters: [nodeParameter],
      post: change({
        operationId: "drainNode",
        summary: "Move everything off a node",
        description: "Leaders first, then replicas. `GET /admin/status` shows what is left.",
      }),
      delete: change({
        operationId: "cancelDrain",
        summary: "Stop draining or removing a node",
        description: "What has moved stays where it is.",
      }),
    },
    "/admin/vshards/{vshard}/transfer": {
      parameters: [vshardParameter],
      post: change({
        operationId: "transferLeader",
        summary: "Hand the leadership of a vshard to a node",
        description: "To one that holds a voter of it, and has caught up.",
        body: "AdminTransfer",
      }),
    },
    "/admin/rebalance": {
      post: change({
        operationId: "rebalance",
        summary: "Spread leaders and replicas evenly now",
      }),
    },
  };
}

const statusOperation = {
  operationId: "getClusterStatus",
  summary: "Nodes, leaders, lag, sizes, moves",
  description:
    "As the leader of the meta group knows it. When there is none for 3 s (or `Minikv-Timeout`), what " +
    "this gateway knows by itself, with `source` `gateway` and null for what it cannot know.",
  tags: ["operators"],
  parameters: [groupsParameter, ...requestParameters],
  responses: {
    "200": { description: "The cluster", ...jsonContent("ClusterStatus") },
    "400": problem("INVALID_ARGUMENT"),
    "503": problem("NOT_LEADER, UNAVAILABLE or OVERLOADED, and no map is known"),
  },
};

function change(options: {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly body?: "AdminInvite" | "AdminTransfer";
}) {
  const { operationId, summary, description, body } = options;
  return {
    operationId,
    summary,
    description:
      `${description === undefined ? "" : `${description} `}Answered when it is decided, not when ` +
      "it is carried out. Refused for requests with an `Origin` header.",
    tags: ["operators"],
    parameters: requestParameters,
    ...(body === undefined ? {} : { requestBody: { required: true, ...jsonContent(body) } }),
    responses: {
      "200": { description: "Decided", ...jsonContent("ClusterChange") },
      "400": problem("INVALID_ARGUMENT"),
      "409": problem("CLUSTER_CONFLICT: refused as the cluster is; `detail` has the reason"),
      "415": problem("UNSUPPORTED_MEDIA_TYPE"),
      "503": problem("NOT_LEADER, UNAVAILABLE or OVERLOADED"),
    },
  };
}
