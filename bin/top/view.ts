/**
 * What `minikv top` knows after each look at the gateways, and what of it is shown. Pure.
 *
 * The cluster is told by the first gateway that has asked the meta group's leader; while none has, the
 * last answer stays, with its age. What is not known is null.
 */
import type { GatewayFiguresJson, NodeFiguresJson } from "#gateway/admin/figures.ts";
import type { StatusJson } from "#gateway/admin/status.ts";
import { nextPair, type Pair, quantileMs, ratePerSecond, rounded } from "./rates.ts";

/** Of one gateway: its answer, or why there is none. */
export type Look =
  | { readonly url: string; readonly status: StatusJson }
  | { readonly url: string; readonly error: string };

type GatewayState = {
  readonly url: string;
  readonly error: string | null;
  /** Since when there is no answer. */
  readonly silentSinceMs: number | null;
  readonly pair: Pair<GatewayFiguresJson> | undefined;
  readonly boundsMs: readonly number[];
};

export type TopState = {
  readonly atMs: number;
  readonly gateways: readonly GatewayState[];
  readonly status: StatusJson | undefined;
  /** When `status` was told. */
  readonly statusAtMs: number;
  readonly nodes: ReadonlyMap<number, Pair<NodeFiguresJson>>;
};

export function nextState(
  before: TopState | undefined,
  looks: readonly Look[],
  atMs: number,
): TopState {
  const answers = looks.flatMap((look) => ("status" in look ? [look.status] : []));
  const told = answers.find(({ source }) => source === "meta_leader") ?? answers[0];
  const nodes = new Map<number, Pair<NodeFiguresJson>>();
  for (const { id, figures } of told?.nodes ?? []) {
    const pair = nextPair(before?.nodes.get(id), figures);
    if (pair !== undefined) nodes.set(id, pair);
  }
  return {
    atMs,
    gateways: looks.map((look) => {
      const last = before?.gateways.find(({ url }) => url === look.url);
      return nextGateway(last, look, atMs);
    }),
    status: told ?? before?.status,
    statusAtMs: told === undefined ? (before?.statusAtMs ?? atMs) : atMs,
    nodes: told === undefined ? (before?.nodes ?? nodes) : nodes,
  };
}

function nextGateway(before: GatewayState | undefined, look: Look, atMs: number): GatewayState {
  const { url } = look;
  if ("error" in look) {
    const silentSinceMs = before?.silentSinceMs ?? atMs;
    return { url, error: look.error, silentSinceMs, pair: undefined, boundsMs: [] };
  }
  return {
    url,
    error: null,
    silentSinceMs: null,
    pair: nextPair(before?.pair, look.status.gateway),
    boundsMs: look.status.latency_bounds_ms ?? [],
  };
}

/** As `--json` prints it, and as the screen shows it. */
export type TopView = ReturnType<typeof viewOf>;
export type GatewayView = TopView["gateways"][number];
export type NodeView = NonNullable<TopView["nodes"]>[number];

export function viewOf(state: TopState) {
  const { status, atMs, statusAtMs } = state;
  const gateways = state.gateways.map((gateway) => gatewayView(gateway, atMs));
  const nodes = (status?.nodes ?? []).map((node) => nodeView(node, state));
  return {
    cluster: status === undefined ? null : clusterView(status),
    /** Since the cluster was told; not 0 while no gateway answers. */
    age_ms: status === undefined ? null : Math.round(atMs - statusAtMs),
    total: {
      reads_per_second: sum(nodes.map(({ reads_per_second: reads }) => reads)),
      writes_per_second: sum(nodes.map(({ writes_per_second: writes }) => writes)),
      scans_per_second: sum(nodes.map(({ scans_per_second: scans }) => scans)),
      failures_per_second: sum(nodes.map(({ failures_per_second: failures }) => failures)),
      watchers: sum(gateways.map(({ watchers }) => watchers)),
    },
    gateways,
    nodes,
  };
}

function clusterView({ vshards, meta, ...status }: StatusJson) {
  return {
    id: status.cluster_id,
    map_version: status.map_version,
    source: status.source,
    reason: status.reason,
    meta_leader: meta.leader,
    nodes: status.nodes.length,
    answering: status.nodes.filter(({ answering }) => answering).length,
    vshards: vshards.count,
    without_leader: vshards.without_leader?.length ?? null,
    without_quorum: vshards.without_quorum.length,
    moves: status.moves.length,
    objects: vshards.objects,
    size_bytes: vshards.size_bytes,
  };
}

function gatewayView({ url, error, silentSinceMs, pair, boundsMs }: GatewayState, atMs: number) {
  const quantile = (q: number) =>
    pair === undefined ? null : quantileMs(pair, (one) => one.request_counts, q, boundsMs);
  return {
    url,
    answering: error === null,
    error,
    silent_ms: silentSinceMs === null ? null : Math.round(atMs - silentSinceMs),
    requests_per_second: pair ? ratePerSecond(pair, ({ requests }) => requests) : null,
    failures_per_second: pair ? ratePerSecond(pair, ({ failures }) => failures) : null,
    p50_ms: quantile(0.5),
    p99_ms: quantile(0.99),
    in_flight: pair?.now.in_flight ?? null,
    connections: pair?.now.connections ?? null,
    watchers: pair?.now.watchers ?? null,
    watch_lag_ms: pair?.now.watch_lag_ms ?? null,
  };
}

type NodeJson = StatusJson["nodes"][number];

function nodeView(node: NodeJson, { nodes, status }: TopState) {
  const pair = node.answering ? nodes.get(node.id) : undefined;
  const boundsMs = status?.latency_bounds_ms ?? [];
  const rate = (countOf: (one: NodeFiguresJson) => number) =>
    pair === undefined ? null : ratePerSecond(pair, countOf);
  const quantile = (countsOf: (one: NodeFiguresJson) => readonly number[], q: number) =>
    pair === undefined ? null : quantileMs(pair, countsOf, q, boundsMs);
  return {
    id: node.id,
    address: node.address,
    state: node.state,
    answering: node.answering,
    leaders: node.leaders,
    replicas: node.replicas,
    reads_per_second: rate(({ gets }) => gets),
    writes_per_second: rate(({ puts, deletes, batches }) => puts + deletes + batches),
    scans_per_second: rate(({ scans }) => scans),
    failures_per_second: rate(({ failures }) => failures),
    read_p50_ms: quantile((one) => one.read_counts, 0.5),
    read_p99_ms: quantile((one) => one.read_counts, 0.99),
    write_p50_ms: quantile((one) => one.write_counts, 0.5),
    write_p99_ms: quantile((one) => one.write_counts, 0.99),
    sync_p99_ms: quantile((one) => one.sync_counts, 0.99),
    apply_lag_entries: pair?.now.apply_lag_entries ?? null,
    lag_entries: node.lag_entries_max,
    used_bytes: node.used_bytes,
    capacity_bytes: node.capacity_bytes,
    writable: node.writable,
  };
}

/** Unknown parts count as nothing; null when no part is known. */
function sum(parts: readonly (number | null)[]): number | null {
  const known = parts.filter((part) => part !== null);
  return known.length === 0 ? null : rounded(known.reduce((total, part) => total + part, 0));
}
