/**
 * Bounds of what stands at the edge: authentication, tenants, rates, background work. Part of `limits.ts`,
 * through which they are imported.
 */
const KiB = 1024;

// Authentication.
/** API keys and tokens; a token of a foreign issuer with many claims is still shorter. */
export const CREDENTIAL_LENGTH_MAX = 8 * KiB;
/** Runs of Argon2 at once in a gateway: each takes a thread of Node's pool, which files need too. */
export const KEY_HASHES_AT_ONCE_MAX = 2;
/** Runs of Argon2 that wait for those. Each takes about 50 ms. */
export const KEY_HASHES_WAITING_MAX = 64;
/** Those of them for keys of one tenant that are made or rotated. */
export const KEY_HASHES_PER_TENANT_MAX = 8;
/** Verified credentials that a gateway remembers. */
export const KEY_VERDICTS_MAX = 65_536;
/** Attempts with wrong credentials from one address: so many at once, and so many per second. */
export const AUTH_FAILURES_PER_ADDRESS_BURST = 20;
export const AUTH_FAILURES_PER_ADDRESS_PER_SECOND = 1;
/** Runs of Argon2 for one key that found the secret wrong. */
export const AUTH_FAILURES_PER_KEY_BURST = 5;
export const AUTH_FAILURES_PER_KEY_PER_SECOND = 0.1;
/** Addresses, and keys, of which failures are remembered. */
export const AUTH_FAILURES_TRACKED_MAX = 16_384;
export const AUTH_STALENESS_MS_DEFAULT = 60_000;
export const AUTH_STALENESS_MS_MAX = 24 * 3600 * 1000;
/** Secrets of one key that are valid at the same time. */
export const KEY_SECRETS_MAX = 2;
/** Every gateway holds all keys in memory. */
export const KEYS_MAX = 10_000;
export const KEYS_PER_TENANT_MAX = 1_000;
export const KEY_NAME_LENGTH_MAX = 128;
export const KEY_PREFIXES_MAX = 16;
export const KEY_NETWORKS_MAX = 16;
/** Ten years. */
export const KEY_LIFETIME_MS_MAX = 10 * 365 * 24 * 3600 * 1000;
/** How long the old secret of a key still works after its rotation. */
export const KEY_OVERLAP_MS_DEFAULT = 24 * 3600 * 1000;
export const KEY_OVERLAP_MS_MAX = 90 * 24 * 3600 * 1000;
/** When a key was last used is written at most this often. */
export const KEY_USE_INTERVAL_MS = 600_000;
/** Uses that wait to be written, together, and so many in one change of the directory. */
export const KEY_USES_WAITING_MAX = 1_024;
export const KEY_USES_PER_CHANGE_MAX = 64;
export const KEY_USE_WRITE_DELAY_MS = 2_000;
export const KEYS_PAGE_DEFAULT = 100;
export const KEYS_PAGE_MAX = 1_000;
/** Attempts to change a row that somebody else changes at the same time. */
export const KEY_CHANGE_ATTEMPTS_MAX = 4;
/** Between looks at whether the first root key has to be made, and attempts to make it. */
export const ROOT_KEY_POLL_MS = 100;
/** A change of the directory that met other rows than it expected is made anew so often. */
export const DIRECTORY_CHANGE_ATTEMPTS_MAX = 8;
/** Times the attempts so far: the change that came first needs that to arrive. */
export const DIRECTORY_CHANGE_PAUSE_MS = 50;

// Jobs in the background of gateways.
/** Jobs that one gateway works on at once. */
export const JOBS_AT_ONCE_MAX = 2;
/** Between two looks for jobs that are free; jittered. */
export const JOB_LOOK_INTERVAL_MS = 500;
/** A step is to end by then; so long it may also take to change the directory. */
export const JOB_STEP_MS_MAX = 5_000;
/** Longest pause that a job can ask for between two steps. */
export const JOB_PAUSE_MS_MAX = 1_000;
/** Progress is written at least this often, which also keeps the job. */
export const JOB_SAVE_INTERVAL_MS = 3_000;
/** A job whose row stood still for so long is taken over. More than a save, a step and a change take. */
export const JOB_LEASE_MS = 30_000;
/** After a step that failed, doubled each time and jittered. */
export const JOB_BACKOFF_MS_MIN = 1_000;
export const JOB_BACKOFF_MS_MAX = 60_000;

// Tenants.
export const TENANTS_MAX = 10_000;
export const TENANT_ID_MAX = 2 ** 32 - 1;
export const TENANT_NAME_LENGTH_MAX = 63;
/** Tenants in one page of their list. */
export const TENANTS_LISTED_DEFAULT = 100;
export const TENANTS_LISTED_MAX = 1_000;
/** Largest number of a quota: 2^53 - 1 is what JSON keeps, and 2^32 - 1 what the record has for rates. */
export const QUOTA_MAX = Number.MAX_SAFE_INTEGER;
export const QUOTA_REQUESTS_PER_SECOND_MAX = 2 ** 32 - 1;
/** Keys of a deleted tenant that are removed in one step. */
export const TENANT_DELETION_KEYS_PER_STEP = 500;
/** Rows of the directory that are removed in one step. */
export const TENANT_DELETION_ROWS_PER_STEP = 50;
/** Rows of the directory whose owner is gone are looked for about this often. */
export const ORPHANS_LOOK_INTERVAL_MS = 10 * 60 * 1000;
/** A gateway that has not heard of the directory for so long stores nothing for tenants that can be deleted. */
export const TENANT_SILENCE_MS_MAX = 60_000;
// Rates of clients.
/** Addresses (IPv6: /64 networks) that a gateway keeps a bucket for; some 150 bytes each. */
export const RATE_ADDRESSES_MAX = 65_536;
/** Seconds of an address's rate that may come at once, unless a setting says otherwise. */
export const RATE_ADDRESS_BURST_SECONDS = 2;
/** Seconds of a tenant's rate that may come at once. */
export const RATE_BURST_SECONDS = 1;
/** A tenant's share of this gateway is looked up this often. */
export const RATE_SHARE_REFRESH_MS = 100;
/** A share holds so long after its giver has fallen silent; then it is at most an equal part. */
export const RATE_SHARE_KEPT_MS = 3_000;
