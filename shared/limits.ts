/**
 * Every bound of the system, in one place, unit last.
 *
 * A limit that a client can meet is also shown by `GET /v1/limits` and in `docs/errors.md`.
 */
import { TENANT_SILENCE_MS_MAX } from "./edge-limits.ts";

export * from "./edge-limits.ts";
export * from "./limits-bus.ts";
export * from "./limits-changes.ts";
export * from "./limits-feed.ts";
export * from "./limits-http2.ts";
export * from "./limits-telemetry.ts";
export * from "./limits-traces.ts";

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
/** How far the clocks of two machines may differ before requests between them are refused. */
export const CLOCK_SKEW_MS_MAX = 60_000;
/** Also the horizon after which a dedupe row may be dropped (in log time). */
export const DEADLINE_MS_MAX = 60_000;
export const HTTP_URL_SIZE_BYTES_MAX = 8 * KiB;
export const HTTP_HEADERS_SIZE_BYTES_MAX = 16 * KiB;
export const HTTP_HEADERS_TIMEOUT_MS = 10_000;
export const HTTP_REQUEST_TIMEOUT_MS = 30_000;
export const HTTP_KEEP_ALIVE_TIMEOUT_MS = 65_000;
export const HTTP_CONNECTIONS_MAX = 20_000;
/** How often connections are checked against the two timeouts above. */
export const HTTP_CONNECTIONS_CHECK_INTERVAL_MS = 1_000;
/** A socket on which nothing moves for so long is cut: a client that does not read its answer. */
export const HTTP_SOCKET_STALL_TIMEOUT_MS = 90_000;
/** Requests of one connection that wait for the one before them; more are refused with 503. */
export const HTTP_PIPELINED_REQUESTS_MAX = 32;
/** After an answer that came before the end of a large body, so much more is read and dropped. */
export const HTTP_LINGER_BYTES_MAX = 16 * MiB;
export const HTTP_LINGER_TIMEOUT_MS = 1_000;
/** While closing, idle connections stay open so long for requests that were already sent. */
export const HTTP_CLOSE_GRACE_MS = 250;
export const HTTP_REQUEST_ID_SIZE_BYTES_MAX = 128;
/** From a connection's first byte to the end of its TLS handshake. */
export const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;
/** Between two looks at files that may be replaced while a process runs. */
export const FILE_WATCH_INTERVAL_MS = 3_000;
/** What a browser remembers of a host that speaks TLS. */
export const HSTS_MAX_AGE_SECONDS = 31_536_000;
/** How long a browser may keep the answer to a preflight request. */
export const CORS_MAX_AGE_SECONDS = 600;
export const CORS_ORIGINS_MAX = 64;
/** Bound of `consistency=stale` when the client names none, and the largest it may name. */
export const STALENESS_MS_DEFAULT = 5_000;
export const STALENESS_MS_MAX = 3600 * 1000;
/** Bytes of request bodies a gateway holds at once; more is refused with 503. */
export const GATEWAY_BODY_BYTES_IN_FLIGHT_MAX = 256 * MiB;
/** Bytes of values that clients have asked for and not yet taken; more is refused with 503. */
export const GATEWAY_ANSWER_BYTES_IN_FLIGHT_MAX = 256 * MiB;
/** Answers up to here are not counted: what they can add up to is bounded by the connections. */
export const GATEWAY_ANSWER_COUNTED_BYTES_MIN = 8 * KiB;

// Batches and scans of clients.
export const BATCH_OPERATIONS_MAX = 1_000;
export const BATCH_BODY_SIZE_BYTES_MAX = 8 * MiB;
/** Values that one batch reads, together; what is read beyond them is refused. */
export const BATCH_READ_BYTES_MAX = 16 * MiB;
/** Reads of one batch that are on their way: bounds what large values claim at once. */
export const BATCH_READS_IN_FLIGHT_MAX = 128;
/** Keys in one page of a scan. */
export const SCAN_LIMIT_DEFAULT = 100;
export const SCAN_LIMIT_MAX = 1_000;
/** Keys and values of one page; it ends early beyond them, but has at least one key. */
export const SCAN_PAGE_BYTES_MAX = 4 * MiB;
/** The same for what a streamed scan sends at once. */
export const SCAN_CHUNK_ROWS_MAX = 1_000;
export const SCAN_CHUNK_BYTES_MAX = 512 * KiB;
/** Streamed scans of one gateway at the same time; more are refused with 503. */
export const SCAN_STREAMS_MAX = 32;

