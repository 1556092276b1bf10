/**
 * Metrics as text for Prometheus: what modules have counted in plain numbers is read when somebody asks.
 *
 * No module on a hot path knows of this one. A program has tables of descriptions (name, type, labels,
 * meaning; `docs/metrics.md` is held in step with them by a test) and for each entry a function that reads
 * the figures. The result is plain data, so that it can cross from one thread to another before it
 * becomes text, which `prom-client` does.
 */
import type { Metric, RegistryContentType } from "prom-client";
import { LATENCY_BOUNDS_MS, type LatencyHistogram } from "#shared/latency-histogram.ts";

export type MetricType = "counter" | "gauge" | "histogram" | "summary";

export type MetricDescription = {
  readonly name: string;
  readonly type: MetricType;
  readonly labels: readonly string[];
  readonly help: string;
  /** There only while what it tells of is configured or has happened. */
  readonly optional?: true;
};

export type MetricLabels = Readonly<Record<string, string>>;

type Sample = {
  /** Of a histogram or summary: what stands behind the name. */
  readonly suffix: "" | "_bucket" | "_sum" | "_count";
  readonly labels: MetricLabels;
  readonly value: number;
};

/** All samples of one name at one moment. Plain data. */
export type MetricFamily = {
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
  readonly samples: readonly Sample[];
};

const NO_LABELS: MetricLabels = {};
const SECONDS = LATENCY_BOUNDS_MS.map((bound) => String(bound / 1000));

/** Takes the values of one family. */
export class MetricSink {
  readonly samples: Sample[] = [];

  /** A number that is not finite is not known, and left out. */
  value(value: number, labels: MetricLabels = NO_LABELS): void {
    if (Number.isFinite(value)) this.samples.push({ suffix: "", labels, value });
  }

  seconds({ buckets, sumMs }: LatencyHistogram, labels: MetricLabels = NO_LABELS): void {
    let count = 0;
    for (let at = 0; at < buckets.length; at++) {
      count += buckets[at]!;
      const le = SECONDS[at] ?? "+Inf";
      this.samples.push({ suffix: "_bucket", labels: { ...labels, le }, value: count });
    }
    this.samples.push({ suffix: "_sum", labels, value: sumMs / 1000 });
    this.samples.push({ suffix: "_count", labels, value: count });
  }
}

/** For each description a function that reads the figures. */
export type MetricReaders<Table extends Readonly<Record<string, MetricDescription>>> = {
  readonly [name in keyof Table]: (sink: MetricSink) => void;
};

/** Reads all figures of a table. Names without any sample are left out. */
export function readMetrics<Table extends Readonly<Record<string, MetricDescription>>>(
  table: Table,
  readers: MetricReaders<Table>,
): readonly MetricFamily[] {
  const families: MetricFamily[] = [];
  for (const [key, { name, type, help }] of Object.entries(table)) {
    const sink = new MetricSink();
    readers[key as keyof Table](sink);
    if (sink.samples.length > 0) families.push({ name, type, help, samples: sink.samples });
  }
  return families;
}

/** One list, in which each name stands once: samples of equal names, told apart by labels, are joined. */
export function joinMetrics(lists: readonly (readonly MetricFamily[])[]): readonly MetricFamily[] {
  const byName = new Map<string, MetricFamily>();
  for (const family of lists.flat()) {
    const before = byName.get(family.name);
    const samples = before === undefined ? family.samples : [...before.samples, ...family.samples];
    byName.set(family.name, { ...family, samples });
  }
  return [...byName.values()];
}

export type MetricsText = { readonly contentType: string; readonly text: string };

/** As the caller's `Accept` header asks: OpenMetrics when it is named, else Prometheus' own format. */
export async function renderMetrics(
  families: readonly MetricFamily[],
  accept: string | undefined,
): Promise<MetricsText> {
  // Loaded when somebody asks for the first time: it brings some ninety modules along.
  const { Registry } = await import("prom-client");
  const isOpen = /\bapplication\/openmetrics-text\b/.test(accept ?? "");
  const registry = new Registry<RegistryContentType>();
  if (isOpen) registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  for (const family of families) {
    registry.registerMetric(asMetric(family) as unknown as Metric);
  }
  return { contentType: registry.contentType, text: await registry.metrics() };
}

/** What a registry asks of a metric. Its name is the registry's to change. */
function asMetric(family: MetricFamily) {
  const { name, help, type } = family;
  const metric = {
    ...{ name, help, type },
    get: async () => ({
      ...{ name: metric.name, help, type, aggregator: "sum" },
      values: family.samples.map(({ suffix, labels, value }) =>
        suffix === "" ? { labels, value } : { metricName: `${name}${suffix}`, labels, value },
      ),
    }),
  };
  return metric;
}
