/** Bounds of compression and encryption of values, unit last; the others are in `limits.ts`. */
import { VALUE_SIZE_BYTES_MAX } from "./limits.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** A value of the largest size behind what encryption adds. */
export const ENCODED_VALUE_SIZE_BYTES_MAX = VALUE_SIZE_BYTES_MAX + 64;
export const COMPRESS_ABOVE_BYTES_DEFAULT = 512;
/** What compression does not make smaller by this part is stored as it is. */
export const COMPRESSION_SAVES_PART_MIN = 1 / 16;
/** Larger values are compressed and decompressed by another thread. */
export const CODEC_SYNC_BYTES_MAX = 64 * KiB;
/** After so many bytes of values of one batch or page, other requests get their turn. */
export const CODEC_BYTES_PER_TURN_MAX = 512 * KiB;
/** A session of a data key is renewed after so many values, far below what its nonces would allow. */
export const SEALING_SESSION_VALUES_MAX = 2 ** 24;
/** Tenants for which a gateway keeps a session; subkeys and data keys that it keeps for reading. */
export const SEALING_SESSIONS_KEPT_MAX = 4_096;
export const OPENING_KEYS_KEPT_MAX = 8_192;
/** A value may be read before the directory has told of its key: so long it is waited for. */
export const DATA_KEY_WAIT_MS_MAX = 2_000;
/**
 * Without word from the directory for so long, a gateway may have missed a rotation and encrypts no more;
 * and so long after a rotation nobody uses the old key any more (see `docs/formats/values.md`).
 */
export const DATA_KEY_SILENCE_MS_MAX = 10 * 60 * 1000;
export const DATA_KEY_GRACE_MS = 15 * 60 * 1000;
/** Of the job that encrypts a tenant's values anew: one step, and the rest after it. */
export const RESEAL_ROWS_PER_STEP = 100;
export const RESEAL_BYTES_PER_STEP = 1 * MiB;
export const RESEAL_OLD_KEYS_PER_STEP = 50;
export const RESEALS_IN_FLIGHT_MAX = 16;
export const RESEAL_PAUSE_MS = 20;
/** Rows of wrapped keys that one change of the directory wraps anew. */
export const REWRAP_ROWS_PER_CHANGE = 50;
/** Damaged keys that an answer names, and keys that are unwrapped to find them before others get their turn. */
export const UNREADABLE_KEYS_LISTED_MAX = 100;
export const KEYS_CHECKED_PER_TURN = 100;
export const MASTER_KEY_SIZE_BYTES = 32;
export const MASTER_KEYS_MAX = 64;
export const MASTER_KEY_TEXT_BYTES_MAX = 16 * KiB;
export const MASTER_KEY_COMMAND_MS_MAX = 10_000;
