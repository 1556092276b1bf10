/**
 * Another issuer's tokens: where its keys come from, and what its claims mean here.
 *
 * Keys are found by OpenID Connect discovery, when the first token asks for one. The document has to name
 * the very issuer that was configured, so that one cannot speak for another. Keys are fetched anew when a
 * token names one that is not known, though not more often than every OIDC_REFRESH_INTERVAL_MS whatever
 * tokens are sent, and when they are old. All requests share one fetch. While an issuer cannot be reached,
 * its keys serve on for OIDC_KEYS_AGE_MS_MAX; beyond, its tokens get UNAVAILABLE, as nobody can tell
 * whether they are right. No other tokens are affected.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import {
  OIDC_FETCH_TIMEOUT_MS,
  OIDC_KEYS_AGE_MS_MAX,
  OIDC_KEYS_FRESH_MS,
  OIDC_KEYS_MAX,
  OIDC_REFRESH_INTERVAL_MS,
  OIDC_RETRY_INTERVAL_MS,
  OIDC_WAITING_MAX,
  TOKEN_SUBJECT_LENGTH_MAX,
} from "#shared/limits-tokens.ts";
import { type Principal, ROLES, type Role } from "./caller.ts";
import type { ParsedToken, TokenAlgorithm } from "./compact-token.ts";
import { type FetchJson, fetchJson } from "./fetch-json.ts";
import { type IssuerRules, isSecureUrl } from "./oidc-file.ts";
import type { AuthFailure } from "./refusals.ts";
import type { JsonObject } from "./strict-json.ts";

export type ForeignKey = { readonly algorithm: TokenAlgorithm; readonly publicKey: KeyObject };

/** A token is not right. Why is for the operator; whoever sent it is not told. */
export class TokenWrong extends Error {
  readonly reason: AuthFailure["reason"];

  constructor(reason: AuthFailure["reason"]) {
    super(`the token is not valid: ${reason}`);
    this.name = "TokenWrong";
    this.reason = reason;
  }
}

/** By `iss`. */
export type ForeignIssuers = ReadonlyMap<string, ForeignIssuer>;

export type ForeignIssuerOptions = {
  readonly rules: IssuerRules;
  readonly clock: Clock;
  /** Told of each attempt that failed, at most every OIDC_RETRY_INTERVAL_MS. */
  readonly onTrouble: (url: string, reason: string) => void;
  readonly fetch?: FetchJson;
};

const RSA_BITS_MIN = 2048;
const RSA_BITS_MAX = 8192;
/** Without anything that could break a line of a log, or hide in one. */
const SUBJECT = /^[^\p{C}\p{Zl}\p{Zp}]+$/u;

export class ForeignIssuer {
  readonly rules: IssuerRules;
  readonly #clock: Clock;
  readonly #onTrouble: ForeignIssuerOptions["onTrouble"];
  readonly #fetch: FetchJson;
  #keys: ReadonlyMap<string, ForeignKey> | undefined;
  #fetchedAtMs = Number.NEGATIVE_INFINITY;
  #failedAtMs = Number.NEGATIVE_INFINITY;
  #underWay: Promise<void> | undefined;
  #waiting = 0;

  constructor({ rules, clock, onTrouble, fetch = fetchJson }: ForeignIssuerOptions) {
    this.rules = rules;
    this.#clock = clock;
    this.#onTrouble = onTrouble;
    this.#fetch = fetch;
  }

  /** Whether a token of this form could be one of this issuer. */
  takes({ algorithm, type }: ParsedToken): boolean {
    return this.rules.algorithms.includes(algorithm) && this.rules.types.includes(type);
  }

  /**
   * Undefined when the issuer has no such key.
   *
   * @throws RequestRefused UNAVAILABLE when that cannot be known, OVERLOADED
   */
  async keyOf(keyId: string): Promise<ForeignKey | undefined> {
    const ageMs = this.#clock.monotonicMs() - this.#fetchedAtMs;
    const known = ageMs <= OIDC_KEYS_AGE_MS_MAX ? this.#keys?.get(keyId) : undefined;
    if (known !== undefined) {
      if (ageMs > OIDC_KEYS_FRESH_MS && this.#mayTry()) void this.#refresh();
      return known;
    }
    if (ageMs < OIDC_REFRESH_INTERVAL_MS) return undefined;
    if (this.#underWay === undefined && !this.#mayTry()) throw this.#unavailable();
    await this.#waitFor(this.#refresh());
    const isFresh = this.#clock.monotonicMs() - this.#fetchedAtMs < OIDC_REFRESH_INTERVAL_MS;
    if (!isFresh) throw this.#unavailable();
    return this.#keys?.get(keyId);
  }

  /**
   * Who a verified token speaks for.
   *
   * @throws TokenWrong; RequestRefused FORBIDDEN when its claims give it no tenant or no role
   */
  principalOf(claims: JsonObject, tenants: Pick<Tenants, "byName">): Principal {
    const { sub } = claims;
    if (typeof sub !== "string" || sub.length > TOKEN_SUBJECT_LENGTH_MAX || !SUBJECT.test(sub)) {
      throw new TokenWrong("malformed");
    }
    const { tenant, role, subjectPrefix } = this.rules;
    const name = "name" in tenant ? tenant.name : claimAt(claims, tenant.claim);
    const known = typeof name === "string" ? tenants.byName(name) : undefined;
    if (known === undefined) throw gives("no tenant that exists");
    const given =
      "fixed" in role ? role.fixed : highestRole(claimAt(claims, role.claim), role.roles);
    if (given === undefined) throw gives("no role");
    return { kind: "token", id: subjectPrefix + sub, tenant: known.id, role: given, prefixes: [] };
  }

  #mayTry(): boolean {
    return this.#clock.monotonicMs() - this.#failedAtMs >= OIDC_RETRY_INTERVAL_MS;
  }

  async #waitFor(refresh: Promise<void>): Promise<void> {
    if (this.#waiting >= OIDC_WAITING_MAX) {
      throw new RequestRefused(
        "OVERLOADED",
        `too many tokens wait for the keys of ${this.rules.url}`,
      );
    }
    this.#waiting++;
    try {
      await refresh;
    } finally {
      this.#waiting--;
    }
  }

