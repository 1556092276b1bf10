/** Bounds of metrics, logs, and the small HTTP listeners that tell of a process. */

/** Of a listener for probes and scrapers: connections at once. */
export const PROBE_CONNECTIONS_MAX = 64;
/** Head and body of a request, each in all, and an idle connection. */
export const PROBE_TIMEOUT_MS = 10_000;
export const PROBE_HEADERS_SIZE_BYTES_MAX = 8 * 1024;
export const PROBE_BODY_SIZE_BYTES_MAX = 1024;
/** Tenants with numbers of their own in metrics; all others are one. */
export const METRICS_TENANTS_MAX = 100;
/** How long the gateway's thread waits for the figures of the storage node's. */
export const METRICS_THREAD_TIMEOUT_MS = 2_000;
/** Lines about slow operations in one window; what is beyond is only counted. */
export const SLOW_LINES_PER_WINDOW_MAX = 10;
export const SLOW_WINDOW_MS = 10_000;
export const SLOW_OPERATION_MS_DEFAULT = 500;
/** A changed log level goes back by itself after at most so long. */
export const LOG_LEVEL_CHANGE_MS_MAX = 24 * 3_600_000;
export const LOG_LEVEL_CHANGE_MS_DEFAULT = 10 * 60_000;
