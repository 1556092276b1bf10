/** Serves HTTP or HTTPS over a storage client: what a gateway and the all-in-one have in common. */
import { readFileSync } from "node:fs";
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { CertificateDates } from "#shared/runtime/certificate-dates.ts";
import { compactHeapWhenIdle } from "#shared/runtime/compact-heap.ts";
import type { HostPort } from "#shared/runtime/config-value.ts";
import { FileWatch, type WatchedFiles } from "#shared/runtime/file-watch.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { LogLevelControl } from "#shared/runtime/log-level.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import type { OpenTracing } from "#shared/runtime/tracing.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { traceFields } from "#shared/tracing.ts";
import { logLevelRoute } from "./admin/log-level-route.ts";
import { createApp } from "./app.ts";
import { isAuthRequired } from "./auth/settings.ts";
import type { ClusterView } from "./cluster/cluster-view.ts";
import type { Directory } from "./directory/directory.ts";
import { type Edge, type EdgeOptions, openEdge } from "./edge.ts";
import type { EdgeConfig } from "./edge-settings.ts";
import { Cors, parseOrigins } from "./http/cors.ts";
import { type HttpsMaterial, type LoadedHttps, loadHttps, validUntil } from "./http/https.ts";
import type { FailureReport } from "./http/problem.ts";
import type { ServicePhase } from "./info/routes.ts";
import { type OpenMetricsOptions, openMetrics } from "./metrics/open-metrics.ts";
import { type HttpServer, startHttpServer } from "./server.ts";
import { logSlowCalls } from "./slow-calls.ts";
import type { StorageClient } from "./storage/client.ts";

export type ServeOptions = {
  /** As the log says it. */
  readonly program: string;
  readonly storage: StorageClient;
  readonly cluster: ClusterView;
  readonly directory: Directory;
  readonly changes: EdgeOptions["changes"];
  readonly edge: EdgeConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly logLevel: LogLevelControl;
  /** Of those that the process uses; that of HTTPS is added here. */
  readonly certificates: CertificateDates;
  readonly tracing: OpenTracing;
  readonly listen: HostPort;
  /** Whether storage has answered once. */
  readonly started: () => boolean;
  /** Of the storage node in the same process. */
  readonly nodeMetrics?: OpenMetricsOptions["ofNode"];
};

export type Serving = {
  readonly url: string;
  /** Files that may be replaced while it serves, certificates; to be started. */
  readonly watch: FileWatch;
  /** To be run first when the process stops: report unready, close the listener and the client. */
  readonly stopSteps: readonly StopStep[];
};

/**
 * Listens, and resolves once requests are taken.
 *
 * @throws ConfigError when a file that the settings name cannot be read or used
 */
export async function serveHttp(options: ServeOptions): Promise<Serving> {
  const { storage, cluster, clock, random, logger, listen, started } = options;
  const { edge: config, tracing } = options;
  const https = loadHttps(config, (path) => readFileSync(path));
  const clusterId = () => cluster.map()?.clusterId;
  const edge = await openEdge({ ...options, config, clusterId, map: cluster.map });
  let stopping = false;
  const phase = (): ServicePhase => {
    if (stopping) return "stopping";
    return started() ? "serving" : "starting";
  };
  const reportFailure = reportTo(logger, edge);
  const watchRoutes = edge.openWatchRoutes(reportFailure);
  const metrics = await openMetrics({
    ...{ config, storage, cluster, logger, phase, edge: edge.figures },
    slow: logSlowCalls(storage.figures, { ...options, tenantName: edge.tenantName }),
    certificates: options.certificates,
    program: options.program,
    ofNode: options.nodeMetrics,
  });
  const app = createApp({
    gate: edge.gate,
    routes: [...edge.routes, ...metrics.routes, logLevelRoute(options)],
    ...{ httpFigures: metrics.http, watchFigures: edge.watchFigures },
    audit: edge.audit,
    cors: new Cors(parseOrigins(config.corsOrigins) ?? { any: false, named: new Set() }),
    limitsOf: edge.limitsOf,
    storage: edge.storage,
    version: VERSION,
    ...{ cluster, clock, random, phase, tracing },
    scheme: https === undefined ? "http" : "https",
    watch: watchRoutes,
    isOpen: !isAuthRequired(config, listen),
    reportFailure,
  });
  const http2 = config.http2 === "on";
  const server = await startHttpServer({ app, listen, tls: https?.material, http2 });
  edge.start();
  compactHeapWhenIdle({ clock });
  const watch = new FileWatch(logger);
  if (https !== undefined) watch.add(watchedHttps(https, server, options));
  return {
    url: server.url,
    watch,
    stopSteps: [
      {
        name: "report unready",
        run: () => {
          stopping = true;
          watch.close();
          // Now, so that clients are elsewhere before the listener closes.
          watchRoutes.drain();
          edge.stopping();
        },
      },
      {
        name: "close the HTTP listener",
        run: async (remainingMs) => void (await server.close(remainingMs * 0.6)),
      },
      { name: "no longer look after watches", run: () => watchRoutes.forget() },
      ...edge.stopSteps,
      { name: "close the listener of metrics", run: () => metrics.close() },
      { name: "close the storage client", run: (remainingMs) => storage.close(remainingMs * 0.5) },
      { name: "deliver traces", run: (remainingMs) => tracing.close(remainingMs * 0.5) },
    ],
  };
}

/** Tells of the certificate that is in use, now and when it is replaced. */
function watchedHttps(
  https: LoadedHttps,
  server: Pick<HttpServer, "replaceTls">,
  { certificates, logger }: Pick<ServeOptions, "certificates" | "logger">,
): WatchedFiles {
  const tell = (material: HttpsMaterial, what: string): void => {
    certificates.note("https", material.cert);
    logger.info({ validUntil: validUntil(material) }, `HTTPS certificate ${what}`);
  };
  tell(https.material, "in use");
  return https.watched((material) => {
    server.replaceTls(material);
    tell(material, "replaced");
  });
}

/** Bugs and corrupt data: what their clients are not told. */
const reportTo =
  (logger: Logger, { tenantName }: Pick<Edge, "tenantName">): FailureReport =>
  ({ requestId, method, tenant, error, trace }) => {
    const name = tenant === undefined ? undefined : (tenantName(tenant) ?? `id ${tenant}`);
    const fields = { ...traceFields(trace?.context), request_id: requestId, method };
    logger.error({ ...fields, tenant: name, err: error }, "a request failed");
  };
