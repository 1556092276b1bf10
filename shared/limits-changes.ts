/**
 * Bounds of change logs and of the streams that read them. Part of `limits.ts`, through which they are
 * imported.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

/** Newest revisions of a vshard whose changes are kept, unless they are too old or too many bytes. */
export const CHANGE_LOG_REVISIONS_KEPT = 65_536;
export const CHANGE_LOG_REVISIONS_MIN = 1_024;
export const CHANGE_LOG_AGE_MS_DEFAULT = 24 * 3_600_000;
/** Requests are retried for up to two minutes, and their rows kept so long whatever is set. */
export const CHANGE_LOG_AGE_MS_MIN = 60_000;
/** Of one vshard. */
export const CHANGE_LOG_SIZE_BYTES_DEFAULT = 16 * MiB;
export const CHANGE_LOG_SIZE_BYTES_MIN = 64 * KiB;
/** Revisions beyond those kept at which trimming is worth a read. */
export const CHANGE_LOG_REVISIONS_PER_LOOK = 1_024;
/** Steps per second in which a node counts rows that were there when it started. */
export const CHANGE_LOG_MEASURE_STEPS = 4;

/** Values up to this size, as stored, travel with the change while it is fresh. */
export const CHANGE_VALUE_SIZE_BYTES_MAX = 4 * KiB;
/** W3C trace id (16), parent id (8), flags (1). */
export const TRACE_CONTEXT_SIZE_BYTES = 25;
export const TRANSACTION_ID_SIZE_BYTES_MAX = 64;

/** Pieces of change logs that one stream may have asked for and not yet been given. */
export const CHANGE_READS_PER_STREAM_MAX = 1_024;
/** The same, of all streams of a node. */
export const CHANGE_READS_PENDING_MAX = 16_384;
/** Of one piece: changes with their keys. One change is always given. */
export const CHANGE_READ_BYTES_MAX = 1 * MiB;
/** What one step feeds a follow that is behind. */
export const CHANGE_FOLLOW_STEP_BYTES = 256 * KiB;
/** A step through a log ends after so many rows, or so long: it can be gone on with. */
export const CHANGE_STEP_ROWS_MAX = 2_048;
export const CHANGE_STEP_MS_MAX = 2;
/** Steps run so long before whatever else a node has to do gets its turn. */
export const CHANGE_SLICE_MS_MAX = 4;
export const CHANGE_SLICE_STEPS_MAX = 256;
/** Of one batch of fresh changes, with their values. */
export const CHANGE_BATCH_BYTES_SOFT_MAX = 256 * KiB;
/** What gathers for one stream before it leaves, at the latest at the end of a turn of the event loop. */
export const CHANGE_MESSAGE_BYTES_SOFT_MAX = 1 * MiB;
/** Streams of a node at the same time; more are refused. */
export const CHANGE_STREAMS_MAX = 1_024;
