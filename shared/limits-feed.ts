/** Bounds of watches in a gateway: where changes come from, how they are kept, and what clients may hold up. */

const KiB = 1024;
const MiB = 1024 * KiB;

// The Changes stream to a storage node.
/** Reads of the log under way on one stream; further ones wait in line. */
export const CHANGES_READS_IN_FLIGHT_MAX = 512;
/** Reads that wait in line for one stream; more are refused. */
export const CHANGES_READS_WAITING_MAX = 8_192;
/** A stream on which nothing is read or followed is closed after so long. */
export const CHANGES_LINK_IDLE_MS = 30_000;
/** Between attempts at reads and follows that failed, doubled each time and jittered. */
export const CHANGES_BACKOFF_MS_MIN = 25;
export const CHANGES_BACKOFF_MS_MAX = 1_000;
/** Hints at a leader that are followed without a pause. */
export const CHANGES_REDIRECTS_AT_ONCE_MAX = 2;
/** A follow that is not confirmed for so long is begun again. */
export const CHANGES_FOLLOW_TIMEOUT_MS = 5_000;

// The feed of a vshard.
/** Bytes of one piece of the log. */
export const FEED_READ_BYTES = 256 * KiB;
export const FEED_READ_TIMEOUT_MS = 5_000;
/** Between attempts to read the log for a gap, doubled each time and jittered. */
export const FEED_BACKOFF_MS_MIN = 25;
export const FEED_BACKOFF_MS_MAX = 1_000;
/** A head that is ahead of the position may have its batch right behind it. */
export const FEED_HEAD_GRACE_MS = 50;
/** Batches that came while a gap before them is read from the log; later ones are read as well. */
export const FEED_STASHED_BATCHES_MAX = 64;
export const FEED_STASHED_CHANGES_MAX = 4_096;
/** Keys and values of them, for each vshard: of all together no more than some 64 MiB. */
export const FEED_STASHED_BYTES_MAX = 256 * KiB;
/** Nothing was heard of a vshard for so long: its log is looked at each second. */
export const FEED_SILENCE_MS = 2_500;
export const FEED_LOOK_MS = 1_000;
/** Looks at all logs in turns: one that is not silent is looked at once in so many, whatever news say. */
export const FEED_AUDIT_TICKS = 30;
/** A vshard that no watch needs any more is listened to for so much longer. */
export const FEED_LINGER_MS = 5_000;

// Between feed and watches.
/** Events of a vshard that wait for a value; then its feed pauses. */
export const WATCH_EVENTS_HELD_MAX = 1_024;
/** The same of all vshards together, in bytes: any that holds events back pauses then. */
export const WATCH_EVENTS_HELD_BYTES_MAX = 16 * MiB;
/** Values of one vshard that are read ahead of their turn. */
export const WATCH_VALUES_AHEAD_MAX = 8;
/** Values that are read at once for events that came without; as many again for watches that are behind. */
export const WATCH_VALUE_READS_MAX = 256;
/** After so long an event goes out without its value. */
export const WATCH_VALUE_TIMEOUT_MS = 5_000;
/** Recent events of all vshards: watches that are a little behind find them here. */
export const WATCH_RECENT_BYTES_MAX = 16 * MiB;
/** Longer texts of events are not kept with them. */
export const WATCH_RECENT_TEXT_BYTES_MAX = 8 * KiB;

// Watches.
export const WATCHES_PER_GATEWAY_MAX = 16_000;
/** A tenant's watches at one gateway: a third of its connections stays for everything else. */
export const WATCHES_PER_TENANT_MAX = 12_000;
/** Between two writes to clients, while there is something: stretched when writing takes long. */
export const WATCH_FLUSH_MS_MIN = 10;
export const WATCH_FLUSH_MS_MAX = 100;
/** Writing to clients takes at most one part in so many of the time. */
export const WATCH_FLUSH_PART = 4;
/** What is written to groups at once; then others have their turn. */
export const WATCH_FLUSH_SLICE_MS = 10;
/** Bytes of one group's events that are not held back until the next flush. */
export const WATCH_FLUSH_BYTES_MAX = 256 * KiB;
/** Bytes that wait for one client; beyond it is left to read the log at its own pace. */
export const WATCH_CLIENT_BYTES_MAX = 1 * MiB;
/** The same of all clients together. Groups share their bytes, so that it is less in fact. */
export const WATCH_CLIENTS_BYTES_MAX = 128 * MiB;
/** Bytes of one step of a watch that catches up. */
export const WATCH_CATCH_UP_BYTES = 64 * KiB;
/** Beyond so many bytes of values, it hands over what it has before it asks for more of them. */
export const WATCH_CATCH_UP_VALUE_BYTES_MAX = 256 * KiB;
/** Recent events that one watch looks at before others have their turn, most of which may be of no use to it. */
export const WATCH_RECENT_EVENTS_IN_ONE_GO = 4_096;
/** Pieces of the log that were read for one watch and are kept for others, and for how long. */
export const WATCH_PIECES_KEPT_MAX = 64;
export const WATCH_PIECES_KEPT_MS = 2_000;
/** Watches that read the log for themselves at the same time; others wait in line. */
export const WATCH_CATCH_UPS_MAX = 32;
/** Without an event for so long, the client is told how far it has come. */
export const WATCH_PROGRESS_MS = 10_000;
export const WATCH_TICK_MS = 1_000;
/** In ticks. */
export const WATCH_SSE_HEARTBEAT_TICKS = 15;
export const WATCH_WS_HEARTBEAT_TICKS = 20;
/** A token is at most so long: 256 revisions without any likeness. */
export const RESUME_TOKEN_SIZE_MAX = 2_560;
