/** Watches: who watches, how late events come, and what carries them from the nodes to gateways. */
import { type Dashboard, HERE, type Query, quantile, type Row, rate, timeseries } from "./panel.ts";

/** One line for each process. */
const gauge = (metric: string): readonly Query[] => [
  { expr: `${metric}{${HERE}}`, legend: "{{instance}}" },
];
const counter = (metric: string): readonly Query[] => [
  { expr: rate(metric), legend: "{{instance}}" },
];

const byEvent: readonly Query[] = [
  {
    expr: `sum by (event) (${rate("minikv_gateway_watch_events_total")})`,
    legend: "{{event}}",
  },
];

const watchers: Row = {
  title: "Watchers",
  panels: [
    timeseries("Watchers", "short", gauge("minikv_gateway_watchers"), { isStacked: true }),
    timeseries("Groups of equal watches", "short", gauge("minikv_gateway_watch_groups"), {
      description: "Each is filtered and encoded once for all its watches.",
    }),
    timeseries("Watches begun", "ops", counter("minikv_gateway_watches_opened_total")),
    timeseries("Watches behind", "short", gauge("minikv_gateway_watchers_behind"), {
      description: "They read from the log until they have caught up.",
    }),
    timeseries("Bytes that wait for clients", "bytes", gauge("minikv_gateway_watch_waiting_bytes")),
    timeseries("Bytes that wait for values", "bytes", gauge("minikv_gateway_watch_held_bytes"), {
      description: "Changes whose events wait until a value is read from the storage nodes.",
    }),
    timeseries("Events", "ops", byEvent, {
      description: "Changes that somebody was told of, each counted once.",
    }),
    timeseries("Sent", "Bps", counter("minikv_gateway_watch_bytes_total")),
    timeseries(
      "From change to event",
      "s",
      [
        { expr: quantile(0.5, "minikv_gateway_watch_lag_seconds", []), legend: "p50" },
        { expr: quantile(0.99, "minikv_gateway_watch_lag_seconds", []), legend: "p99" },
      ],
      { redFrom: 5 },
    ),
    timeseries("From change to event (p99)", "s", [
      {
        expr: quantile(0.99, "minikv_gateway_watch_lag_seconds", ["instance"]),
        legend: "{{instance}}",
      },
    ]),
    timeseries("Watches that fell behind", "ops", counter("minikv_gateway_watch_resyncs_total"), {
      description: "They go on from the log at their own pace (resync).",
    }),
    timeseries(
      "Watches that came too late",
      "ops",
      counter("minikv_gateway_watch_compacted_total"),
      { description: "The log does not reach back to their position (compacted)." },
    ),
  ],
};

const feed: Row = {
  title: "Feed of the gateways",
  panels: [
    timeseries("Vshards listened to", "short", gauge("minikv_gateway_feed_vshards")),
    timeseries("Vshards behind", "short", gauge("minikv_gateway_feed_behind_vshards")),
    timeseries("Changes taken", "ops", [
      { expr: rate("minikv_gateway_feed_changes_total"), legend: "{{instance}}" },
      { expr: rate("minikv_gateway_feed_repeated_total"), legend: "repeated at {{instance}}" },
    ]),
    timeseries("Gaps", "ops", counter("minikv_gateway_feed_gaps_total")),
    timeseries("Reads of the log", "ops", [
      {
        expr: `sum by (outcome) (${rate("minikv_gateway_feed_log_reads_total")})`,
        legend: "{{outcome}}",
      },
    ]),
    timeseries("Connection to NATS", "bool_yes_no", gauge("minikv_gateway_bus_up")),
    timeseries("Messages from NATS", "ops", counter("minikv_gateway_bus_messages_total")),
    timeseries("NATS connected again", "ops", counter("minikv_gateway_bus_reconnects_total")),
  ],
};

const changes: Row = {
  title: "Changes of the storage nodes",
  panels: [
    timeseries("Follows", "short", gauge("minikv_node_change_follows"), {
      description: "Vshards that gateways follow at their leader.",
    }),
    timeseries("Batches pushed", "ops", counter("minikv_node_change_batches_total")),
    timeseries("Bytes of changes", "Bps", counter("minikv_node_change_bytes_total")),
    timeseries("Reads of the log", "ops", counter("minikv_node_change_reads_total")),
    timeseries("Reads that wait", "short", gauge("minikv_node_change_reads_pending")),
    timeseries(
      "Follows that fell behind",
      "ops",
      counter("minikv_node_change_falls_behind_total"),
      {
        description: "They are served from the log again until they have caught up.",
      },
    ),
    timeseries("Gateways that follow", "short", gauge("minikv_node_change_streams")),
    timeseries("Connection to NATS", "bool_yes_no", gauge("minikv_node_bus_up")),
    timeseries("Published", "ops", counter("minikv_node_bus_published_total")),
    timeseries("Not published", "ops", counter("minikv_node_bus_publish_failures_total")),
  ],
};

export const watch: Dashboard = {
  name: "watch",
  title: "minikv / Watch",
  description: "Who watches, how late events come, and what carries them from nodes to gateways.",
  variables: ["cluster", "instance"],
  rows: [watchers, feed, changes],
};