// Gateway to storage.
export const STREAM_OPERATIONS_PER_BATCH_MAX = 512;
export const STREAM_BATCH_SIZE_BYTES_SOFT_MAX = 1 * MiB;
export const STREAM_MESSAGE_SIZE_BYTES_MAX = 16 * MiB;
export const STREAM_WINDOW_OPERATIONS_MAX = 16_384;
export const STREAM_WINDOW_BYTES_MAX = 64 * MiB;
/** A gateway that opens a stream of operations or of changes says hello within this time. */
export const STREAM_HELLO_TIMEOUT_MS = 5_000;
/** Streams of operations of a node at the same time; more are refused. A gateway needs one. */
export const OPERATE_STREAMS_MAX = 1_024;
/** Between attempts to open a stream, doubled each time and jittered. */
export const STREAM_RECONNECT_BACKOFF_MS_MIN = 50;
export const STREAM_RECONNECT_BACKOFF_MS_MAX = 500;
/**
 * While operations wait for answers, a stream is looked at this often. Looks are counted, not time: a
 * process that was itself held up sees one look, and then what has arrived meanwhile.
 */
export const STREAM_SILENCE_CHECK_MS = 250;
/** After so many looks without a message, the peer is asked whether it is there. */
export const STREAM_SILENT_CHECKS_BEFORE_PROBE = 2;
/** After so many, the stream is given up. */
export const STREAM_SILENT_CHECKS_MAX = 4;
/** What is in flight to a node that has left or moved gets so long to be answered. */
export const STREAM_DRAIN_MS = 5_000;
/** Operations that wait for the end of the gateway's turn when the node is another thread. */
export const PORT_OPERATIONS_GATHERED_MAX = 16;
/** Bytes of messages between two threads that the receiver has not taken yet. */
export const PORT_BYTES_UNDER_WAY_MAX = 4 * MiB;
/** List elements in one message from a peer: bounds the memory that a small message can claim. */
export const DECODED_ELEMENTS_MAX = 1024 * 1024;
/**
 * What clients give to the mutations of one command (keys, values, types, revisions of conditions) with
 * 64 bytes for each mutation: it must fit one entry and one message.
 */
export const COMMAND_SIZE_BYTES_MAX = 2 * MiB;
/** Mutations of one command. */
export const MUTATIONS_PER_COMMAND_MAX = 1024;
/** Revisions in one condition, in each of its two lists. */
export const CONDITION_REVISIONS_MAX = 256;
/** Rows and bytes of values in the answer to one step of a scan, so that it fits one message. */
export const SCAN_STEP_ROWS_MAX = 1_024;
export const SCAN_STEP_VALUE_BYTES_MAX = 1 * MiB;
/** Calls that a gateway has waiting for storage, in flight or between retries. */
export const STORAGE_CALLS_MAX = 32_768;
/** Of them those of scans that ask all vshards at once; further ones wait in line. */
export const SCAN_CALLS_MAX = 4_096;
/** And those of scans that know their vshard, which have a line of their own. */
export const SCAN_CALLS_OF_ONE_VSHARD_MAX = 256;
/** Values that a scan reads by themselves at the same time: so many, or as many as it has calls. */
export const SCAN_VALUES_AT_ONCE_MIN = 8;
/** Scans that wait in line; more are refused with 503. */
export const SCANS_WAITING_MAX = 1_024;
/** Bytes of values that a gateway asks for with one round of steps over all vshards. */
export const SCAN_ROUND_VALUE_BYTES_MAX = 2 * MiB;
/**
 * Of these calls and of their keys and values, how much may be between two attempts. Calls for vshards
 * without a leader gather there; the bound keeps them from using up what all others need.
 */
