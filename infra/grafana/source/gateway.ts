/** What clients ask of gateways, what those ask of storage nodes, and who is let in. */
import { type Dashboard, HERE, quantile, quantiles, type Row, rate, timeseries } from "./panel.ts";
import { processPanels } from "./processes.ts";

const NO_WATCH = `route!~"/v1/watch.*", ${HERE}`;

const http: Row = {
  title: "HTTP",
  panels: [
    timeseries("Requests by route", "reqps", [
      {
        expr: `sum by (method, route) (${rate("minikv_gateway_http_requests_total")})`,
        legend: "{{method}} {{route}}",
      },
    ]),
    timeseries("Requests by status", "reqps", [
      {
        expr: `sum by (status) (${rate("minikv_gateway_http_requests_total")})`,
        legend: "{{status}}",
      },
    ]),
    timeseries(
      "Failures by route",
      "reqps",
      [
        {
          expr: `sum by (method, route) (${rate("minikv_gateway_http_requests_total", `status=~"5..", ${HERE}`)})`,
          legend: "{{method}} {{route}}",
        },
      ],
      { description: "Answered with 5xx." },
    ),
    timeseries(
      "Time of requests",
      "s",
      quantiles("minikv_gateway_http_request_duration_seconds", NO_WATCH),
    ),
    timeseries("Time of requests by route (p99)", "s", [
      {
        expr: quantile(
          0.99,
          "minikv_gateway_http_request_duration_seconds",
          ["method", "route"],
          NO_WATCH,
        ),
        legend: "{{method}} {{route}}",
      },
    ]),
    timeseries("Requests under way", "short", [
      { expr: `minikv_gateway_http_requests_in_flight{${HERE}}`, legend: "{{instance}}" },
    ]),
    timeseries("Connections", "short", [
      { expr: `minikv_gateway_http_connections{${HERE}}`, legend: "{{instance}}" },
    ]),
    timeseries("Jobs in the background", "short", [
      { expr: `sum by (kind) (minikv_gateway_jobs_running{${HERE}})`, legend: "{{kind}}" },
    ]),
  ],
};

const storage: Row = {
  title: "Storage",
  panels: [
    timeseries("Operations", "ops", [
      {
        expr: `sum by (operation) (${rate("minikv_gateway_operations_total")})`,
        legend: "{{operation}}",
      },
    ]),
    timeseries("Operations that failed", "ops", [
      {
        expr: `sum by (operation, outcome) (${rate("minikv_gateway_operations_total", `outcome!="ok", ${HERE}`)})`,
        legend: "{{operation}} {{outcome}}",
      },
    ]),
    timeseries("Time of operations (p99)", "s", [
      {
        expr: quantile(0.99, "minikv_gateway_operation_duration_seconds", ["operation"]),
        legend: "{{operation}}",
      },
    ]),
    timeseries(
      "Streams to nodes",
      "short",
      [
        {
          expr: `sum by (node) (minikv_gateway_storage_stream_up{${HERE}})`,
          legend: "node {{node}}",
        },
      ],
      { description: "Gateways that reach each node." },
    ),
    timeseries("Operations under way", "short", [
      {
        expr: `sum by (node) (minikv_gateway_storage_stream_in_flight{${HERE}})`,
        legend: "node {{node}}",
      },
    ]),
    timeseries("Bytes under way", "bytes", [
      {
        expr: `sum by (node) (minikv_gateway_storage_stream_in_flight_bytes{${HERE}})`,
        legend: "node {{node}}",
      },
      {
        expr: `sum by (node) (minikv_gateway_storage_stream_window_bytes{${HERE}})`,
        legend: "allowed to node {{node}}",
      },
    ]),
    timeseries("Sent again", "ops", [
      {
        expr: `sum by (reason) (${rate("minikv_gateway_storage_retries_total")})`,
        legend: "{{reason}}",
      },
    ]),
    timeseries("Version of the cluster map", "short", [
      { expr: `minikv_gateway_cluster_map_version{${HERE}}`, legend: "{{instance}}" },
    ]),
  ],
};

const access: Row = {
  title: "Access",
  panels: [
    timeseries("Refused credentials", "reqps", [
      {
        expr: `sum by (reason) (${rate("minikv_gateway_auth_failures_total")})`,
        legend: "{{reason}}",
      },
    ]),
    timeseries("Keys and tokens remembered", "short", [
      { expr: `minikv_gateway_auth_cache_entries{${HERE}}`, legend: "{{instance}}" },
    ]),
    timeseries(
      "Silence of the directory",
      "s",
      [{ expr: `minikv_gateway_directory_silence_seconds{${HERE}}`, legend: "{{instance}}" }],
      { description: "After auth-staleness-max (60 s) all keys are refused.", redFrom: 30 },
    ),
    timeseries("Audit records", "ops", [
      { expr: rate("minikv_gateway_audit_records_total"), legend: "{{instance}}" },
    ]),
    timeseries("Audit log in trouble", "ops", [
      {
        expr: rate("minikv_gateway_audit_write_failures_total"),
        legend: "failed writes of {{instance}}",
      },
      {
        expr: rate("minikv_gateway_audit_records_lost_total"),
        legend: "records lost by {{instance}}",
      },
    ]),
  ],
};

export const gateway: Dashboard = {
  name: "gateway",
  title: "minikv / Gateway",
  description: "What clients ask of gateways, what those ask of storage nodes, and who is let in.",
  variables: ["cluster", "instance"],
  rows: [http, storage, access, { title: "Processes", panels: processPanels("minikv-gateway") }],
};
