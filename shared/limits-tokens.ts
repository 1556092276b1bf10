/** Every bound of tokens, unit last; all others stand in `limits.ts`. */
const KiB = 1024;

export const TOKEN_SIZE_BYTES_MAX = 8 * KiB;
export const TOKEN_TTL_MS_DEFAULT = 15 * 60_000;
export const TOKEN_TTL_MS_MIN = 10_000;
export const TOKEN_TTL_MS_MAX = 24 * 3600 * 1000;
/** How far the clock of whoever issued a token may be off. */
export const TOKEN_CLOCK_SKEW_MS = 30_000;
export const TOKEN_CLOCK_SKEW_MS_MAX = 5 * 60_000;
/** Of the prefixes that a token is confined to: together with the rest it must fit its bound. */
export const TOKEN_PREFIXES_MAX = 32;
export const TOKEN_PREFIXES_SIZE_BYTES_MAX = 3 * KiB;
export const TOKEN_AUDIENCE_LENGTH_MAX = 256;
/** Of an issuer's `sub`; it becomes the id in logs. */
export const TOKEN_SUBJECT_LENGTH_MAX = 256;
/** Tokens whose verification a gateway remembers; about 1 KiB each. */
export const TOKENS_REMEMBERED_MAX = 16_384;
/** One of a foreign issuer is verified anew after so long: its key may have been withdrawn. */
export const FOREIGN_TOKEN_REMEMBERED_MS_MAX = 5 * 60_000;
/** Signatures verified at once, and tokens that wait for it; more are refused with 503. */
export const TOKEN_VERIFICATIONS_AT_ONCE_MAX = 8;
export const TOKEN_VERIFICATIONS_WAITING_MAX = 512;
export const TOKEN_KEY_ROTATION_MS_DEFAULT = 7 * 24 * 3600 * 1000;
export const TOKEN_KEY_ROTATION_MS_MIN = 3600 * 1000;
export const TOKEN_KEY_ROTATION_MS_MAX = 365 * 24 * 3600 * 1000;
/** A new signing key is shown so long before it signs, so that every gateway knows it first. */
export const SIGNING_KEY_PUBLISHED_MS = 10_000;
/** Between two looks of a gateway at whether signing keys have to be made or removed. */
export const SIGNING_KEYS_CHECK_INTERVAL_MS = 60_000;
/** Until the first look, and until the next one after one that failed. */
export const SIGNING_KEYS_RETRY_MS = 1_000;
/** For a row that another gateway has written to arrive here. */
export const SIGNING_KEY_ARRIVAL_MS_MAX = 2_000;
/** Keys of which tokens may still be valid; no further ones are made by hand beyond it. */
export const SIGNING_KEYS_MAX = 64;
/** How long clients may keep the public keys. */
export const JWKS_MAX_AGE_SECONDS = 300;
/** Foreign issuers of one gateway, and what their documents may have. */
export const OIDC_ISSUERS_MAX = 64;
export const OIDC_DOCUMENT_SIZE_BYTES_MAX = 256 * KiB;
export const OIDC_KEYS_MAX = 64;
/** Of discovery and keys together. */
export const OIDC_FETCH_TIMEOUT_MS = 5_000;
/** Keys are fetched anew for a key id that is not known, at most this often. */
export const OIDC_REFRESH_INTERVAL_MS = 30_000;
/** After a failed attempt the next one comes so much later. */
export const OIDC_RETRY_INTERVAL_MS = 5_000;
/** Keys this old are fetched anew while they are used: one that is gone must be forgotten. */
export const OIDC_KEYS_FRESH_MS = 10 * 60_000;
/** Without an answer of the issuer for so long its keys are not trusted any more. */
export const OIDC_KEYS_AGE_MS_MAX = 3600 * 1000;
/** Requests that wait for the keys of one issuer; more are refused with 503. */
export const OIDC_WAITING_MAX = 256;
