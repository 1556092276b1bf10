/** Every bound of the HTTP side of watches, unit last. */
import { CLOCK_SKEW_MS_MAX, TTL_MS_MAX } from "./limits.ts";
import { TOKEN_CLOCK_SKEW_MS } from "./limits-tokens.ts";

/** Of a resume token in a request; what gateways make is shorter. */
export const WATCH_SINCE_LENGTH_MAX = 4_096;
/** What a browser waits before it connects again: so long, and up to so much more, another time for each. */
export const WATCH_RETRY_MS_MIN = 1_000;
export const WATCH_RETRY_MS_SPREAD = 2_000;
/** Written by the hub before the head of the answer has left; beyond it a pause is asked for. */
export const WATCH_EARLY_BYTES_MAX = 256 * 1024;
/** Whoever watches is asked for again this often; what is heard of the directory is looked at sooner. */
export const WATCH_RECHECK_INTERVAL_MS = 500;
/** From news of the directory until all watches have been looked at. */
export const WATCH_RECHECK_DELAY_MS = 20;

// WebSocket.
export const WATCH_PING_INTERVAL_MS = 20_000;
/** Connections are pinged in so many parts of the interval, not all at once. */
export const WATCH_PING_PARTS = 20;
/** A client has nothing to say; control frames have at most 125 bytes (RFC 6455, 5.5). */
export const WATCH_MESSAGE_SIZE_BYTES_MAX = 125;
/** Pings of a client in one ping interval. */
export const WATCH_CLIENT_PINGS_MAX = 40;
/** Of everything that a client sends in one: its pings and pongs, as large as they may be, and some more. */
export const WATCH_CLIENT_BYTES_PER_PING_MAX = 16 * 1024;
/** For the client's close frame, before the connection is cut. */
export const WATCH_CLOSE_TIMEOUT_MS = 2_000;

// Tickets.
export const WATCH_TICKET_TTL_MS = 60_000;
/** A used ticket is remembered until it is valid nowhere, whatever the clocks of gateways and nodes say. */
export const WATCH_TICKET_USE_KEPT_MS = Math.min(
  WATCH_TICKET_TTL_MS + TOKEN_CLOCK_SKEW_MS + 2 * CLOCK_SKEW_MS_MAX,
  TTL_MS_MAX,
);
/** With a key of 1,024 bytes that is not text. */
export const WATCH_TICKET_LENGTH_MAX = 6 * 1024;
