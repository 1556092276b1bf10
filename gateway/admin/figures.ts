/**
 * What nodes and the answering gateway have done since their start, as `GET /admin/status` shows it:
 * counters that only grow. Whoever asks twice has rates and latencies of the time in between. Pure.
 */
import { type HttpFigures, statusesOf } from "#gateway/http/http-figures.ts";
import type { NodeFigures } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { LATENCY_BOUNDS_MS } from "#shared/latency-histogram.ts";

/** JSON as it is sent. Counts of latencies are in the order of `latency_bounds_ms`, the last without a bound. */
export type NodeFiguresJson = {
  readonly uptime_ms: number;
  readonly gets: number;
  readonly puts: number;
  readonly deletes: number;
  readonly batches: number;
  readonly scans: number;
  readonly failures: number;
  readonly read_counts: readonly number[];
  readonly write_counts: readonly number[];
  readonly sync_counts: readonly number[];
  readonly apply_lag_entries: number;
};

/** Of the gateway that answers; without requests of operators and of probes. */
export type GatewayFiguresJson = {
  readonly uptime_ms: number;
  /** That were answered. */
  readonly requests: number;
  /** Answered with 5xx. */
  readonly failures: number;
  readonly request_counts: readonly number[];
  readonly in_flight: number;
  readonly connections: number;
  readonly watchers: number;
  /** The longest time from a change to its event, lately. */
  readonly watch_lag_ms: number;
};

/** Of all watches of a gateway. */
export type WatchSummary = {
  readonly watches: number;
  /** The longest time from a change to its event, in the last second or so. */
  readonly lagMs: number;
};

export function nodeFiguresJson(figures: NodeFigures | undefined): NodeFiguresJson | null {
  if (figures === undefined) return null;
  return {
    uptime_ms: Number(figures.uptimeMs),
    gets: Number(figures.gets),
    puts: Number(figures.puts),
    deletes: Number(figures.deletes),
    batches: Number(figures.batches),
    scans: Number(figures.scans),
    failures: Number(figures.failures),
    read_counts: figures.readCounts.map(Number),
    write_counts: figures.writeCounts.map(Number),
    sync_counts: figures.syncCounts.map(Number),
    apply_lag_entries: Number(figures.applyLagEntries),
  };
}

/** Who asks for them, such as this very request, is no load to be shown. */
const OF_OPERATORS = /^\/(admin|metrics|health)\b/;

export type GatewayFiguresSource = {
  readonly http: HttpFigures;
  /** By the monotonic clock, which begins with the process. */
  readonly uptimeMs: number;
  readonly watch: WatchSummary;
};

export function gatewayFiguresJson(source: GatewayFiguresSource): GatewayFiguresJson {
  const { http, uptimeMs, watch } = source;
  const counts = new Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0);
  let requests = 0;
  let failures = 0;
  for (const cell of http.cells()) {
    if (OF_OPERATORS.test(cell.route)) continue;
    for (const [status, count] of statusesOf(cell)) {
      requests += count;
      if (status === "5xx") failures += count;
    }
    cell.durations.buckets.forEach((count, at) => {
      counts[at]! += count;
    });
  }
  return {
    uptime_ms: Math.round(uptimeMs),
    requests,
    failures,
    request_counts: counts,
    in_flight: http.inFlight,
    connections: http.connections,
    watchers: watch.watches,
    watch_lag_ms: Math.round(watch.lagMs),
  };
}
