/**
 * Makes a token for whoever shows an API key: for so many seconds, and with no more than the key allows.
 *
 * The token names its key as `sub`, and dies with it: see token-verifier.ts.
 */
import type { Directory } from "#gateway/directory/directory.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import { decodeBase64Url } from "#gateway/kv/key.ts";
import { utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import {
  TOKEN_AUDIENCE_LENGTH_MAX,
  TOKEN_PREFIXES_MAX,
  TOKEN_PREFIXES_SIZE_BYTES_MAX,
} from "#shared/limits-tokens.ts";
import { WATCH_TICKET_TTL_MS } from "#shared/limits-watch-http.ts";
import type { Random } from "#shared/random.ts";
import { type Caller, ROLES, type Role } from "./caller.ts";
import { keyRowName, type StoredKey, storedKeyOf } from "./key-records.ts";
import type { SigningKeys } from "./signing-keys.ts";
import type { JsonObject } from "./strict-json.ts";
import {
  ACCESS_TOKEN_TYPE,
  claimsOfGrant,
  type Grant,
  isCovered,
  TICKET_AUDIENCE,
  TICKET_TYPE,
  type TicketIssuedBy,
} from "./token-claims.ts";
import { wrongCredentials } from "./verifier.ts";

export type TokenIssuerOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  /** Secure. */
  readonly random: Random;
  readonly signingKeys: SigningKeys;
  readonly issuer: string;
  readonly audience: string;
  readonly ttlMs: number;
};

export type IssuedToken = { readonly token: string; readonly expiresInSeconds: number };

/** Members of a request's body. */
export const TOKEN_REQUEST_MEMBERS = [
  ...["expires_in", "audience", "role", "prefixes", "prefixes64"],
] as const;
type TokenRequest = Readonly<Record<string, unknown>>;

const TOKEN_ID_SIZE_BYTES = 16;
const AUDIENCE = new RegExp(`^[\\x21-\\x7e]{1,${TOKEN_AUDIENCE_LENGTH_MAX}}$`);

export class TokenIssuer {
  readonly #options: TokenIssuerOptions;

  constructor(options: TokenIssuerOptions) {
    this.#options = options;
  }

  /**
   * @throws RequestRefused FORBIDDEN unless the caller has shown an API key that allows what is asked for,
   * INVALID_ARGUMENT, UNAUTHENTICATED; KvError as `SigningKeys.signer`
   */
  async issue(caller: Caller, request: TokenRequest): Promise<IssuedToken> {
    const { clock, random, issuer, audience, signingKeys } = this.#options;
    const key = this.#keyOf(caller);
    const grant = grantOf(caller, key, request);
    const nowSeconds = Math.floor(clock.nowMs() / 1000);
    const expiresInSeconds = this.#lifetimeOf(key, request.expires_in);
    const { keyId, privateKey } = await signingKeys.signer();
    const id = random.fill(new Uint8Array(TOKEN_ID_SIZE_BYTES));
    const { SignJWT } = await import("jose");
    const token = await new SignJWT({
      ...claimsOfGrant(grant),
      iss: issuer,
      aud: audienceOf(request.audience) ?? audience,
      sub: key.record.id,
      client_id: key.record.id,
      iat: nowSeconds,
      nbf: nowSeconds,
      exp: nowSeconds + expiresInSeconds,
      jti: Buffer.from(id).toString("base64url"),
    })
      .setProtectedHeader({ alg: "EdDSA", typ: ACCESS_TOKEN_TYPE, kid: keyId })
      .sign(privateKey);
    return { token, expiresInSeconds };
  }

  /**
   * For one watch of keys that begin with `prefix`, which the caller may read. It ends no later than what the
   * caller has shown, and says when that is, because the watch has to end then too.
   *
   * @throws KvError as `SigningKeys.signer`
   */
  async issueTicket(
    { principal, tenant }: Caller,
    by: TicketIssuedBy,
    { prefix, claims }: { readonly prefix: Uint8Array; readonly claims: JsonObject },
  ): Promise<IssuedToken> {
    const { clock, random, issuer, signingKeys } = this.#options;
    const nowSeconds = Math.floor(clock.nowMs() / 1000);
    const endsAtMs = principal.basis?.endsAtMs ?? Number.POSITIVE_INFINITY;
    const untilSeconds = Math.floor(endsAtMs / 1000);
    const expiresInSeconds = Math.min(WATCH_TICKET_TTL_MS / 1000, untilSeconds - nowSeconds);
    if (expiresInSeconds < 1) throw wrongCredentials();
    const { keyId, privateKey } = await signingKeys.signer();
    const prefixes = prefix.length === 0 ? [] : [prefix];
    const { SignJWT } = await import("jose");
    const token = await new SignJWT({
      ...claimsOfGrant({ tenant, role: "ReadOnly", prefixes }),
      ...claims,
      ...principal.basis?.origin,
      ...{ iss: issuer, aud: TICKET_AUDIENCE, sub: principal.id, by },
      ...(Number.isFinite(untilSeconds) ? { until: untilSeconds } : {}),
      iat: nowSeconds,
      exp: nowSeconds + expiresInSeconds,
      jti: Buffer.from(random.fill(new Uint8Array(TOKEN_ID_SIZE_BYTES))).toString("base64url"),
    })
      .setProtectedHeader({ alg: "EdDSA", typ: TICKET_TYPE, kid: keyId })
      .sign(privateKey);
    return { token, expiresInSeconds };
  }

