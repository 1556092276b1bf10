/** Bounds of HTTP/2 connections. Part of `limits.ts`, through which they are imported. */
const KiB = 1024;
const MiB = 1024 * KiB;

/** Requests of one connection at the same time; clients are told, and more are refused. */
export const HTTP2_STREAMS_MAX = 128;
/**
 * Requests of one connection that run, those among them whose client has reset them. More are refused:
 * resetting makes room for a stream, but not for work.
 */
export const HTTP2_RUNNING_MAX = 2 * HTTP2_STREAMS_MAX;
/**
 * Names and values of one request's headers, 32 bytes more for each as HTTP/2 counts them. Those beyond
 * HTTP_HEADERS_SIZE_BYTES_MAX get an answer that says so, those beyond this a reset stream.
 */
export const HTTP2_HEADER_LIST_BYTES_MAX = 48 * KiB;
/**
 * Their number. The bound of bytes holds once a client has confirmed it; until then this one keeps a block
 * that repeats one table entry (4 KiB at most) below a mebibyte.
 */
export const HTTP2_HEADERS_MAX = 256;
/** Streams that end before their answer does, per connection: so many at once, and per second. */
export const HTTP2_RESETS_BURST = 256;
export const HTTP2_RESETS_PER_SECOND = 16;
/**
 * Bytes that are neither headers nor bodies (pings, settings, windows, empty and unknown frames), per
 * connection: so many at once, and per second.
 */
export const HTTP2_OVERHEAD_BYTES_BURST = 512 * KiB;
export const HTTP2_OVERHEAD_BYTES_PER_SECOND = 32 * KiB;
/** One more of them for so many bytes sent: a client that receives has windows to open. */
export const HTTP2_SENT_BYTES_PER_OVERHEAD_BYTE = 8;
/** Entries of one SETTINGS frame. */
export const HTTP2_SETTINGS_ENTRIES_MAX = 32;
/** Frames of one connection that the protocol forbids, and streams beyond those allowed. */
export const HTTP2_INVALID_FRAMES_MAX = 256;
export const HTTP2_REJECTED_STREAMS_MAX = 256;
/** Node's own state of one connection, in units of a million bytes; beyond it no stream begins. */
export const HTTP2_SESSION_MEMORY_MB_MAX = 16;
/** Bytes of one body that a client may send ahead of whoever reads them. */
export const HTTP2_STREAM_WINDOW_BYTES = 64 * KiB;
/** The same for all bodies of a connection together. */
export const HTTP2_CONNECTION_WINDOW_BYTES = 1 * MiB;
/** A longer body is sent in pieces: a client that has taken none for a while is cut. */
export const HTTP2_PIECE_BYTES = 64 * KiB;
