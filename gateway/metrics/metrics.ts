/**
 * `GET /metrics`: on the main listener for those who may read the cluster's state, and on a listener of its
 * own, where there is one, for a scraper that has no credentials.
 *
 * Reading is shared: however many ask at once, the figures are read once.
 */
import type { Answer } from "#gateway/http/exchange.ts";
import type { ManagedRequest, ManagedRoute } from "#gateway/http/managed-route.ts";
import {
  joinMetrics,
  type MetricFamily,
  type MetricsText,
  renderMetrics,
} from "#shared/runtime/metrics.ts";
import type { ProbeRoute } from "#shared/runtime/probe-server.ts";
import type { ProcessMetrics } from "#shared/runtime/process-metrics.ts";

export const METRICS_PATH = "/metrics";

export type MetricsOptions = {
  /** Of this thread. */
  readonly own: () => readonly MetricFamily[];
  readonly process: ProcessMetrics;
  /** Of the storage node in the same process, where there is one. Never rejects. */
  readonly ofNode?: (() => Promise<readonly MetricFamily[]>) | undefined;
};

export class Metrics {
  #reading: Promise<readonly MetricFamily[]> | undefined;
  readonly #options: MetricsOptions;

  constructor(options: MetricsOptions) {
    this.#options = options;
  }

  async text(accept: string | undefined): Promise<MetricsText> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return renderMetrics(await this.#reading, accept);
  }

  async #read(): Promise<readonly MetricFamily[]> {
    const { own, process, ofNode } = this.#options;
    const [ofProcess, node] = await Promise.all([process.read(), ofNode?.() ?? []]);
    return joinMetrics([ofProcess, own(), node]);
  }
}

export function metricsRoute(metrics: Pick<Metrics, "text">): ManagedRoute {
  const run = async ({ exchange }: ManagedRequest): Promise<Answer> => {
    const { contentType, text } = await metrics.text(exchange.header("accept"));
    const headers = [
      ...["Content-Type", contentType, "Content-Length", String(Buffer.byteLength(text))],
      ...["Cache-Control", "no-store", "X-Request-ID", exchange.requestId],
    ];
    return { status: 200, headers, body: text };
  };
  return { path: METRICS_PATH, methods: new Map([["GET", { access: "cluster.read", run }]]) };
}

export const metricsProbe = (metrics: Pick<Metrics, "text">): ProbeRoute => ({
  method: "GET",
  path: METRICS_PATH,
  run: async ({ header }) => {
    const { contentType, text } = await metrics.text(header("accept"));
    return { status: 200, contentType, body: text };
  },
});
