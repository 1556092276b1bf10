/** Bounds of the bus (NATS), unit last; the others are in `limits.ts`. */
const KiB = 1024;
const MiB = 1024 * KiB;

export const BUS_SERVERS_MAX = 16;
/** Of a server, until it has greeted and let this client in. */
export const BUS_CONNECT_TIMEOUT_MS = 5_000;
export const BUS_BACKOFF_MS_MIN = 100;
export const BUS_BACKOFF_MS_MAX = 2_000;
/** A connection that lasted so long was a good one: the next is tried at once again. */
export const BUS_STABLE_AFTER_MS = 10_000;
/** The server is asked so often whether it still takes what is sent, and cut when it does not answer. */
export const BUS_PING_INTERVAL_MS = 2_000;
export const BUS_ANSWER_TIMEOUT_MS = 6_000;
/** Sent and not yet known to be taken by the server. Beyond it messages are dropped. */
export const BUS_WAITING_BYTES_MAX = 8 * MiB;
/** After so many bytes the server is asked whether it has them. */
export const BUS_ACKNOWLEDGE_BYTES = 64 * KiB;
/** What a message costs beside its payload and its subject, roughly. */
export const BUS_MESSAGE_OVERHEAD_BYTES = 32;
/** Of a message, unless the server takes less. Far below its usual 1 MiB: others share the connection. */
export const BUS_MESSAGE_BYTES_MAX = 256 * KiB;
/** For what has been sent to leave this process, when it ends. */
export const BUS_CLOSE_TIMEOUT_MS = 2_000;
/** Different reasons of one outage that are told; the same is told once. */
export const BUS_REASONS_TOLD_MAX = 8;
export const BUS_REASON_LENGTH_MAX = 300;
export const BUS_SECRET_BYTES_MAX = 16 * KiB;
/** Of keys that seal messages: the one in use, and those of a rotation. */
export const BUS_SEAL_KEYS_MAX = 8;
/** Senders whose key is kept; each process has one. */
export const BUS_SENDERS_KEPT_MAX = 256;

/** Each node tells the newest revisions of what it leads. */
export const BUS_HEADS_INTERVAL_MS = 1_000;
export const BUS_CHANGES_PER_MESSAGE_MAX = 1_000;
/** Of a node, until the end of its turn. Beyond it they are dropped. */
export const BUS_CHANGES_PER_TURN_MAX = 20_000;
/** Until the cluster's id is known: it is the gateway's first answer from a storage node. */
export const BUS_CLUSTER_POLL_MS = 100;
/** Whoever sends what is of no use decides how often; the log does not. */
export const BUS_MALFORMED_TOLD_INTERVAL_MS = 60_000;
