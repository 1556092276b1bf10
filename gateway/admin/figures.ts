/**
 * What nodes and the answering gateway have done since their start, as `GET /admin/status` shows it:
 * counters that only grow. Whoever asks twice has rates and latencies of the time in between. Pure.
 */
import type { NodeFigures } from "#proto/gen/minikv/v1/cluster_pb.ts";

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

/** Of the gateway that answers. */
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
