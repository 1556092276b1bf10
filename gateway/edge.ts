/**
 * What stands between the HTTP listener and the storage client, put together: who may enter, how much, and
 * in which form values are stored.
 *
 * Storage is wrapped from the inside out: the client, then quotas (which count what is stored), then
 * compression and encryption. So the routes see plain values and know nothing of either.
 */
import { readFileSync } from "node:fs";
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { HostPort } from "#shared/runtime/config-value.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import { keyRoutes } from "./admin/key-routes.ts";
import type { Gate } from "./auth/gate.ts";
import { openAuth } from "./auth/open-auth.ts";
import type { Refusals } from "./auth/refusals.ts";
import { isAuthRequired } from "./auth/settings.ts";
import type { TenantStates } from "./auth/tenant-states.ts";
import { openTokens, type Tokens } from "./auth/tokens.ts";
import type { Directory } from "./directory/directory.ts";
import type { EdgeConfig } from "./edge-settings.ts";
import type { ManagedRoute } from "./http/managed-route.ts";
import type { Storage } from "./storage/storage.ts";

export type EdgeOptions = {
  readonly config: EdgeConfig;
  readonly listen: HostPort;
  readonly storage: Storage;
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
};

export type Edge = {
  readonly gate: Gate;
  /** What routes store to and read from. */
  readonly storage: Storage;
  readonly routes: readonly ManagedRoute[];
  /** After the listener is closed, and before storage is. */
  readonly stopSteps: readonly StopStep[];
};

/** @throws ConfigError when a file that the settings name cannot be read or used */
export async function openEdge(options: EdgeOptions): Promise<Edge> {
  const { directory, clock, logger } = options;
  let tokens: Tokens | undefined;
  const auth = openAuth({
    ...options,
    verifiers: (refusals, tenants) => {
      tokens = tokensOf(options, refusals, tenants);
      return [tokens.verifier];
    },
  });
  const keys = keyRoutes({
    ...{ store: auth.keys, tenants: auth.tenants, directory, clock },
    onEvent: ({ kind, keyId, tenant, by, requestId }) =>
      logger.info(
        { kind, key: keyId, tenant, by: by.id, request_id: requestId },
        "API key changed",
      ),
  });
  return {
    gate: auth.gate,
    storage: options.storage,
    routes: [...keys, ...(tokens?.routes ?? [])],
    stopSteps: [
      ...auth.stopSteps,
      { name: "no longer look after the keys of tokens", run: () => tokens?.stop() },
    ],
  };
}

const tokensOf = (
  { config, listen, directory, clock, random, logger }: EdgeOptions,
  refusals: Refusals,
  tenants: TenantStates,
): Tokens =>
  openTokens({
    ...{ config, directory, tenants, refusals, clock, random, logger },
    stalenessMaxMs: config.authStalenessMaxMs,
    // Private keys of tokens lie open in the directory until there is a master key to wrap them.
    wrapper: undefined,
    readFile: (path) => readFileSync(path, "utf8"),
    isUsed: isAuthRequired(config, listen),
  });