  /** Never rejects. */
  #refresh(): Promise<void> {
    this.#underWay ??= this.#fetchKeys()
      .then((keys) => {
        this.#keys = keys;
        this.#fetchedAtMs = this.#clock.monotonicMs();
      })
      .catch((error: unknown) => {
        this.#failedAtMs = this.#clock.monotonicMs();
        this.#onTrouble(this.rules.url, reasonOf(error));
      })
      .finally(() => {
        this.#underWay = undefined;
      });
    return this.#underWay;
  }

  async #fetchKeys(): Promise<ReadonlyMap<string, ForeignKey>> {
    const { url } = this.rules;
    const signal = AbortSignal.timeout(OIDC_FETCH_TIMEOUT_MS);
    const document = await this.#fetch(
      `${url.replace(/\/$/, "")}/.well-known/openid-configuration`,
      signal,
    );
    if (document.issuer !== url) throw new Error("the discovery document names another issuer");
    const { jwks_uri: keysUrl } = document;
    const parsed = typeof keysUrl === "string" ? URL.parse(keysUrl) : null;
    if (parsed === null || !isSecureUrl(parsed)) {
      throw new Error("jwks_uri of the discovery document is no https URL");
    }
    // An issuer elsewhere does not send a gateway to what listens on the gateway's own machine.
    if (parsed.protocol === "http:" && new URL(url).protocol !== "http:") {
      throw new Error("jwks_uri of the discovery document is no https URL");
    }
    const { keys } = await this.#fetch(parsed.href, signal);
    if (!Array.isArray(keys)) throw new Error("the key set has no keys");
    if (keys.length > OIDC_KEYS_MAX) throw new Error(`the key set has over ${OIDC_KEYS_MAX} keys`);
    return keysById(keys);
  }

  #unavailable(): RequestRefused {
    return new RequestRefused("UNAVAILABLE", `the keys of ${this.rules.url} cannot be fetched now`);
  }
}

/** `fetch` says why it failed in the cause only. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = (error.cause ?? {}) as { readonly code?: unknown };
  return typeof code === "string" ? `${error.message} (${code})` : error.message;
}

const gives = (what: string): RequestRefused =>
  new RequestRefused("FORBIDDEN", `the token gives ${what} here`, {
    headers: ["WWW-Authenticate", 'Bearer realm="minikv", error="insufficient_scope"'],
  });

function claimAt(claims: JsonObject, path: readonly string[]): unknown {
  let value: unknown = claims;
  for (const name of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name))
      return undefined;
    value = (value as JsonObject)[name];
  }
  return value;
}

/** Of a text or a list of texts; what the rules do not name gives nothing. */
function highestRole(claim: unknown, roles: ReadonlyMap<string, Role>): Role | undefined {
  const values: readonly unknown[] = Array.isArray(claim) ? claim : [claim];
  let highest: Role | undefined;
  for (const value of values) {
    const role = typeof value === "string" ? roles.get(value) : undefined;
    if (role === undefined) continue;
    if (highest === undefined || ROLES.indexOf(role) > ROLES.indexOf(highest)) highest = role;
  }
  return highest;
}

/** Keys that can verify; others are left out, and so are ids that are there twice. */
function keysById(list: readonly unknown[]): ReadonlyMap<string, ForeignKey> {
  const keys = new Map<string, ForeignKey>();
  const twice = new Set<string>();
  for (const jwk of list) {
    if (typeof jwk !== "object" || jwk === null) continue;
    const { kid } = jwk as JsonObject;
    const key = verifyingKey(jwk as JsonObject);
    if (typeof kid !== "string" || key === undefined) continue;
    if (keys.has(kid)) twice.add(kid);
    keys.set(kid, key);
  }
  for (const kid of twice) keys.delete(kid);
  return keys;
}

/** Undefined for a key that is of another kind, too weak, or meant for something else. */
function verifyingKey(jwk: JsonObject): ForeignKey | undefined {
  const { use = "sig", key_ops: operations = ["verify"], alg } = jwk;
  if (use !== "sig" || !Array.isArray(operations) || !operations.includes("verify"))
    return undefined;
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey({ key: jwk as Record<string, string>, format: "jwk" });
  } catch {
    return undefined;
  }
  const algorithm = algorithmOf(publicKey);
  if (algorithm === undefined || (alg !== undefined && alg !== algorithm)) return undefined;
  return { algorithm, publicKey };
}

function algorithmOf(key: KeyObject): TokenAlgorithm | undefined {
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "ed25519":
      return "EdDSA";
    case "ec":
      return namedCurve === "prime256v1" ? "ES256" : undefined;
    case "rsa":
      return modulusLength >= RSA_BITS_MIN && modulusLength <= RSA_BITS_MAX ? "RS256" : undefined;
    default:
      return undefined;
  }
}