  #keyOf({ principal }: Caller): StoredKey {
    // A token would outlive itself by making the next one, and a root key has no row to die with.
    if (principal.kind === "root") {
      const detail = "not the root key: make a key for it with POST /admin/keys";
      throw new RequestRefused("FORBIDDEN", detail);
    }
    if (principal.kind !== "key") {
      throw new RequestRefused("FORBIDDEN", "only an API key can be exchanged for a token");
    }
    const row = this.#options.directory.get(keyRowName(principal.id));
    const key = row === undefined ? undefined : storedKeyOf(row, principal.id);
    if (key === undefined) throw wrongCredentials();
    return key;
  }

  /** As asked for, and no longer than the key lives. */
  #lifetimeOf({ record }: StoredKey, asked: unknown): number {
    const { clock, ttlMs } = this.#options;
    const secondsMax = Math.floor(ttlMs / 1000);
    const seconds = asked === undefined ? secondsMax : asked;
    if (typeof seconds !== "number" || !Number.isInteger(seconds) || seconds < 1) {
      throw malformed("expires_in must be a number of seconds, from 1");
    }
    if (seconds > secondsMax) {
      throw new RequestRefused("INVALID_ARGUMENT", `expires_in is at most ${secondsMax} here`, {
        ...{ limit: secondsMax, actual: seconds },
      });
    }
    if (record.expiresAtMs === 0n) return seconds;
    const left = Math.floor((Number(record.expiresAtMs) - clock.nowMs()) / 1000);
    if (left < 1) throw wrongCredentials();
    return Math.min(seconds, left);
  }
}

function audienceOf(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && AUDIENCE.test(value)) return value;
  throw malformed(`audience must be 1 to ${TOKEN_AUDIENCE_LENGTH_MAX} visible ASCII characters`);
}

/** What the token is to allow, held against what the key allows. */
function grantOf(caller: Caller, key: StoredKey, request: TokenRequest): Grant {
  const role = roleOf(request.role) ?? key.role;
  const asked = [...textPrefixes(request.prefixes), ...bytePrefixes(request.prefixes64)];
  const prefixes = asked.length === 0 ? key.record.prefixes : asked;
  const sizeBytes = prefixes.reduce((sum, { length }) => sum + length, 0);
  if (prefixes.length > TOKEN_PREFIXES_MAX || sizeBytes > TOKEN_PREFIXES_SIZE_BYTES_MAX) {
    throw malformed(
      `a token holds ${TOKEN_PREFIXES_MAX} prefixes of ${TOKEN_PREFIXES_SIZE_BYTES_MAX} bytes in all`,
    );
  }
  // An administrator of the cluster may make a token for one tenant: it then is no administrator's.
  const tenant = role === "ClusterAdmin" ? key.tenant : caller.tenant;
  const grant = { tenant, role, prefixes };
  if (isCovered(grant, key)) return grant;
  throw new RequestRefused("FORBIDDEN", "the API key does not allow what the token is to allow");
}

function roleOf(value: unknown): Role | undefined {
  if (value === undefined) return undefined;
  const role = ROLES.find((name) => name === value);
  if (role === undefined) throw malformed(`role must be one of ${ROLES.join(", ")}`);
  return role;
}

const textPrefixes = (value: unknown): readonly Uint8Array[] =>
  listOf(value, "prefixes").map((text) => bounded(utf8(text), "prefixes"));

const bytePrefixes = (value: unknown): readonly Uint8Array[] =>
  listOf(value, "prefixes64").map((text) =>
    bounded(decodeBase64Url(text, "prefixes64"), "prefixes64"),
  );

function listOf(value: unknown, what: string): readonly string[] {
  if (value === undefined) return [];
  const isList = Array.isArray(value) && value.length >= 1 && value.length <= TOKEN_PREFIXES_MAX;
  if (isList && value.every((item) => typeof item === "string" && item !== "")) return value;
  throw malformed(
    `${what} must be a list of 1 to ${TOKEN_PREFIXES_MAX} strings, none of them empty`,
  );
}

function bounded(prefix: Uint8Array, what: string): Uint8Array {
  if (prefix.length >= 1 && prefix.length <= KEY_SIZE_BYTES_MAX) return prefix;
  throw malformed(`${what}: each is 1 to ${KEY_SIZE_BYTES_MAX} bytes`);
}
