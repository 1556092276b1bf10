/**
 * The gate of a gateway: takes the credentials from the request, has them verified, finds out which tenant
 * is meant, and asks the one table for each operation.
 *
 * A request whose credentials are remembered passes without waiting for anything.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import type { Limiter } from "#gateway/limits/limiter.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { TenantId } from "#shared/ids.ts";
import { CREDENTIAL_LENGTH_MAX } from "#shared/limits.ts";
import { refuseInactive } from "./active-tenant.ts";
import { API_KEY_LENGTH, API_KEY_MARK } from "./api-key.ts";
import { decide } from "./authorize.ts";
import type { Caller, Operation, Principal } from "./caller.ts";
import type { Gate } from "./gate.ts";
import type { AuthFailure, Refusals } from "./refusals.ts";
import { type CredentialVerifier, directoryUnknown, noCredentials } from "./verifier.ts";

export type KeyGateOptions = {
  readonly tenants: Tenants;
  /** Whether all tenants have been heard of. */
  readonly isKnown: () => boolean;
  readonly refusals: Refusals;
  /** Asked in turn; the first that knows the kind of the credential decides. */
  readonly verifiers: readonly CredentialVerifier[];
  /** Who everybody is when authentication is off: then credentials are not looked at. */
  readonly anybody?: Principal | undefined;
  readonly limiter?: Limiter | undefined;
};

const NO_HEADERS: readonly string[] = [];
/** For one who was let in with these credentials, and so may know what became of them. */
const WORDS_OF: Readonly<Record<AuthFailure["reason"], string>> = {
  revoked: "the credentials were revoked",
  unknown: "the API key was deleted",
  expired: "the credentials have expired",
  network: "the API key is not taken from this address any more",
  malformed: "the credentials are not valid any more",
  secret: "the credentials are not valid any more",
  audience: "the credentials are not valid any more",
  signature: "the credentials are not valid any more",
  other: "the credentials are not valid any more",
};
/** RFC 6750, 2.1, and the scheme is in any case (RFC 9110, 11.1). */
const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*) *$/i;
const BEARER_LENGTH = "Bearer ".length;
const USUAL_START = `Bearer ${API_KEY_MARK}`;
const USUAL_LENGTH = BEARER_LENGTH + API_KEY_LENGTH;
const BEARER_SCHEME = /^bearer(?: |$)/i;
/** Without a comma: it joins headers that were given several times. */
const VISIBLE = /^[!-+\--~]+$/;

export class KeyGate implements Gate {
  readonly #tenants: Tenants;
  readonly #isKnown: () => boolean;
  readonly #refusals: Refusals;
  readonly #verifiers: readonly CredentialVerifier[];
  readonly #anybody: Principal | undefined;
  readonly #limiter: Limiter | undefined;

  constructor(options: KeyGateOptions) {
    this.#tenants = options.tenants;
    this.#isKnown = options.isKnown;
    this.#refusals = options.refusals;
    this.#verifiers = options.verifiers;
    this.#anybody = options.anybody;
    this.#limiter = options.limiter;
  }

  enter(exchange: Exchange): Caller | Promise<Caller> {
    this.#limiter?.admit(exchange, undefined);
    const principal = this.#whoSends(exchange);
    if (!(principal instanceof Promise)) return this.#admit(principal, exchange);
    return principal.then((verified) => this.#admit(verified, exchange));
  }

  /** @throws RequestRefused */
  #whoSends(exchange: Exchange): Principal | Promise<Principal> {
    if (this.#anybody !== undefined) return this.#anybody;
    const credential = this.#credentialOf(exchange);
    for (const verifier of this.#verifiers) {
      const verified = verifier.verify(credential, exchange);
      if (verified !== undefined) return verified;
    }
    return this.#refusals.refuse(exchange, "malformed");
  }

  #credentialOf(exchange: Exchange): string {
    try {
      return credentialOf(exchange);
    } catch (error) {
      this.#refusals.count("missing");
      throw error;
    }
  }

