/**
 * Bounds of change logs and of the streams that read them. Part of `limits.ts`, through which they are
 * imported.
 */
const KiB = 1024;

/** Values up to this size, as stored, travel with the change while it is fresh. */
export const CHANGE_VALUE_SIZE_BYTES_MAX = 4 * KiB;
/** W3C trace id (16), parent id (8), flags (1). */
export const TRACE_CONTEXT_SIZE_BYTES = 25;
export const TRANSACTION_ID_SIZE_BYTES_MAX = 64;