export const STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX = 8_192;
export const STORAGE_BYTES_BETWEEN_ATTEMPTS_MAX = 64 * MiB;
/** Between retries of the gateway, doubled each time and jittered; longer when many calls wait. */
export const STORAGE_RETRY_BACKOFF_MS_MIN = 5;
export const STORAGE_RETRY_BACKOFF_MS_MAX = 100;
/** Of all calls of a gateway together. */
export const STORAGE_RETRIES_PER_SECOND_MAX = 10_000;
/** A replica that does not answer a stale read for so long is given up for the next one. */
export const STORAGE_STALE_ATTEMPT_MS_MAX = 1_000;
/** How exactly the gateway keeps deadlines and retry times. */
export const STORAGE_TIMER_GRANULARITY_MS = 10;

// Gateway and cluster.
/** Between attempts to follow the cluster map, doubled each time and jittered. */
export const MAP_WATCH_BACKOFF_MS_MIN = 50;
export const MAP_WATCH_BACKOFF_MS_MAX = 500;
/** The map is asked of another node this often: one that is cut off from the rest knows no news. */
export const MAP_WATCH_ROTATE_MS = 10_000;
/** Between two changes of the node that is asked, when storage knows of more than the map shows. */
export const MAP_WATCH_REFRESH_INTERVAL_MS = 250;
/** Gateways and nodes that watch the map of one node at the same time; more are refused. */
export const MAP_WATCHERS_MAX = 4_096;
/** Of a request that changes the cluster. */
export const ADMIN_BODY_SIZE_BYTES_MAX = 4 * KiB;
/** Operators' requests at once. */
export const ADMIN_CALLS_MAX = 64;
/** After it the status is made of what the gateway knows itself. */
export const ADMIN_STATUS_TIMEOUT_MS_DEFAULT = 3_000;

// Deletion of tenants; the rest of the edge is in `edge-limits.ts`.
/**
 * So long after its deletion a tenant's keys are looked for, until none is found. What a gateway has let
 * in before it heard of the deletion (at the latest after `TENANT_SILENCE_MS_MAX`) is stored by its
 * deadline or never, by clocks that differ by `CLOCK_SKEW_MS_MAX`.
 */
export const TENANT_DELETION_WAIT_MS = TENANT_SILENCE_MS_MAX + DEADLINE_MS_MAX + CLOCK_SKEW_MS_MAX;

// Raft.
export const TICK_MS = 100;
export const ELECTION_TICKS_MIN = 10;
export const ELECTION_TICKS_MAX = 20;
export const HEARTBEAT_TICKS = 2;
/** Voters and learners of one Raft group. */
export const GROUP_MEMBERS_MAX = 32;
export const INFLIGHT_MESSAGES_MAX = 256;
export const INFLIGHT_BYTES_MAX = 16 * MiB;
export const APPEND_MESSAGE_BYTES_MAX = 1 * MiB;
/** Proposed and not yet committed, per group; more is refused. */
export const UNCOMMITTED_BYTES_MAX = 64 * MiB;
/** Committed entries handed out for applying at once: bounds one engine batch after a restart. */
export const READY_COMMITTED_BYTES_MAX = 8 * MiB;
/** Linearizable reads that wait for confirmation, per group; more is refused. */
export const READS_PENDING_PER_GROUP_MAX = 8192;
/** A read that no quorum confirms, or that a follower cannot serve, for so long is to be asked again. */
export const READ_WAIT_MS_MAX = 2_000;
/** A log batch that takes longer: its node gives up the lead of groups that go on elsewhere. */
export const DISK_HANG_MS = 3_000;
/** Steps of scans that wait for their turn on a node; more are refused. */
export const SCAN_STEPS_PENDING_MAX = 16_384;
/** After so long, or so many rows, a step that found too little is cut short, to be gone on with. */
export const SCAN_STEP_MS_MAX = 2;
export const SCAN_STEP_ROWS_READ_MAX = 2_048;
/** Scans run so long before whatever else a node has to do gets its turn. */
export const SCAN_SLICE_MS_MAX = 4;
/** Rows that confirmed reads of one group fetch at once: bounds what large values claim. */
export const READS_PER_FETCH_MAX = 128;
export const ENTRY_SIZE_BYTES_MAX = 4 * MiB;
export const COMMANDS_PER_ENTRY_MAX = 512;
export const PROPOSALS_PENDING_PER_GROUP_MAX = 8192;
export const PROPOSALS_PENDING_BYTES_MAX = 128 * MiB;

