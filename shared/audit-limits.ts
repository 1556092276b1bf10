/** The bounds of a gateway's audit log; all others stand in `limits.ts`. */

/** Longest line, with room: texts that clients choose are cut to AUDIT_TEXT_LENGTH_MAX. */
export const AUDIT_LINE_SIZE_BYTES_MAX = 16 * 1024;
export const AUDIT_TEXT_LENGTH_MAX = 512;
/** Records that wait to be written; of data changes half as many, so that others always find room. */
export const AUDIT_QUEUE_RECORDS_MAX = 16_384;
/** In one write and one sync. */
export const AUDIT_BATCH_RECORDS_MAX = 256;
/** After a write that failed. */
export const AUDIT_RETRY_MS = 1_000;
/** Newest lines that a gateway keeps in memory. */
export const AUDIT_LINES_KEPT = 4_096;
/** What standard output may leave untaken; beyond it, lines go to the file alone. */
export const AUDIT_STDOUT_BYTES_WAITING_MAX = 1024 * 1024;
/** Refused callers that get a line of their own in one second; the others are counted. */
export const AUDIT_FAILURES_PER_ADDRESS_MAX = 3;
export const AUDIT_FAILURES_PER_SECOND_MAX = 10;
export const AUDIT_FAILURES_WINDOW_MS = 1_000;
/** Addresses that a count names; the others are counted without. */
export const AUDIT_ADDRESSES_NAMED_MAX = 16;
export const AUDIT_ADDRESSES_TRACKED_MAX = 1_024;
export const AUDIT_STREAMS_MAX = 8;
export const AUDIT_STREAM_LINES_DEFAULT = 1_000;
export const AUDIT_STREAM_LINES_MAX = 1_000_000;
export const AUDIT_STREAM_PIECE_LINES_MAX = 512;
/** A stream that waits for news ends then; its reader asks again. */
export const AUDIT_FOLLOW_MS_MAX = 3600 * 1000;
/** An empty line keeps a connection from being taken for a stalled one. */
export const AUDIT_HEARTBEAT_MS = 15_000;
