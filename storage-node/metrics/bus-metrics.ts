/** Figures of the bus, on which a storage node publishes what it applies; none without a bus. */
import { type MetricDescription, readMetrics } from "#shared/runtime/metrics.ts";
import type { NodePublisher } from "#storage-node/events/open-publisher.ts";

export const NODE_BUS_METRICS = {
  up: {
    name: "minikv_node_bus_up",
    type: "gauge",
    labels: [],
    help: "Whether the node is connected to the bus.",
    optional: true,
  },
  published: {
    name: "minikv_node_bus_published_total",
    type: "counter",
    labels: [],
    help: "Changes that were published on the bus.",
    optional: true,
  },
  failures: {
    name: "minikv_node_bus_publish_failures_total",
    type: "counter",
    labels: [],
    help: "Changes that were not published: no connection, or no room on it. Gateways read them from the log.",
    optional: true,
  },
  reconnects: {
    name: "minikv_node_bus_reconnects_total",
    type: "counter",
    labels: [],
    help: "Connections to the bus after the first one.",
    optional: true,
  },
} as const satisfies Record<string, MetricDescription>;

export function readBusMetrics(figures: ReturnType<NodePublisher["figures"]>) {
  if (figures === undefined) return [];
  return readMetrics(NODE_BUS_METRICS, {
    up: (sink) => sink.value(figures.connected),
    published: (sink) => sink.value(figures.changesPublished),
    failures: (sink) => sink.value(figures.changesDropped),
    reconnects: (sink) => sink.value(Math.max(0, figures.connects - 1)),
  });
}
