/**
 * Tokens as credentials: those that gateways of this cluster issued, and those of configured issuers.
 *
 * A token is verified once and then remembered by a keyed digest. What can change behind it is looked at
 * on every use: its signing key and the API key that it was made with; the gate looks at its tenant. So a
 * token is refused as soon as this gateway has heard that any of them is gone, which takes a second at most.
 *
 * Which keys may verify a token follows from its `iss` alone, and never from anything else in it: a key id
 * is looked for only among the keys of that issuer, and each key goes with one algorithm.
 */
import type { errors as JoseErrors, JWTVerifyOptions } from "jose";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { NODE_SILENT_MS } from "#shared/limits.ts";
import {
  FOREIGN_TOKEN_REMEMBERED_MS_MAX,
  TOKEN_CLOCK_SKEW_MS,
  TOKEN_VERIFICATIONS_AT_ONCE_MAX,
  TOKEN_VERIFICATIONS_WAITING_MAX,
  TOKENS_REMEMBERED_MAX,
} from "#shared/limits-tokens.ts";
import type { Random } from "#shared/random.ts";
import type { Principal } from "./caller.ts";
import { looksLikeToken, type ParsedToken, parseToken } from "./compact-token.ts";
import { type ForeignIssuer, type ForeignIssuers, TokenWrong } from "./foreign-issuer.ts";
import {
  endMsOf,
  keyRowName,
  liveSecrets,
  secretMark,
  storedKeyOf,
  whyNotValid,
} from "./key-records.ts";
import { isInside, networkList } from "./networks.ts";
import type { AuthFailure, Refusals } from "./refusals.ts";
import { type SigningKey, type SigningKeys, signingKeyRow } from "./signing-keys.ts";
import type { JsonObject } from "./strict-json.ts";
import { TokenBasis, withdrawalOf } from "./token-basis.ts";
import {
  ACCESS_TOKEN_TYPE,
  type Grant,
  grantOfClaims,
  isCovered,
  TICKET_AUDIENCE,
  TICKET_ISSUED_BY,
  TICKET_TYPE,
  type TicketIssuedBy,
} from "./token-claims.ts";
import { VerdictCache } from "./verdict-cache.ts";
import type { CredentialVerifier } from "./verifier.ts";
import { WorkQueue } from "./work-queue.ts";

export type TokenVerifierOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  /** Secure. */
  readonly random: Random;
  readonly signingKeys: SigningKeys;
  readonly issuer: string;
  readonly audience: string;
  readonly foreign: ForeignIssuers;
  readonly tenants: Pick<Tenants, "byName">;
  readonly refusals: Refusals;
  /** How long the directory may be silent before its rows are no longer believed. */
  readonly stalenessMaxMs: number;
};

type Reason = AuthFailure["reason"];

/** A token whose signature and claims were right. */
type Verified = {
  readonly principal: Principal;
  readonly untilMs: number;
  /** Why it is not taken any more; undefined while all that it rests on is there. */
  readonly whyNot: (exchange: Exchange) => Reason | undefined;
};

export type VerifiedTicket = {
  readonly principal: Principal;
  readonly by: TicketIssuedBy;
  /** Of this very ticket. */
  readonly id: Uint8Array;
  readonly claims: JsonObject;
};

