/** All metrics that programs of minikv have, by name. */
import { GATEWAY_METRICS } from "#gateway/metrics/catalogue.ts";
import type { MetricDescription } from "#shared/runtime/metrics.ts";
import {
  CLIENT_METRICS_OF_PROCESS,
  CLIENT_METRICS_OF_THREAD,
  PROCESS_METRICS,
} from "#shared/runtime/process-metrics.ts";
import { NODE_BUS_METRICS } from "#storage-node/metrics/bus-metrics.ts";
import { NODE_METRICS } from "#storage-node/metrics/catalogue.ts";

type Known = Pick<MetricDescription, "labels" | "optional">;

const OWN: readonly MetricDescription[] = [
  ...Object.values(GATEWAY_METRICS),
  ...Object.values(NODE_METRICS),
  ...Object.values(NODE_BUS_METRICS),
  ...Object.values(PROCESS_METRICS),
];

export const CATALOGUE: ReadonlyMap<string, Known> = new Map([
  ...OWN.map((metric): [string, Known] => [metric.name, metric]),
  ...CLIENT_METRICS_OF_PROCESS.map((name): [string, Known] => [name, { labels: [] }]),
  ...CLIENT_METRICS_OF_THREAD.map((name): [string, Known] => [
    name,
    { labels: ["thread", "kind"] },
  ]),
]);
