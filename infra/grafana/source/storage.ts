/** Storage nodes: operations, Raft, the log, the engine, and what goes between nodes. */
import { type Dashboard, HERE, type Query, quantile, type Row, rate, timeseries } from "./panel.ts";
import { processPanels } from "./processes.ts";

/** One line for each node. */
const gauge = (metric: string): readonly Query[] => [
  { expr: `${metric}{${HERE}}`, legend: "{{instance}}" },
];
const counter = (metric: string): readonly Query[] => [
  { expr: rate(metric), legend: "{{instance}}" },
];
const p99 = (histogram: string): readonly Query[] => [
  { expr: quantile(0.99, histogram, ["instance"]), legend: "{{instance}}" },
];
const p50 = (histogram: string): readonly Query[] => [
  { expr: quantile(0.5, histogram, ["instance"]), legend: "{{instance}}" },
];

const operations: Row = {
  title: "Operations",
  panels: [
    timeseries("Operations", "ops", [
      {
        expr: `sum by (operation) (${rate("minikv_node_operations_total")})`,
        legend: "{{operation}}",
      },
    ]),
    timeseries("Operations that failed", "ops", [
      {
        expr: `sum by (operation, outcome) (${rate("minikv_node_operations_total", `outcome!="ok", ${HERE}`)})`,
        legend: "{{operation}} {{outcome}}",
      },
    ]),
    timeseries("Time of operations (p99)", "s", [
      {
        expr: quantile(0.99, "minikv_node_operation_duration_seconds", ["operation"]),
        legend: "{{operation}}",
      },
    ]),
    timeseries("Gateways connected", "short", gauge("minikv_node_streams")),
  ],
};

const raft: Row = {
  title: "Raft",
  panels: [
    timeseries("Replicas", "short", gauge("minikv_node_raft_groups")),
    timeseries("Groups led", "short", gauge("minikv_node_raft_groups_led")),
    timeseries(
      "Groups without a leader",
      "short",
      gauge("minikv_node_raft_groups_without_leader"),
      {
        redFrom: 1,
      },
    ),
    timeseries(
      "Groups with their quorum at risk",
      "short",
      gauge("minikv_node_raft_groups_quorum_at_risk"),
      { redFrom: 1 },
    ),
    timeseries("Changes of leaders", "ops", counter("minikv_node_raft_leader_changes_total")),
    timeseries("Changes of terms", "ops", counter("minikv_node_raft_term_changes_total")),
    timeseries("Proposals", "ops", counter("minikv_node_raft_proposals_total")),
    timeseries("Proposals that wait", "short", gauge("minikv_node_raft_proposals_pending")),
    timeseries(
      "Bytes of proposals that wait",
      "bytes",
      gauge("minikv_node_raft_proposals_pending_bytes"),
    ),
    timeseries("Proposals refused", "ops", counter("minikv_node_raft_proposals_rejected_total")),
    timeseries(
      "From proposal to commit (p50)",
      "s",
      p50("minikv_node_raft_commit_duration_seconds"),
    ),
    timeseries(
      "From proposal to commit (p99)",
      "s",
      p99("minikv_node_raft_commit_duration_seconds"),
      { redFrom: 0.5 },
    ),
    timeseries("Entries not yet applied", "short", gauge("minikv_node_raft_apply_lag_entries"), {
      description: "Of the group that is furthest behind.",
    }),
    timeseries("Entries followers lack", "short", gauge("minikv_node_raft_follower_lag_entries"), {
      description: "Of the follower that is furthest behind in groups that the node leads.",
    }),
  ],
};

const log: Row = {
  title: "Log",
  panels: [
    timeseries("Syncs (p50)", "s", p50("minikv_node_wal_sync_duration_seconds")),
    timeseries("Syncs (p99)", "s", p99("minikv_node_wal_sync_duration_seconds"), { redFrom: 0.1 }),
    timeseries("Batches", "ops", counter("minikv_node_wal_batches_total"), {
      description: "One write and one sync each.",
    }),
    timeseries("Written", "Bps", counter("minikv_node_wal_bytes_written_total")),
    timeseries("Size", "bytes", gauge("minikv_node_wal_size_bytes")),
    timeseries("Segments", "short", gauge("minikv_node_wal_segments")),
  ],
};

const engine: Row = {
  title: "Engine and disk",
  panels: [
    timeseries("Writes (p99)", "s", p99("minikv_node_engine_write_duration_seconds")),
    timeseries("Size", "bytes", gauge("minikv_node_engine_size_bytes")),
    timeseries("Writes are stalled", "bool_yes_no", gauge("minikv_node_engine_write_stalled")),
    timeseries("Disk that is free", "bytes", [
      { expr: `minikv_node_disk_free_bytes{${HERE}}`, legend: "{{instance}}" },
      { expr: `minikv_node_disk_reserve_bytes{${HERE}}`, legend: "reserve of {{instance}}" },
    ]),
    timeseries("Takes writes", "bool_yes_no", gauge("minikv_node_writable")),
  ],
};

const between: Row = {
  title: "Between nodes",
  panels: [
    timeseries("Links to other nodes", "short", [
      { expr: `minikv_node_transport_links_up{${HERE}}`, legend: "up at {{instance}}" },
      { expr: `minikv_node_transport_links{${HERE}}`, legend: "wanted by {{instance}}" },
    ]),
    timeseries("Between nodes", "Bps", [
      { expr: rate("minikv_node_transport_bytes_sent_total"), legend: "sent by {{instance}}" },
      { expr: rate("minikv_node_transport_bytes_received_total"), legend: "to {{instance}}" },
    ]),
    timeseries("Messages dropped", "ops", counter("minikv_node_transport_messages_dropped_total"), {
      description: "Queues are bounded and Raft sends again; many mean that a node is too slow.",
    }),
    timeseries(
      "Messages for nobody",
      "ops",
      counter("minikv_node_transport_messages_unroutable_total"),
      {
        description:
          "For nodes that are not in the map here: while members change, and not for long.",
      },
    ),
    timeseries("Version of the cluster map", "short", gauge("minikv_node_cluster_map_version")),
    timeseries("Snapshots", "ops", [
      { expr: rate("minikv_node_snapshots_sent_total"), legend: "sent by {{instance}}" },
      { expr: rate("minikv_node_snapshots_received_total"), legend: "taken by {{instance}}" },
    ]),
  ],
};

export const storage: Dashboard = {
  name: "storage",
  title: "minikv / Storage and Raft",
  description: "Storage nodes: operations, Raft, the log, the engine, and what goes between nodes.",
  variables: ["cluster", "instance"],
  rows: [
    operations,
    raft,
    log,
    engine,
    between,
    { title: "Processes", panels: processPanels("minikv-node") },
  ],
};
