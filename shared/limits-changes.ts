/**
 * Bounds of change logs and of the streams that read them. Part of `limits.ts`, through which they are
 * imported.
 */
const KiB = 1024;
const MiB = 1024 * KiB;

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
