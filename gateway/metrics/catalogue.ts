/** The gateway's metrics: what each is called, and what it means. `docs/metrics.md` has the same list. */
import type { MetricDescription } from "#shared/runtime/metrics.ts";

export const GATEWAY_METRICS = {
  httpRequests: {
    name: "minikv_gateway_http_requests_total",
    type: "counter",
    labels: ["route", "method", "status"],
    help: "HTTP requests that were answered, by template of the path, method and class of the status.",
  },
  httpDuration: {
    name: "minikv_gateway_http_request_duration_seconds",
    type: "histogram",
    labels: ["route", "method"],
    help: "From the head of a request until its answer was handed to the socket.",
  },
  httpInFlight: {
    name: "minikv_gateway_http_requests_in_flight",
    type: "gauge",
    labels: [],
    help: "HTTP requests that are being answered.",
  },
  httpConnections: {
    name: "minikv_gateway_http_connections",
    type: "gauge",
    labels: [],
    help: "Connections of HTTP clients that are open.",
  },
  operations: {
    name: "minikv_gateway_operations_total",
    type: "counter",
    labels: ["operation", "outcome"],
    help: "Calls to storage nodes that have ended, with all their attempts: ok, or the error's code.",
  },
  operationDuration: {
    name: "minikv_gateway_operation_duration_seconds",
    type: "histogram",
    labels: ["operation"],
    help: "From the start of a call until its caller was answered, over all attempts.",
  },
  retries: {
    name: "minikv_gateway_storage_retries_total",
    type: "counter",
    labels: ["reason"],
    help: "Attempts after the first one, by why the one before did not do.",
  },
  streamUp: {
    name: "minikv_gateway_storage_stream_up",
    type: "gauge",
    labels: ["node"],
    help: "Whether the stream to a storage node of the cluster map is up.",
  },
  streamInFlight: {
    name: "minikv_gateway_storage_stream_in_flight",
    type: "gauge",
    labels: ["node"],
    help: "Operations that a storage node has not answered yet.",
  },
  streamInFlightBytes: {
    name: "minikv_gateway_storage_stream_in_flight_bytes",
    type: "gauge",
    labels: ["node"],
    help: "Bytes of the window that those operations take.",
  },
  streamWindowBytes: {
    name: "minikv_gateway_storage_stream_window_bytes",
    type: "gauge",
    labels: ["node"],
    help: "Bytes that may be in flight to a storage node.",
  },
  mapVersion: {
    name: "minikv_gateway_cluster_map_version",
    type: "gauge",
    labels: [],
    help: "Version of the cluster map by which calls are routed; 0 for none.",
  },
} as const satisfies Record<string, MetricDescription>;