export class TokenVerifier implements CredentialVerifier {
  readonly #options: TokenVerifierOptions;
  readonly #cache: VerdictCache<Verified>;
  /** Of tokens that several requests show at once, by name. */
  readonly #underWay = new Map<string, Promise<Verified>>();
  readonly #queue = new WorkQueue({
    atOnceMax: TOKEN_VERIFICATIONS_AT_ONCE_MAX,
    waitingMax: TOKEN_VERIFICATIONS_WAITING_MAX,
  });

  constructor(options: TokenVerifierOptions) {
    this.#options = options;
    const { random } = options;
    this.#cache = new VerdictCache({ random, entriesMax: TOKENS_REMEMBERED_MAX });
  }

  /** Credentials that are remembered as verified or refused. */
  get remembered(): number {
    return this.#cache.size;
  }

  verify(credential: string, exchange: Exchange): Principal | Promise<Principal> | undefined {
    if (!looksLikeToken(credential)) return undefined;
    this.#refuseSilence();
    const name = this.#cache.nameOf(credential);
    const verified = this.#cache.get(name);
    if (verified !== undefined && this.#options.clock.nowMs() < verified.untilMs) {
      return this.#use(verified, exchange);
    }
    // Its own time may be over, or only the time for which it is remembered.
    return this.#verifyAnew(name, credential, exchange);
  }

  /**
   * A ticket for one watch. Nothing is remembered of it: it is shown once. Whether it was used before is for
   * whoever asks.
   *
   * @throws RequestRefused UNAUTHENTICATED, RATE_LIMITED, UNAVAILABLE, OVERLOADED
   */
  async verifyTicket(ticket: string, exchange: Exchange): Promise<VerifiedTicket> {
    this.#refuseSilence();
    try {
      const verified = await this.#verifiedTicket(ticket);
      const reason = verified.principal.basis?.whyNot(exchange);
      if (reason === undefined) return verified;
      throw new TokenWrong(reason);
    } catch (error) {
      if (!(error instanceof TokenWrong)) throw error;
      return this.#options.refusals.refuse(exchange, error.reason);
    }
  }

  async #verifiedTicket(ticket: string): Promise<VerifiedTicket> {
    const { clock, issuer, signingKeys } = this.#options;
    const parsed = parseToken(ticket);
    if (parsed?.type !== TICKET_TYPE || parsed.algorithm !== "EdDSA") {
      throw new TokenWrong("malformed");
    }
    const signingKey = signingKeys.get(parsed.keyId);
    if (signingKey === undefined) throw this.#unknownKey();
    const claims = await this.#checked(ticket, signingKey.publicKey, {
      ...{ algorithms: ["EdDSA"], issuer, audience: TICKET_AUDIENCE },
      skewMs: TOKEN_CLOCK_SKEW_MS,
    });
    const grant = grantOfClaims(claims);
    const by = Object.values(TICKET_ISSUED_BY).find((known) => known === claims.by);
    const { sub, until } = claims;
    const id = Buffer.from(typeof claims.jti === "string" ? claims.jti : "", "base64url");
    if (grant === undefined || by === undefined || typeof sub !== "string" || id.length === 0) {
      throw new TokenWrong("malformed");
    }
    const isKey = by === TICKET_ISSUED_BY.key;
    let whyNot: Verified["whyNot"] = this.#signerWatchOf(signingKey);
    if (isKey) whyNot = this.#watchOf(sub, grant, signingKey, textOf(claims.secret));
    else if (by === TICKET_ISSUED_BY.foreign) whyNot = await this.#foreignWatchOf(claims, whyNot);
    const { principal } = new TokenBasis(
      { kind: by === TICKET_ISSUED_BY.open ? "open" : "token", id: sub, ...grant },
      {
        clock,
        keyId: isKey ? sub : undefined,
        endsAtMs: typeof until === "number" ? until * 1000 : Number.POSITIVE_INFINITY,
        whyNot,
      },
    );
    return { principal, by, id, claims };
  }

  /** @throws RequestRefused UNAVAILABLE: a revocation could have been missed */
  #refuseSilence(): void {
    const { directory, stalenessMaxMs } = this.#options;
    if (directory.isKnown && directory.silenceMs() <= stalenessMaxMs) return;
    throw new RequestRefused("UNAVAILABLE", "the keys of tokens are not up to date here");
  }

  #use({ whyNot, principal }: Verified, exchange: Exchange): Principal {
    const reason = whyNot(exchange);
    return reason === undefined
      ? principal
      : this.#options.refusals.refuse(exchange, reason, principal.id);
  }

  async #verifyAnew(name: string, token: string, exchange: Exchange): Promise<Principal> {
    let verified: Verified;
    try {
      verified = await (this.#underWay.get(name) ?? this.#begin(name, token));
    } catch (error) {
      if (!(error instanceof TokenWrong)) throw error;
      return this.#options.refusals.refuse(exchange, error.reason);
    }
    return this.#use(verified, exchange);
  }

  #begin(name: string, token: string): Promise<Verified> {
    const work = this.#verified(token)
      .then((verified) => {
        this.#cache.set(name, verified);
        return verified;
      })
      .finally(() => this.#underWay.delete(name));
    this.#underWay.set(name, work);
    return work;
  }

  /** @throws TokenWrong, RequestRefused UNAVAILABLE, OVERLOADED */
  async #verified(token: string): Promise<Verified> {
    const parsed = parseToken(token);
    if (parsed === undefined) throw new TokenWrong("malformed");
    const { iss } = parsed.claims;
    if (iss === this.#options.issuer) return this.#verifiedOwn(token, parsed);
    const foreign = typeof iss === "string" ? this.#options.foreign.get(iss) : undefined;
    if (foreign === undefined) throw new TokenWrong("unknown");
    return this.#verifiedForeign(token, parsed, foreign);
  }

  async #verifiedOwn(token: string, parsed: ParsedToken): Promise<Verified> {
    const { issuer, audience, signingKeys } = this.#options;
    if (parsed.type !== ACCESS_TOKEN_TYPE || parsed.algorithm !== "EdDSA") {
      throw new TokenWrong("malformed");
    }
    const signingKey = signingKeys.get(parsed.keyId);
    if (signingKey === undefined) throw this.#unknownKey();
    const claims = await this.#checked(token, signingKey.publicKey, {
      ...{ algorithms: ["EdDSA"], issuer, audience },
      skewMs: TOKEN_CLOCK_SKEW_MS,
    });
    const grant = grantOfClaims(claims);
    const { sub } = claims;
    if (grant === undefined || typeof sub !== "string") throw new TokenWrong("malformed");
    const untilMs = endOf(claims) + TOKEN_CLOCK_SKEW_MS;
    const whyNot = this.#watchOf(sub, grant, signingKey);
    const named: Principal = { kind: "token", id: sub, ...grant };
    const { clock } = this.#options;
    const { principal } = new TokenBasis(named, { clock, keyId: sub, endsAtMs: untilMs, whyNot });
    return { principal, untilMs, whyNot };
  }

  /** A gateway that hears nothing may have missed a key: then nobody knows whether the token is wrong. */
  #unknownKey(): Error {
    if (this.#options.directory.silenceMs() <= NODE_SILENT_MS) return new TokenWrong("unknown");
    return new RequestRefused("UNAVAILABLE", "the keys of tokens are not up to date here");
  }

  /** What looks at the rows behind a token. They are decoded only when they have changed. */
  #watchOf(keyId: string, grant: Grant, signingKey: SigningKey, mark?: string): Verified["whyNot"] {
    const { directory, clock, refusals } = this.#options;
    const keyRow = keyRowName(keyId);
    const whyNotSigner = this.#signerWatchOf(signingKey);
    let seen = Number.NaN;
    let endMs = 0;
    let networks: ReturnType<typeof networkList>;
    return (exchange) => {
      const row = directory.get(keyRow);
      if (row === undefined) return "unknown";
      if (row.revision !== seen) {
        const key = storedKeyOf(row, keyId);
        if (key === undefined) return "unknown";
        const why = whyNotValid(key.record, clock.nowMs());
        if (why !== undefined) return why;
        if (!isCovered(grant, key)) return "revoked";
        // Of a ticket the secret that was shown for it must still be one, or the key's rotation would end nothing.
        const secret = liveSecrets(key.record, clock.nowMs()).find(
          ({ hash }) => mark === undefined || secretMark(hash) === mark,
        );
        if (mark !== undefined && secret === undefined) return "revoked";
        endMs = endMsOf(key.record, mark === undefined ? 0n : secret!.expiresAtMs);
        networks = networkList(key.record.networks);
        seen = row.revision;
      }
      if (clock.nowMs() >= endMs) return "expired";
      const why = whyNotSigner();
      if (why !== undefined) return why;
      const isHere = networks === undefined || isInside(networks, refusals.addressOf(exchange));
      return isHere ? undefined : "network";
    };
  }

  /** What a ticket rests on that was made with a token of another issuer: that issuer's key, and `whyNotSigner`. */
  async #foreignWatchOf(
    claims: JsonObject,
    whyNotSigner: Verified["whyNot"],
  ): Promise<Verified["whyNot"]> {
    const [iss, keyId] = [textOf(claims.token_iss), textOf(claims.token_kid)];
    const issuer = iss === undefined ? undefined : this.#options.foreign.get(iss);
    if (issuer === undefined || keyId === undefined) throw new TokenWrong("unknown");
    const key = await issuer.keyOf(keyId);
    if (key === undefined) throw new TokenWrong("revoked");
    const whyWithdrawn = withdrawalOf(key, issuer, { keyId, clock: this.#options.clock });
    return (exchange) => whyNotSigner(exchange) ?? whyWithdrawn();
  }

  /** Only the key that signed. */
  #signerWatchOf(signingKey: SigningKey): () => Reason | undefined {
    const { directory, signingKeys } = this.#options;
    const row = signingKeyRow(signingKey.keyId);
    let seen = signingKey.revision;
    return () => {
      const revision = directory.get(row)?.revision;
      if (revision === undefined) return "revoked";
      if (revision === seen) return undefined;
      // Its private key may have been wrapped anew: the token is as good as it was.
      const now = signingKeys.get(signingKey.keyId);
      if (now?.publicKey.equals(signingKey.publicKey) !== true) return "revoked";
      seen = revision;
      return undefined;
    };
  }

  async #verifiedForeign(
    token: string,
    parsed: ParsedToken,
    issuer: ForeignIssuer,
  ): Promise<Verified> {
    const { clock, tenants } = this.#options;
    const { url, audiences, skewMs } = issuer.rules;
    if (!issuer.takes(parsed)) throw new TokenWrong("malformed");
    // The issuer is waited for outside of the queue: one that is down holds up its own tokens only.
    const key = await issuer.keyOf(parsed.keyId);
    if (key?.algorithm !== parsed.algorithm) throw new TokenWrong("unknown");
    const claims = await this.#checked(token, key.publicKey, {
      algorithms: [parsed.algorithm],
      issuer: url,
      audience: [...audiences],
      skewMs,
    });
    const endsAtMs = endOf(claims) + skewMs;
    const { principal } = new TokenBasis(issuer.principalOf(claims, tenants), {
      ...{ clock, endsAtMs, keyId: undefined },
      origin: { token_iss: url, token_kid: parsed.keyId },
      whyNot: withdrawalOf(key, issuer, { keyId: parsed.keyId, clock }),
    });
    return {
      principal,
      untilMs: Math.min(endsAtMs, clock.nowMs() + FOREIGN_TOKEN_REMEMBERED_MS_MAX),
      whyNot: () => undefined,
    };
  }

  /** Signature, issuer, audience and times. @throws TokenWrong, RequestRefused OVERLOADED */
  async #checked(
    token: string,
    key: SigningKey["publicKey"],
    { skewMs, ...rules }: JWTVerifyOptions & { readonly skewMs: number },
  ): Promise<JsonObject> {
    const verification = this.#queue.run(async () => {
      // Loaded with the first token: most programs never see one.
      const { errors, jwtVerify } = await import("jose");
      try {
        const { payload } = await jwtVerify(token, key, {
          ...rules,
          clockTolerance: skewMs / 1000,
          currentDate: new Date(this.#options.clock.nowMs()),
          requiredClaims: ["iss", "aud", "sub", "iat", "exp"],
        });
        return payload;
      } catch (error) {
        throw new TokenWrong(reasonOf(error, errors));
      }
    });
    if (verification === undefined) {
      throw new RequestRefused("OVERLOADED", "too many tokens wait for being verified");
    }
    return verification;
  }
}

const textOf = (claim: unknown): string | undefined =>
  typeof claim === "string" ? claim : undefined;

const endOf = ({ exp }: JsonObject): number => Number(exp) * 1000;

/** For the operator's log; whoever sent the token is not told. */
function reasonOf(error: unknown, errors: typeof JoseErrors): Reason {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWSSignatureVerificationFailed) return "signature";
  const isClaim = error instanceof errors.JWTClaimValidationFailed;
  return isClaim && error.claim === "aud" ? "audience" : "other";
}