// Cluster.
/** Voters that a vshard gets, where there are so many nodes. */
export const REPLICATION_FACTOR_DEFAULT = 3;
/** Voters of the meta group, where there are so many nodes. */
export const META_REPLICAS_DEFAULT = 3;
export const CLUSTER_NODES_MAX = 1_000;
/** Between two reports of a storage node to the meta group's leader. */
export const NODE_REPORT_INTERVAL_MS = 500;
/** Without a report for so long, a node counts as not answering. */
export const NODE_SILENT_MS = 3_000;
/** Not answering for so long, its replicas are rebuilt elsewhere. */
export const NODE_REBUILD_AFTER_MS_DEFAULT = 10 * 60_000;
/** Between two looks of the meta group's leader at what should move. */
export const PLAN_INTERVAL_MS = 500;
/** Replicas on their way from one node to another, in the whole cluster. */
export const MOVES_AT_ONCE_MAX = 4;
/** Nodes that differ by less in bytes are as good as even: a copy of a replica is not worth it. */
export const BALANCE_BYTES_MIN = 64 * MiB;
/** A node filled so far gets no further replicas. */
export const NODE_FILL_PERCENT_MAX = 85;
/** Nodes may differ by so many leaders before any of them is moved. */
export const LEADERS_UNEVEN_MAX = 3;
/** Leaderships that one node hands over within a tick. */
export const LEADER_TRANSFERS_AT_ONCE_MAX = 16;
/**
 * Until a replica is handed leadership to again after that has failed; doubles each time. All other voters
 * can be tried meanwhile.
 */
export const LEADER_TRANSFER_RETRY_MS_MIN = 5_000;
export const LEADER_TRANSFER_RETRY_MS_MAX = 60_000;
/** A learner that is at most so many entries behind may become a voter. */
export const CAUGHT_UP_ENTRIES_MAX = 256;

/** Of one call to a node about the cluster itself. */
export const CLUSTER_CALL_TIMEOUT_MS = 2_000;
/** Of one to a node that is invited, while a gateway waits for the whole as above. */
export const INVITED_ANSWER_TIMEOUT_MS = 700;

// Directory: what gateways must know at once, as rows of the meta group.
export const DIRECTORY_NAME_SIZE_BYTES_MAX = 256;
export const DIRECTORY_VALUE_SIZE_BYTES_MAX = 16 * KiB;
/** Rows that one request changes together. */
export const DIRECTORY_MUTATIONS_MAX = 64;
/** Of the whole directory, which the leader of the meta group and every gateway hold in memory. */
export const DIRECTORY_ROWS_MAX = 100_000;
export const DIRECTORY_BYTES_MAX = 64 * MiB;
/** Gateways that follow it at the same time; more are refused. */
export const DIRECTORY_FOLLOWERS_MAX = 256;
/** The leader says something at least this often, and so does a gateway. */
export const DIRECTORY_HEARTBEAT_MS = 500;
/** Of one message down: rows and tenants, and bytes of rows; one row is always sent. */
export const DIRECTORY_MESSAGE_ENTRIES_MAX = 4_096;
export const DIRECTORY_MESSAGE_BYTES_SOFT_MAX = 256 * KiB;
/** A follower that takes nothing for so long is cut off: it begins again when it has come to itself. */
export const DIRECTORY_STALL_MS_MAX = 10_000;
/** A gateway that opens a stream says so long after it whom it means. */
export const DIRECTORY_HELLO_TIMEOUT_MS = 5_000;
/** Heartbeats that a gateway misses, as often as it looks, before it turns to another node. */
export const DIRECTORY_SILENT_LOOKS_MAX = 5;
/** A gateway that stood still for longer does not trust what it then finds in its buffers. */
export const DIRECTORY_HELD_UP_MS_MAX = 10_000;
/** Tenants of whose demand a gateway speaks in one message. */
export const DIRECTORY_DEMANDS_MAX = 4_096;
/** Tenants of whose usage a node speaks in one report. */
export const REPORT_USAGE_ENTRIES_MAX = 8_192;

