/** What both ends of `StorageService` and `NodeService` must agree on beside the messages. */

/**
 * Raised when one side may send what the other would misread. Unknown fields are skipped, so a new
 * optional field does not need it; a new kind of operation or result does.
 */
export const PROTOCOL_VERSION = 2;

export const OPERATE_PATH = "/minikv.v1.StorageService/Operate";
export const GET_STATUS_PATH = "/minikv.v1.StorageService/GetStatus";
export const CHANGES_PATH = "/minikv.v1.ChangesService/Changes";

/** As above, between storage nodes: a new kind of Raft message raises it. */
export const NODE_PROTOCOL_VERSION = 1;

export const LINK_PATH = "/minikv.v1.NodeService/Link";
export const SNAPSHOT_PATH = "/minikv.v1.NodeService/Snapshot";
