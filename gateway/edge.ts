/**
 * What stands between the HTTP listener and the storage client, put together: who may enter, how much, and
 * in which form values are stored.
 *
 * Storage is wrapped from the inside out: the client, then quotas (which count what is stored), then
 * compression and encryption. So the routes see plain values and know nothing of either.
 */
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { HostPort } from "#shared/runtime/config-value.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import { keyRoutes } from "./admin/key-routes.ts";
import type { Audit } from "./audit/audit.ts";
import { openAudit } from "./audit/open-audit.ts";
import type { Gate } from "./auth/gate.ts";
import { openAuth } from "./auth/open-auth.ts";
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
  readonly audit: Audit;
  /** The process begins to stop: what waits for news ends, so that the listener can close. */
  readonly stopping: () => void;
  /** After the listener is closed, and before storage is. */
  readonly stopSteps: readonly StopStep[];
};

/** @throws ConfigError when a file that the settings name cannot be read or used */
export async function openEdge(options: EdgeOptions): Promise<Edge> {
  const { directory, clock, logger } = options;
  const audit = await openAudit(options);
  const auth = openAuth(options);
  return {
    gate: auth.gate,
    storage: options.storage,
    routes: [
      ...keyRoutes({
        ...{ store: auth.keys, tenants: auth.tenants, directory, clock },
        onEvent: ({ kind, keyId, tenant, by, requestId }) =>
          logger.info(
            { kind, key: keyId, tenant, by: by.id, request_id: requestId },
            "API key changed",
          ),
      }),
      audit.route,
    ],
    audit: audit.audit,
    stopping: audit.stopping,
    // The audit log last: what the others do while they end is recorded too.
    stopSteps: [...auth.stopSteps, audit.stopStep],
  };
}