// Node to node.
/** Bytes of messages that wait for one lane of one peer; more is dropped, and Raft repeats it. */
export const LANE_QUEUED_BYTES_MAX = 32 * MiB;
export const LANE_FRAME_BYTES_SOFT_MAX = 1 * MiB;
/** What both lanes may have to say and still leave as one frame. */
export const LANE_SHARED_BYTES_MAX = 64 * KiB;
/** Messages that wait for a connection are dropped beyond this age: Raft has repeated them by then. */
export const LANE_QUEUED_AGE_MS_MAX = 1_000;
/** Bytes of one stream that were handed to gRPC and are not on their way yet. */
export const LINK_WRITES_PENDING_BYTES_MAX = 1 * MiB;
/** From dialling a peer, or from its dialling, until both sides have said hello. */
export const LINK_OPEN_TIMEOUT_MS = 3_000;
/** Streams of peers that have not said hello yet; more are refused. All peers may dial at once. */
export const LINK_GREETINGS_MAX = 4_096;
/** Peers of a node, with those that its map does not have yet; more of these are refused. */
export const LINK_PEERS_MAX = 2 * CLUSTER_NODES_MAX;
/** Of one snapshot stream, and of all that a node sends. */
export const SNAPSHOT_CHUNK_BYTES_SOFT_MAX = 256 * KiB;
export const SNAPSHOT_BYTES_PER_SECOND_DEFAULT = 64 * MiB;
/** Slower, and a large chunk could look like a stall. */
export const SNAPSHOT_BYTES_PER_SECOND_MIN = 1 * MiB;
/** Of one message and of its copy in the staged file: a chunk may exceed its soft bound by a row. */
export const SNAPSHOT_FRAME_SIZE_BYTES_MAX = 16 * MiB;
/** Chunks that were sent and that the receiver has not confirmed. */
export const SNAPSHOT_CHUNKS_UNDER_WAY_MAX = 16;
/** After so many bytes the receiver syncs, so that the sync at the end is short, and looks for space. */
export const SNAPSHOT_SYNC_EVERY_BYTES = 16 * MiB;
export const SNAPSHOTS_SENT_AT_ONCE_MAX = 2;
export const SNAPSHOTS_RECEIVED_AT_ONCE_MAX = 4;
/** Nothing came for so long: the snapshot is given up, to be resumed or begun again. */
export const SNAPSHOT_STALL_TIMEOUT_MS = 10_000;
/** Between the last chunk and the receiver's word that it has all of it, verified and synced. */
export const SNAPSHOT_FINISH_TIMEOUT_MS = 60_000;
/** So long both sides keep what an interrupted transfer needs to go on. */
export const SNAPSHOT_RESUME_WITHIN_MS = 30_000;
/** Between attempts, of one transfer or after one that failed. */
export const SNAPSHOT_RETRY_MS = 1_000;

// Write-ahead log.
export const WAL_SEGMENT_SIZE_BYTES_DEFAULT = 64 * MiB;
export const WAL_SEGMENT_SIZE_BYTES_MIN = 1 * MiB;
/** Batches up to this size are written on the main thread, and synced on another one. */
export const WAL_WRITE_INLINE_BYTES_MAX = 64 * KiB;
export const WAL_BATCH_SIZE_BYTES_MAX = 32 * MiB;
/** The first segment of a new log is small, so that a first start does not wait for the disk. */
export const WAL_FIRST_SEGMENT_SIZE_BYTES_MAX = 4 * MiB;
/** Zeros written at once while the next segment is prepared. */
export const WAL_PREPARE_CHUNK_BYTES = 1 * MiB;
/** Left free on the disk by the preparation of a segment: the engine writes there too. */
export const WAL_SPACE_KEPT_BYTES = 8 * MiB;
/** Between attempts to prepare a segment on a full disk. */
export const WAL_SPACE_RETRY_MS = 500;
/** Without a new batch for this long, the log is sealed. */
export const WAL_IDLE_MS = 20;
/** Bytes of entries, over all groups of a node, after which the engine is flushed and logs cut. */
export const LOG_RETAINED_BYTES_MAX = 16 * MiB;
/** Log age at which the same is done for a node that writes little. */
export const LOG_COMPACT_INTERVAL_MS = 60_000;
/** Of applied entries a leader keeps for members that lag; who lags further gets a snapshot. */
export const LOG_RETAINED_BYTES_PER_GROUP = 1 * MiB;
/**
 * The same for a follower, which does not know who lags: for members that are a little behind when it
 * becomes the leader. It keeps them in memory, for each of its groups.
 */
