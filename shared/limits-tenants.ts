/** Bounds of jobs in the background, of tenants, and of what they may send: a part of `limits.ts`. */
import { CLOCK_SKEW_MS_MAX, DEADLINE_MS_MAX } from "./limits.ts";

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
/** A gateway that has not heard of the directory for so long stores nothing for tenants that can be deleted. */
export const TENANT_SILENCE_MS_MAX = 60_000;
/**
 * So long after its deletion a tenant's keys are looked for, until none is found. What a gateway has let
 * in before it heard of the deletion (at the latest after `TENANT_SILENCE_MS_MAX`) is stored by its
 * deadline or never, by clocks that differ by `CLOCK_SKEW_MS_MAX`.
 */
export const TENANT_DELETION_WAIT_MS = TENANT_SILENCE_MS_MAX + DEADLINE_MS_MAX + CLOCK_SKEW_MS_MAX;

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
