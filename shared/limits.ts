/**
 * Every bound of the system, in one place, unit last.
 *
 * A limit that a client can meet is also shown by `GET /v1/limits` and in `docs/errors.md`.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

// Keys and values.
export const KEY_SIZE_BYTES_MIN = 1;
export const KEY_SIZE_BYTES_MAX = 1024;
export const VALUE_SIZE_BYTES_MAX = 1 * MiB;
export const CONTENT_TYPE_SIZE_BYTES_MAX = 256;
/** One hundred years. */
export const TTL_MS_MAX = 100 * 365 * 24 * 3600 * 1000;

// Requests.
export const REQUEST_ID_SIZE_BYTES = 16;
export const DEADLINE_MS_DEFAULT = 10_000;
/** Also the horizon after which a dedupe row may be dropped (in log time). */
export const DEADLINE_MS_MAX = 60_000;
export const HTTP_URL_SIZE_BYTES_MAX = 8 * KiB;
export const HTTP_HEADERS_SIZE_BYTES_MAX = 16 * KiB;
export const HTTP_HEADERS_TIMEOUT_MS = 10_000;
export const HTTP_REQUEST_TIMEOUT_MS = 30_000;
export const HTTP_KEEP_ALIVE_TIMEOUT_MS = 65_000;
export const HTTP_CONNECTIONS_MAX = 20_000;
/** Bytes of request bodies a gateway holds at once; more is refused with 503. */
export const GATEWAY_BODY_BYTES_IN_FLIGHT_MAX = 256 * MiB;

// Gateway to storage.
export const STREAM_OPERATIONS_PER_BATCH_MAX = 512;
export const STREAM_BATCH_SIZE_BYTES_SOFT_MAX = 1 * MiB;
export const STREAM_MESSAGE_SIZE_BYTES_MAX = 16 * MiB;
export const STREAM_WINDOW_OPERATIONS_MAX = 16_384;
export const STREAM_WINDOW_BYTES_MAX = 64 * MiB;

// Raft.
export const TICK_MS = 100;
export const ELECTION_TICKS_MIN = 10;
export const ELECTION_TICKS_MAX = 20;
export const HEARTBEAT_TICKS = 1;
export const INFLIGHT_MESSAGES_MAX = 256;
export const INFLIGHT_BYTES_MAX = 16 * MiB;
export const APPEND_MESSAGE_BYTES_MAX = 1 * MiB;
/** Proposed and not yet committed, per group; more is refused. */
export const UNCOMMITTED_BYTES_MAX = 64 * MiB;
export const ENTRY_SIZE_BYTES_MAX = 4 * MiB;
export const COMMANDS_PER_ENTRY_MAX = 512;
export const PROPOSALS_PENDING_PER_GROUP_MAX = 8192;
export const PROPOSALS_PENDING_BYTES_MAX = 128 * MiB;

// Write-ahead log.
export const WAL_SEGMENT_SIZE_BYTES_DEFAULT = 64 * MiB;
export const WAL_SEGMENT_SIZE_BYTES_MIN = 1 * MiB;
export const WAL_BATCH_SIZE_BYTES_MAX = 32 * MiB;
/** Entries kept in memory and in segments for stragglers, over all groups of a node. */
export const LOG_RETAINED_BYTES_MAX = 32 * MiB;
/** Entries kept behind the applied index by each group while memory allows. */
export const LOG_RETAINED_ENTRIES_PER_GROUP = 1024;

// State machine.
/** Revisions of a vshard that the change log keeps at least. */
export const CHANGE_LOG_REVISIONS_KEPT = 65_536;
export const EXPIRY_SWEEP_INTERVAL_MS = 1_000;
export const EXPIRY_KEYS_PER_COMMAND_MAX = 128;

// Processes.
export const SHUTDOWN_TIMEOUT_MS = 30_000;
/** Free disk space below which writes are refused with STORAGE_FULL. */
export const DISK_RESERVE_BYTES_DEFAULT = 256 * MiB;
export const DISK_CHECK_INTERVAL_MS = 500;