export const LOG_RETAINED_BYTES_PER_FOLLOWER = 64 * KiB;
/**
 * The same while a snapshot of the group is under way, and for a while after it: its receiver goes on
 * with the entries behind it, and would need another snapshot without them.
 */
export const LOG_RETAINED_BYTES_BEHIND_SNAPSHOT = 64 * MiB;
export const LOG_RETAINED_BEHIND_SNAPSHOT_MS = 60_000;

// State machine.
/** Heads of data rows that a node keeps in memory; 95 bytes each, powers of two. */
export const ROW_HEADS_KEPT_MIN = 4_096;
export const ROW_HEADS_KEPT_MAX = 262_144;
/** Row keys that are longer are not among them. */
export const ROW_HEADS_KEY_SIZE_BYTES_MAX = 64;
/** Journal rows deleted in one step, which does not yield: some milliseconds. */
export const JOURNAL_TRIM_ROWS_PER_STEP_MAX = 2_048;
export const EXPIRY_SWEEP_INTERVAL_MS = 1_000;
/** Pause between two looks of a node at what has to be expired, trimmed or compacted. */
export const MAINTENANCE_INTERVAL_MS = 200;
export const EXPIRY_KEYS_PER_COMMAND_MAX = 128;

// Processes.
/** Without any progress of a node's start; the whole may take longer. */
export const START_TIMEOUT_MS = 30_000;
export const SHUTDOWN_TIMEOUT_MS = 30_000;
/** Free disk space below which writes are refused with STORAGE_FULL. */
export const DISK_RESERVE_BYTES_DEFAULT = 256 * MiB;
export const DISK_CHECK_INTERVAL_MS = 500;

// A cluster on one machine (`minikv dev --nodes`).
export const DEV_NODES_MAX = 15;
export const DEV_GATEWAYS_MAX = 15;
/** Without any progress of the cluster's start; the whole may take longer. */
export const DEV_START_TIMEOUT_MS = 120_000;
/** For the processes of an earlier run to end: they stop in order when their parent was killed. */
export const DEV_LEFTOVERS_TIMEOUT_MS = 30_000;
/** Between two lines about what is still being waited for. */
export const DEV_PROGRESS_INTERVAL_MS = 5_000;
/** A log file that is larger when its process starts is put aside; one is kept. */
export const DEV_LOG_SIZE_BYTES_MAX = 16 * MiB;
/** Longest pause of a process that a command can ask for. */
export const DEV_PAUSE_MS_MAX = 3600 * 1000;
export const DEV_COMMAND_SIZE_BYTES_MAX = 4 * KiB;
export const DEV_ANSWER_SIZE_BYTES_MAX = 64 * KiB;
export const DEV_COMMANDS_AT_ONCE_MAX = 16;

// Engine.
/** Block cache, which also holds the index and bloom filter blocks. */
export const ENGINE_CACHE_SIZE_BYTES_DEFAULT = 32 * MiB;
export const ENGINE_CACHE_SIZE_BYTES_MIN = 1 * MiB;
export const ENGINE_CACHE_SIZE_BYTES_MAX = 4095 * MiB;
export const ENGINE_ITERATE_ROWS_MAX = 10_000;
/** Rows read, deleted or hashed in one step of work over a whole group: some milliseconds. */
export const ROWS_PER_STEP_MAX = 2_048;
/** An iterator's `next` ends early beyond this many bytes, so that no call holds the thread long. */
export const ENGINE_ITERATE_SIZE_BYTES_SOFT_MAX = 1 * MiB;
/** A cleared batch keeps its native buffer up to this size. */
export const ENGINE_BATCH_BUFFER_KEPT_BYTES_MAX = 8 * MiB;
