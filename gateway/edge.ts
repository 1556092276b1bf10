/**
 * What stands between the HTTP listener and the storage client, put together: who may enter, how much, and
 * in which form values are stored.
 *
 * Storage is wrapped from the inside out: the client, then quotas (which count what is stored), then
 * compression and encryption. So the routes see plain values and know nothing of either.
 */
import { readFileSync } from "node:fs";
import type { Clock } from "#shared/clock.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { missingFeature } from "#shared/features.ts";
import type { TenantId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { HostPort } from "#shared/runtime/config-value.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import { noTracing, type Tracing } from "#shared/tracing.ts";
import { keyRoutes } from "./admin/key-routes.ts";
import type { Audit } from "./audit/audit.ts";
import { type OpenedAudit, openAudit } from "./audit/open-audit.ts";
import type { Caller } from "./auth/caller.ts";
import type { Gate } from "./auth/gate.ts";
import { type Auth, openAuth } from "./auth/open-auth.ts";
import type { AuthFailureReport } from "./auth/refusals.ts";
import { isAuthRequired } from "./auth/settings.ts";
import { openTokens, type Tokens, type TokensOptions } from "./auth/tokens.ts";
import { loadMasterKeys } from "./codec/master-key-source.ts";
import { keyWrapperOf } from "./codec/master-keys.ts";
import { openCodec } from "./codec/open-codec.ts";
import type { Directory } from "./directory/directory.ts";
import type { EdgeConfig } from "./edge-settings.ts";
import type { ManagedRoute } from "./http/managed-route.ts";
import type { FailureReport } from "./http/problem.ts";
import { JobRunner } from "./jobs/runner.ts";
import { openLimits } from "./limits/open-limits.ts";
import type { TenantFigures } from "./limits/tenant-figures.ts";
import type { ResealableStorage, Storage } from "./storage/storage.ts";
import { TenantDeletion } from "./tenants/deletion.ts";
import { OrphanSweep } from "./tenants/orphans.ts";
import { TenantRegistry, type Tenants } from "./tenants/registry.ts";
import { tenantRoutes } from "./tenants/routes.ts";
import { DeliveryTraces } from "./tracing/delivery-traces.ts";
import type { ChangeLog, LiveChanges } from "./watch/change-source.ts";
import { openWatchRoutes } from "./watch/http/open-watch-routes.ts";
import type { WatchTicketsOptions } from "./watch/http/tickets.ts";
import type { WatchRoutes } from "./watch/http/watch-routes.ts";
import { type LiveSource, openLiveSource } from "./watch/live-source.ts";
import { type OpenedWatch, openWatch } from "./watch/open-watch.ts";
import type { Watches } from "./watch/watches.ts";

export type EdgeOptions = {
  readonly config: EdgeConfig;
  readonly listen: HostPort;
  readonly storage: ResealableStorage;
  readonly directory: Directory;
  /** The change logs of the storage nodes, and news of them. */
  readonly changes: ChangeLog & LiveChanges;
  /** Undefined until a cluster map is known. */
  readonly clusterId: () => string | undefined;
  /** The newest map known. Without it the cluster is taken to have all features. */
  readonly map?: (() => ClusterMap | undefined) | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** By default nothing is traced. */
  readonly tracing?: Tracing;
};

/** What metrics read. */
export type EdgeFigures = {
  readonly refusals: Auth["refusals"];
  /** Credentials that are remembered as verified or refused. */
  readonly remembered: () => number;
  readonly tenants: Tenants;
  readonly requests: TenantFigures;
  readonly audit: OpenedAudit["figures"];
  readonly jobs: Pick<JobRunner, "running">;
  readonly directory: Directory;
  readonly watches: OpenedWatch["figures"];
  /** Undefined without a bus. */
  readonly bus: LiveSource["figures"] | undefined;
};

export type Edge = {
  readonly figures: EdgeFigures;
  readonly gate: Gate;
  /** What routes store to and read from. */
  readonly storage: Storage;
  readonly watches: Watches;
  readonly watchFigures: OpenedWatch["figures"];
  /** Undefined without a bus. */
  readonly busFigures: LiveSource["figures"] | undefined;
  readonly routes: readonly ManagedRoute[];
  readonly audit: Audit;
  /** Requests are taken: a root key is made where there is none. */
  readonly start: () => void;
  /** The process begins to stop: watches end, so that the listener can close. */
  readonly stopping: () => void;
  /** The routes of watches. To be asked for once. */
  readonly openWatchRoutes: (reportFailure: FailureReport) => WatchRoutes;
  /** For `GET /v1/limits`: the bounds that are the caller's own. */
  readonly limitsOf: (caller: Caller) => Readonly<Record<string, number>>;
  /** For logs; undefined for a tenant that is gone. */
  readonly tenantName: (id: TenantId) => string | undefined;
  /** After the listener is closed, and before storage is. */
  readonly stopSteps: readonly StopStep[];
};

/** @throws ConfigError when a file that the settings name cannot be read or used */
export async function openEdge(options: EdgeOptions): Promise<Edge> {
  const { config, storage, directory, clock, random } = options;
  const masterKeys = await loadMasterKeys(config);
  const tenants = new TenantRegistry(directory);
  const limits = openLimits({ ...options, tenants });
  const audit = await openAudit({
    ...options,
    clientOf: (exchange) => limits.addresses.of(exchange),
  });
  const wrapper = masterKeys && keyWrapperOf(masterKeys, random);
  let tokens: Tokens | undefined;
  const auth = openAuth({
    ...{ ...options, tenants, limiter: limits.limiter },
    verifiers: (refusals) => {
      tokens = tokensOf(options, { refusals, tenants, wrapper });
      return [tokens.verifier];
    },
    addressOf: (exchange) => limits.addresses.of(exchange),
    onFailure: refusalLog(options.logger),
  });
  const codec = openCodec({
    ...{ masterKeys, compressAbove: config.compressAbove, directory, tenants, clock, random },
    ...{ storage: limits.storage, innermost: storage },
  });
  const { watch, bus } = await openWatches(options, codec);
  const jobs = startJobs(options, codec.jobs);
  const sweep = new OrphanSweep(options);
  return {
    gate: auth.gate,
    storage: codec.storage,
    watches: watch.watches,
    watchFigures: watch.figures,
    busFigures: bus?.figures,
    routes: [
      ...keyRoutesOf(options, auth, tenants),
      ...tenantRoutes({ directory, tenants, clock }),
      ...codec.routes,
      ...(tokens?.routes ?? []),
      audit.route,
    ],
    audit: audit.audit,
    openWatchRoutes: (reportFailure) =>
      openWatchRoutes({
        ...{ gate: auth.gate, watches: watch.watches, clock, random, directory, reportFailure },
        ...{ audit: audit.audit, stalenessMaxMs: config.authStalenessMaxMs },
        tickets: ticketsOf(options, tokens!),
        whyNoWatches: () => whyNoWatches(options),
      }),
    figures: {
      ...{ tenants, directory, jobs, refusals: auth.refusals, audit: audit.figures },
      ...{ requests: limits.figures, watches: watch.figures, bus: bus?.figures },
      remembered: () => auth.remembered() + (tokens?.remembered() ?? 0),
    },
    start: auth.start,
    stopping: watch.stopping,
    limitsOf: limits.limitsOf,
    tenantName: (id) => tenants.get(id)?.name,
    stopSteps: [
      watch.stopStep,
      { name: "look for no more orphans", run: () => sweep.stop() },
      { name: "give jobs back", run: (remainingMs) => jobs.stop(remainingMs * JOBS_STOP_PART) },
      ...auth.stopSteps,
      { name: "no longer look after the keys of tokens", run: () => tokens?.stop() },
      // Last: what the others do while they end is recorded too.
      audit.stopStep,
    ],
  };
}

function whyNoWatches({ map }: EdgeOptions): string | undefined {
  const known = map?.();
  return known && missingFeature(known, "watches of keys");
}

function startJobs(
  { storage, directory, clock, random, logger }: EdgeOptions,
  kinds: ReturnType<typeof openCodec>["jobs"],
): JobRunner {
  const jobs = new JobRunner({
    ...{ directory, clock, random, logger },
    // Beneath quotas and encryption: it removes keys whose values nobody needs to read.
    kinds: [new TenantDeletion({ directory, clock, storage }), ...kinds],
  });
  jobs.start();
  return jobs;
}

const keyRoutesOf = (
  { directory, clock, logger }: EdgeOptions,
  { keys }: Auth,
  tenants: Tenants,
): readonly ManagedRoute[] =>
  keyRoutes({
    ...{ store: keys, tenants, directory, clock },
    onEvent: ({ kind, keyId, tenant, by, requestId }) =>
      logger.info(
        { kind, key: keyId, tenant, by: by.id, request_id: requestId },
        "API key changed",
      ),
  });

/** Used up beneath quotas: whoever has reached his may still watch. */
const ticketsOf = (
  { config, listen, storage }: EdgeOptions,
  { issuer, verifier, refusals }: Tokens,
): WatchTicketsOptions => ({
  ...{ issuer, verifier, refusals, uses: storage },
  isOpen: !isAuthRequired(config, listen),
});

/** News come over the bus where there is one. */
async function openWatches(
  options: EdgeOptions,
  { storage, open }: Pick<ReturnType<typeof openCodec>, "storage" | "open">,
) {
  const { changes, clusterId, clock, random, tracing = noTracing } = options;
  const bus = await openLiveSource(options);
  const live = bus?.live;
  const deliveries = new DeliveryTraces(tracing, clock);
  const watch = openWatch({
    ...{ changes, live, clusterId, clock, random, storage, open },
    onTraced: ({ traceContext }, watches) => deliveries.given(traceContext, watches),
    onFlushed: () => deliveries.flushed(),
  });
  return { watch, bus };
}

/** Bounded by what throttles failures. The audit log hears of them from the routes, without the reason. */
const refusalLog =
  (logger: Logger): AuthFailureReport =>
  ({ reason, id, address, requestId }) =>
    logger.debug({ reason, key: id, address, request_id: requestId }, "credentials refused");

const tokensOf = (
  { config, listen, directory, clock, random, logger }: EdgeOptions,
  parts: Pick<TokensOptions, "refusals" | "tenants" | "wrapper">,
): Tokens =>
  openTokens({
    ...{ config, directory, clock, random, logger, ...parts },
    stalenessMaxMs: config.authStalenessMaxMs,
    readFile: (path) => readFileSync(path, "utf8"),
    isUsed: isAuthRequired(config, listen),
  });

/** Of the time that is left: the steps behind it need some too. */
const JOBS_STOP_PART = 0.4;
