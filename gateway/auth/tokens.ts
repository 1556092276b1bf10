/** Tokens put together: keys, issuer, verifier, routes, and the upkeep of the keys. */

import type { KeyWrapper } from "#gateway/codec/master-keys.ts";
import type { Directory } from "#gateway/directory/directory.ts";
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { SIGNING_KEYS_CHECK_INTERVAL_MS, SIGNING_KEYS_RETRY_MS } from "#shared/limits-tokens.ts";
import type { Random } from "#shared/random.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { ForeignIssuer, type ForeignIssuers } from "./foreign-issuer.ts";
import { parseOidcFile } from "./oidc-file.ts";
import type { Refusals } from "./refusals.ts";
import { SigningKeys } from "./signing-keys.ts";
import { TokenIssuer } from "./token-issuer.ts";
import { tokenRoutes } from "./token-routes.ts";
import type { TokenConfig } from "./token-settings.ts";
import { TokenVerifier } from "./token-verifier.ts";
import type { CredentialVerifier } from "./verifier.ts";

export type TokensOptions = {
  readonly config: TokenConfig;
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly refusals: Refusals;
  readonly stalenessMaxMs: number;
  /** Undefined without a master key: then private keys lie open in the directory. */
  readonly wrapper: KeyWrapper | undefined;
  readonly clock: Clock;
  /** Secure. */
  readonly random: Random;
  readonly logger: Pick<Logger, "info" | "warn">;
  readonly readFile: (path: string) => string;
  /** False where nobody is authenticated: then no keys are made. */
  readonly isUsed: boolean;
};

export type Tokens = {
  readonly verifier: CredentialVerifier & Pick<TokenVerifier, "verifyTicket">;
  readonly issuer: Pick<TokenIssuer, "issueTicket">;
  readonly refusals: Refusals;
  /** Tokens that are remembered as verified. */
  readonly remembered: () => number;
  readonly routes: readonly ManagedRoute[];
  readonly stop: () => void;
};

/** @throws ConfigError when `oidc-file` cannot be read or used */
export function openTokens(options: TokensOptions): Tokens {
  const { config, wrapper } = options;
  const { directory, clock, random } = options;
  const issuer = config.tokenIssuer;
  const audience = config.tokenAudience;
  const rotationMs = config.tokenKeyRotationMs;
  const signingKeys = new SigningKeys({ directory, clock, rotationMs, wrapper });
  const verifier = new TokenVerifier({
    ...{ directory, clock, random, signingKeys, issuer, audience },
    foreign: foreignIssuers(options, issuer),
    tenants: options.tenants,
    refusals: options.refusals,
    stalenessMaxMs: options.stalenessMaxMs,
  });
  const tokens = new TokenIssuer({
    ...{ directory, clock, random, signingKeys, issuer, audience },
    ttlMs: config.tokenTtlMs,
  });
  return {
    verifier,
    issuer: tokens,
    refusals: options.refusals,
    remembered: () => verifier.remembered,
    routes: tokenRoutes({ tokens, signingKeys, issuer }),
    stop: options.isUsed ? keepUp(signingKeys, options) : () => undefined,
  };
}

function foreignIssuers(
  { config, clock, logger, readFile }: TokensOptions,
  own: string,
): ForeignIssuers {
  const path = config.oidcFile;
  if (path === "") return new Map();
  let text: string;
  try {
    text = readFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(`oidc-file: cannot read ${path}: ${reason}`);
  }
  const onTrouble = (url: string, reason: string): void =>
    logger.warn({ issuer: url, reason }, "cannot fetch the keys of an issuer");
  const issuers = parseOidcFile(text, path).map((rules) => {
    if (rules.url === own) throw new ConfigError(`${path}: ${own} is this cluster's own issuer`);
    return new ForeignIssuer({ rules, clock, onTrouble });
  });
  return new Map(issuers.map((issuer) => [issuer.rules.url, issuer]));
}

/** Looks after the keys from time to time, until it is stopped. */
function keepUp(
  signingKeys: SigningKeys,
  { directory, clock, random, logger }: TokensOptions,
): () => void {
  let stopped = false;
  let cancel: () => void;
  const look = async (): Promise<void> => {
    let nextMs = SIGNING_KEYS_RETRY_MS;
    if (directory.isKnown) {
      try {
        await signingKeys.maintain();
        nextMs = SIGNING_KEYS_CHECK_INTERVAL_MS;
      } catch (err) {
        logger.warn({ err }, "the keys that sign tokens could not be looked after");
      }
    }
    // Not all gateways at the same moment.
    if (!stopped) cancel = clock.after(nextMs + random.below(nextMs), () => void look());
  };
  cancel = clock.after(random.below(SIGNING_KEYS_RETRY_MS), () => void look());
  return () => {
    stopped = true;
    cancel();
  };
}
