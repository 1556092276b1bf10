/**
 * What both ends of `StorageService` and `NodeService` must agree on beside the messages.
 *
 * Builds of different ages speak with each other while a cluster is updated (docs/decisions/0020). The newer
 * side says nothing that the older one would misread: what is new waits for the feature version of the cluster
 * map. So the older side takes a newer one as it is, and the newer one refuses a side that it cannot serve.
 */

/** Raised when a message has another meaning or form; unknown fields are skipped and do not need it. */
export const PROTOCOL_VERSION = 2;
/** The oldest that this build speaks with. Raised to cut off what is older. */
export const PROTOCOL_VERSION_MIN = 2;

export const OPERATE_PATH = "/minikv.v1.StorageService/Operate";
export const GET_STATUS_PATH = "/minikv.v1.StorageService/GetStatus";
export const CHANGES_PATH = "/minikv.v1.ChangesService/Changes";

/** As above, between storage nodes. */
export const NODE_PROTOCOL_VERSION = 1;
export const NODE_PROTOCOL_VERSION_MIN = 1;

export const LINK_PATH = "/minikv.v1.NodeService/Link";
export const SNAPSHOT_PATH = "/minikv.v1.NodeService/Snapshot";

/** What was told is shown, and not all of a stranger's text. */
const SOFTWARE_VERSION_SHOWN_MAX = 32;

/** Why a side is not spoken with; undefined when it is new enough. `who` is the side, with its article. */
export function oldProtocol(
  who: string,
  theirs: { readonly protocolVersion: number; readonly softwareVersion: string },
  least: number,
): string | undefined {
  const { protocolVersion, softwareVersion } = theirs;
  if (protocolVersion >= least) return undefined;
  const build = softwareVersion.slice(0, SOFTWARE_VERSION_SHOWN_MAX);
  return `${who} (minikv ${build}) speaks protocol ${protocolVersion}, and ${least} is the oldest understood here: update ${who}`;
}
