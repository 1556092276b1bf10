/** Bounds of traces. Part of `limits.ts`, through which they are imported. */

/** Spans that one request may have in a gateway, whatever it asks of storage. */
export const TRACE_SPANS_PER_REQUEST_MAX = 32;
/** Of requests whose clients ask for it, so many are traced per second and gateway by default. */
export const TRACES_OF_CLIENTS_PER_SECOND_DEFAULT = 50;
export const TRACES_OF_CLIENTS_PER_SECOND_MAX = 1_000_000;
/** Operations that a span of a log entry is linked to. */
export const TRACE_LINKS_MAX = 32;
/** Entries of one group that are on their way to followers with their trace. */
export const TRACED_ENTRIES_PER_GROUP_MAX = 8;
/** Traces of entries in one frame between nodes. */
export const TRACED_ENTRIES_PER_FRAME_MAX = 64;
/** A wall clock that has moved by more against the monotonic one is followed. */
export const TRACE_CLOCK_DRIFT_MS_MAX = 20;
/** Spans of changes that are published or delivered together. */
export const TRACE_SPANS_PER_FLUSH_MAX = 32;
