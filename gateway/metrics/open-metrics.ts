/** Metrics of a gateway, put together: figures, routes, and the listener for scrapers. */
import type { ClusterView } from "#gateway/cluster/cluster-view.ts";
import type { EdgeFigures } from "#gateway/edge.ts";
import { HttpFigures } from "#gateway/http/http-figures.ts";
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import type { StorageClient } from "#gateway/storage/client.ts";
import type { CertificateDates } from "#shared/runtime/certificate-dates.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";
import type { Logger } from "#shared/runtime/log.ts";
import {
  jsonProbe,
  type ProbeRoute,
  type ProbeServer,
  startProbeServer,
} from "#shared/runtime/probe-server.ts";
import { ProcessMetrics } from "#shared/runtime/process-metrics.ts";
import type { SlowLog } from "#shared/runtime/slow-log.ts";
import { readGatewayMetrics } from "./gateway-metrics.ts";
import { Metrics, type MetricsOptions, metricsProbe, metricsRoute } from "./metrics.ts";
import { metricsListenOf, type metricsSettings } from "./settings.ts";
import { TenantMetrics } from "./tenant-metrics.ts";

export type OpenMetricsOptions = {
  readonly config: ConfigOf<typeof metricsSettings>;
  readonly program: string;
  readonly storage: StorageClient;
  readonly cluster: ClusterView;
  readonly edge: EdgeFigures;
  readonly slow: Pick<SlowLog, "total">;
  readonly certificates: CertificateDates;
  readonly logger: Logger;
  readonly phase: () => "starting" | "serving" | "stopping";
  readonly ofNode?: MetricsOptions["ofNode"];
};

export type OpenedMetrics = {
  /** To be counted in by the listener. */
  readonly http: HttpFigures;
  readonly routes: readonly ManagedRoute[];
  close(): Promise<void>;
};

/** @throws the system's error when the listener's address cannot be had */
export async function openMetrics(options: OpenMetricsOptions): Promise<OpenedMetrics> {
  const { config, program, storage, cluster, edge, logger, ofNode } = options;
  const http = new HttpFigures();
  const process = new ProcessMetrics({
    ...{ program, thread: "gateway", ofProcess: true },
    slow: () => options.slow.total,
    certificates: options.certificates,
  });
  const ofTenants = new TenantMetrics(edge);
  const own = () => readGatewayMetrics({ http, storage, cluster, edge, ofTenants });
  const metrics = new Metrics({ own, process, ofNode });
  const listen = metricsListenOf(config);
  let server: ProbeServer | undefined;
  if (listen !== undefined) {
    server = await startProbeServer({
      ...{ listen, flag: "--metrics-listen" },
      routes: [metricsProbe(metrics), ...healthProbes(options)],
      onFailure: (err) => logger.error({ err }, "metrics cannot be told"),
    });
    logger.info({ url: server.url }, "metrics are told");
  }
  return {
    http,
    routes: [metricsRoute(metrics)],
    close: async () => {
      await server?.close();
      process.close();
    },
  };
}

/** As on the main listener, which may ask for certificates that a prober does not have. */
function healthProbes({ phase, storage }: OpenMetricsOptions): readonly ProbeRoute[] {
  const get = (path: string, isSo: () => boolean): ProbeRoute => ({
    ...{ method: "GET", path },
    run: () => {
      const is = isSo();
      return jsonProbe(is ? 200 : 503, {
        status: is ? path.slice(path.lastIndexOf("/") + 1) : phase(),
      });
    },
  });
  return [
    get("/health/live", () => true),
    get("/health/startup", () => phase() !== "starting"),
    get("/health/ready", () => phase() === "serving" && storage.readiness().ready),
  ];
}
