/** Answers of gateways for the tests of `minikv top`. */
import type { StatusJson } from "#gateway/admin/status.ts";
import { toNodeId } from "#shared/ids.ts";

type NodeJson = StatusJson["nodes"][number];

export type NodeInput = Partial<Omit<NodeJson, "id">> & {
  readonly id?: number;
  readonly uptimeMs?: number;
  readonly gets?: number;
  readonly puts?: number;
};

export const BOUNDS_MS: readonly number[] = [1, 10, 100];

export function nodeAnswer(input: NodeInput): NodeJson {
  const { id = 1, uptimeMs = 0, gets = 0, puts = 0, ...own } = input;
  return {
    id: toNodeId(id),
    address: `10.0.0.${id}:7400`,
    zone: "",
    host: "",
    state: "up",
    answering: true,
    report_age_ms: 10,
    replicas: 257,
    leaders: 86,
    lag_entries_max: 0,
    used_bytes: 3 * 2 ** 29,
    capacity_bytes: 2 ** 33,
    sync_micros: 900,
    writable: true,
    map_version: 42,
    software_version: "0.1.0",
    feature_version: 1,
    figures: {
      uptime_ms: uptimeMs,
      gets,
      puts,
      deletes: 0,
      batches: 0,
      scans: 0,
      failures: 0,
      read_counts: [gets, 0, 0, 0],
      write_counts: [0, puts, 0, 0],
      sync_counts: [0, puts, 0, 0],
      apply_lag_entries: 0,
    },
    drain: null,
    ...own,
  };
}

export function answer(
  nodes: readonly NodeInput[],
  more: Partial<StatusJson> = {},
  requests = 0,
  uptimeMs = 0,
): StatusJson {
  return {
    cluster_id: "east",
    map_version: 42,
    feature_version: 1,
    source: "meta_leader",
    reason: null,
    meta: { leader: 2, has_quorum: true, nodes: [] },
    nodes: nodes.map(nodeAnswer),
    vshards: {
      count: 256,
      without_leader: [],
      without_quorum: [],
      size_bytes: 5 * 2 ** 20,
      objects: 12_345,
    },
    lag: null,
    moves: [],
    latency_bounds_ms: BOUNDS_MS,
    gateway: {
      uptime_ms: uptimeMs,
      requests,
      failures: 0,
      request_counts: [0, requests, 0, 0],
      in_flight: 3,
      connections: 40,
      watchers: 12,
      watch_lag_ms: 25,
    },
    ...more,
  };
}