  async renew(exchange: Exchange): Promise<void> {
    const { role, tenant } = await this.#whoSends(exchange);
    if (role !== "ClusterAdmin") refuseInactive(this.#tenants, tenant);
  }

  enterUnknown(exchange: Exchange): void {
    this.#limiter?.admit(exchange, undefined);
  }

  authorize(caller: Caller, operation: Operation): void {
    const { principal } = caller;
    const { allowed, detail } = decide(principal, operation);
    if (!allowed) {
      this.#refusals.count("forbidden");
      throw new RequestRefused("FORBIDDEN", detail);
    }
    // Others were asked when they entered. An administrator sees a suspended tenant, but not its keys.
    if (principal.role === "ClusterAdmin" && operation.action.startsWith("kv.")) {
      refuseInactive(this.#tenants, operation.tenant);
    }
  }

  enterAs(principal: Principal, exchange: Exchange): Caller {
    refuseInactive(this.#tenants, principal.tenant);
    return this.#callerOf(principal, principal.tenant, exchange);
  }

  whyEnded(
    caller: Caller,
    exchange: Exchange,
    operations: readonly Operation[],
  ): string | undefined {
    const { basis } = caller.principal;
    const reason = basis?.whyNot(exchange);
    if (reason !== undefined) return WORDS_OF[reason];
    const tenant = this.#tenants.get(caller.tenant);
    if (tenant?.state !== "active") {
      return `the tenant ${tenant === undefined ? "does not exist any more" : `is ${tenant.state}`}`;
    }
    const principal = basis === undefined ? caller.principal : basis.principal;
    for (const operation of operations) {
      const { allowed, detail } = decide(principal, operation);
      if (!allowed) return detail;
    }
    return undefined;
  }

  #admit(principal: Principal, exchange: Exchange): Caller {
    if (principal.role !== "ClusterAdmin") refuseInactive(this.#tenants, principal.tenant);
    const named = exchange.header("minikv-tenant");
    const tenant = named === undefined ? principal.tenant : this.#tenantNamed(named, principal);
    return this.#callerOf(principal, tenant, exchange);
  }

  #callerOf(principal: Principal, tenant: TenantId, exchange: Exchange): Caller {
    const caller = { principal, tenant, answerHeaders: NO_HEADERS };
    if (this.#limiter === undefined) return caller;
    return { ...caller, answerHeaders: this.#limiter.admit(exchange, caller) };
  }

  /** Who may not name a tenant is not told whether it exists. */
  #tenantNamed(name: string, { role, tenant }: Principal): TenantId {
    const found = this.#tenants.byName(name);
    if (role !== "ClusterAdmin") {
      if (found?.id === tenant) return tenant;
      throw new RequestRefused("FORBIDDEN", "Minikv-Tenant names another tenant than the caller's");
    }
    if (found !== undefined) return found.id;
    if (!this.#isKnown()) throw directoryUnknown();
    throw new RequestRefused("RESOURCE_NOT_FOUND", "Minikv-Tenant names no tenant");
  }
}

/** @throws RequestRefused UNAUTHENTICATED when there is none that is known here, INVALID_ARGUMENT when it is not one */
function credentialOf(exchange: Exchange): string {
  const authorization = exchange.header("authorization");
  const apiKey = exchange.header("x-api-key");
  if (authorization === undefined) {
    if (apiKey === undefined) throw noCredentials();
    if (isCredential(apiKey)) return apiKey;
    throw malformed("X-API-Key must be one API key");
  }
  // Which one counts must not depend on who reads the request.
  if (apiKey !== undefined) throw malformed("give Authorization or X-API-Key, not both");
  // The usual form. Whether it is a key is found out by who looks it up, or parses it.
  if (authorization.length === USUAL_LENGTH && authorization.startsWith(USUAL_START)) {
    return authorization.slice(BEARER_LENGTH);
  }
  if (!BEARER_SCHEME.test(authorization)) throw noCredentials();
  const token = BEARER.exec(authorization)?.[1];
  if (token !== undefined && token.length <= CREDENTIAL_LENGTH_MAX) return token;
  throw malformed("Authorization must be Bearer and one API key or token");
}

const isCredential = (text: string): boolean =>
  text.length <= CREDENTIAL_LENGTH_MAX && VISIBLE.test(text);
