/** Is the cluster well, and what does it do? */
import {
  type Dashboard,
  HERE,
  quantile,
  quantiles,
  type Row,
  rate,
  stat,
  table,
  timeseries,
} from "./panel.ts";
import { processPanels } from "./processes.ts";

const state: Row = {
  title: "State",
  panels: [
    stat("Processes down", "short", `count(up{job=~"minikv-.+", ${HERE}} == 0) or vector(0)`, {
      redFrom: 1,
    }),
    stat(
      "Alerts that fire",
      "short",
      'count(ALERTS{alertname=~"Minikv.+", alertstate="firing", cluster=~"$cluster"}) or vector(0)',
      { redFrom: 1 },
    ),
    stat(
      "Groups without a leader",
      "short",
      `max(minikv_node_raft_groups_without_leader{${HERE}})`,
      { redFrom: 1, description: "As the node sees it that knows fewest leaders." },
    ),
    stat(
      "Groups with their quorum at risk",
      "short",
      `sum(minikv_node_raft_groups_quorum_at_risk{${HERE}})`,
      { redFrom: 1 },
    ),
    stat("Nodes that take writes", "short", `sum(minikv_node_writable{${HERE}})`, { redBelow: 1 }),
    stat(
      "Requests that failed (1 h)",
      "percentunit",
      'max(minikv:gateway_http_errors:ratio_rate1h{cluster=~"$cluster"}) or vector(0)',
      { redFrom: 0.001, description: "Answered with 5xx. The budget is 0.1 %." },
    ),
  ],
};

const work: Row = {
  title: "Requests",
  panels: [
    timeseries(
      "Requests by status",
      "reqps",
      [
        {
          expr: `sum by (status) (${rate("minikv_gateway_http_requests_total")})`,
          legend: "{{status}}",
        },
      ],
      { isStacked: true },
    ),
    timeseries(
      "Time of requests",
      "s",
      quantiles("minikv_gateway_http_request_duration_seconds", `route!~"/v1/watch.*", ${HERE}`),
      { description: "Without watches, which last as long as clients like." },
    ),
    timeseries("Storage operations", "ops", [
      {
        expr: `sum by (operation) (${rate("minikv_gateway_operations_total")})`,
        legend: "{{operation}}",
      },
    ]),
    timeseries("Watchers", "short", [
      { expr: `minikv_gateway_watchers{${HERE}}`, legend: "{{instance}}" },
    ]),
    timeseries("Stored by tenants", "bytes", [
      {
        expr: `sum(max by (tenant) (minikv_gateway_tenant_stored_bytes{${HERE}}))`,
        legend: "keys and values",
      },
    ]),
    timeseries("Disk that is free", "bytes", [
      { expr: `minikv_node_disk_free_bytes{${HERE}}`, legend: "{{instance}}" },
    ]),
  ],
};

const nodes: Row = {
  title: "Storage nodes",
  panels: [
    timeseries("Groups led", "short", [
      { expr: `minikv_node_raft_groups_led{${HERE}}`, legend: "{{instance}}" },
    ]),
    timeseries("Commits (p99)", "s", [
      {
        expr: quantile(0.99, "minikv_node_raft_commit_duration_seconds", ["instance"]),
        legend: "{{instance}}",
      },
    ]),
    timeseries("Syncs of the log (p99)", "s", [
      {
        expr: quantile(0.99, "minikv_node_wal_sync_duration_seconds", ["instance"]),
        legend: "{{instance}}",
      },
    ]),
  ],
};

export const overview: Dashboard = {
  name: "overview",
  title: "minikv / Overview",
  description: "Is the cluster well, and what does it do?",
  variables: ["cluster", "instance"],
  rows: [
    state,
    work,
    nodes,
    {
      title: "Processes",
      panels: [
        ...processPanels("minikv-.+"),
        table("Versions", `minikv_build_info{${HERE}}`, { description: "What runs where." }),
      ],
    },
  ],
};
