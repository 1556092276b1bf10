/** Reads the gateway's figures when somebody asks for metrics. */
import type { ClusterView } from "#gateway/cluster/cluster-view.ts";
import type { EdgeFigures } from "#gateway/edge.ts";
import { type HttpFigures, statusesOf } from "#gateway/http/http-figures.ts";
import { RETRY_REASONS } from "#gateway/storage/call-figures.ts";
import type { StorageClient } from "#gateway/storage/client.ts";
import { type MetricReaders, type MetricSink, readMetrics } from "#shared/runtime/metrics.ts";
import { GATEWAY_METRICS } from "./catalogue.ts";
import type { TenantMetrics } from "./tenant-metrics.ts";

export type GatewayFigures = {
  readonly http: HttpFigures;
  readonly storage: Pick<StorageClient, "figures" | "channels">;
  readonly cluster: Pick<ClusterView, "map">;
  readonly edge: EdgeFigures;
  readonly ofTenants: TenantMetrics;
};

export const readGatewayMetrics = (figures: GatewayFigures) =>
  readMetrics(GATEWAY_METRICS, readersOf(figures));

function readersOf(figures: GatewayFigures): MetricReaders<typeof GATEWAY_METRICS> {
  const { ofTenants } = figures;
  return {
    ...httpReaders(figures),
    ...storageReaders(figures),
    ...edgeReaders(figures),
    ...watchReaders(figures),
    ...busReaders(figures),
    ...ofTenants.readers(),
  };
}

function httpReaders({ http }: GatewayFigures) {
  return {
    httpRequests: (sink) => {
      for (const cell of http.cells()) {
        const { route, method } = cell;
        for (const [status, count] of statusesOf(cell))
          sink.value(count, { route, method, status });
      }
    },
    httpDuration: (sink) => {
      for (const { route, method, durations } of http.cells()) {
        if (durations.count > 0) sink.seconds(durations, { route, method });
      }
    },
    httpInFlight: (sink) => sink.value(http.inFlight),
    httpConnections: (sink) => sink.value(http.connections),
  } satisfies Partial<MetricReaders<typeof GATEWAY_METRICS>>;
}

function storageReaders({ storage, cluster }: GatewayFigures) {
  const { figures } = storage;
  return {
    operations: (sink) => {
      for (const [operation, { outcomes }] of figures.cells) {
        for (const [outcome, count] of outcomes) {
          sink.value(count, { operation, outcome: outcome.toLowerCase() });
        }
      }
    },
    operationDuration: (sink) => {
      for (const [operation, { durations }] of figures.cells)
        sink.seconds(durations, { operation });
    },
    retries: (sink) => {
      for (const reason of RETRY_REASONS) sink.value(figures.retries[reason], { reason });
    },
    streamUp: (sink) => {
      for (const { node, isUp } of storage.channels()) sink.value(isUp ? 1 : 0, nodeLabel(node));
    },
    streamInFlight: (sink) => {
      for (const { node, inFlight } of storage.channels()) sink.value(inFlight, nodeLabel(node));
    },
    streamInFlightBytes: (sink) => {
      for (const channel of storage.channels()) {
        sink.value(channel.inFlightBytes, nodeLabel(channel.node));
      }
    },
    streamWindowBytes: (sink) => {
      for (const channel of storage.channels()) {
        sink.value(channel.windowBytes, nodeLabel(channel.node));
      }
    },
    mapVersion: (sink) => sink.value(cluster.map()?.version ?? 0),
  } satisfies Partial<MetricReaders<typeof GATEWAY_METRICS>>;
}

function edgeReaders({ edge }: GatewayFigures) {
  const { refusals, audit, directory, jobs } = edge;
  return {
    authFailures: (sink) => {
      for (const [reason, count] of refusals.counts) sink.value(count, { reason });
    },
    authCacheEntries: (sink) => sink.value(edge.remembered()),
    auditRecords: (sink) => sink.value(audit.written),
    auditFailures: (sink) => sink.value(audit.writeFailures),
    auditLost: (sink) => sink.value(audit.lost),
    directorySilence: (sink) => sink.value(directory.silenceMs() / 1000),
    jobsRunning: (sink) => {
      for (const [kind, count] of jobs.running()) sink.value(count, { kind });
    },
  } satisfies Partial<MetricReaders<typeof GATEWAY_METRICS>>;
}

function watchReaders({ edge }: GatewayFigures) {
  const figures = edge.watches();
  return {
    watchers: (sink) => sink.value(figures.watches),
    watchersBehind: (sink) => sink.value(figures.watchesBehind),
    watchGroups: (sink) => sink.value(figures.groups),
    watchesOpened: (sink) => sink.value(figures.opened),
    watchEvents: (sink) => {
      for (const [event, count] of Object.entries(figures.eventsMatched)) {
        sink.value(count, { event });
      }
    },
    watchBytes: (sink) => sink.value(figures.bytesWritten),
    watchWaitingBytes: (sink) => sink.value(figures.waitingBytes),
    watchHeldBytes: (sink) => sink.value(figures.heldBytes),
    watchResyncs: (sink) => sink.value(figures.resyncs),
    watchCompacted: (sink) => sink.value(figures.compactions),
    watchLag: (sink) => sink.seconds(figures.lags),
    feedVshards: (sink) => sink.value(figures.vshardsListened),
    feedBehind: (sink) => sink.value(figures.vshardsBehind),
    feedChanges: (sink) => sink.value(figures.changesReceived),
    feedRepeated: (sink) => sink.value(figures.changesRepeated),
    feedGaps: (sink) => sink.value(figures.gaps),
    feedLogReads: (sink) => {
      sink.value(figures.logReads - figures.logReadFailures, { outcome: "ok" });
      sink.value(figures.logReadFailures, { outcome: "failed" });
    },
  } satisfies Partial<MetricReaders<typeof GATEWAY_METRICS>>;
}

function busReaders({ edge }: GatewayFigures) {
  const bus = edge.bus?.();
  const ifAny = (value: number | undefined) => (sink: MetricSink) =>
    sink.value(value ?? Number.NaN);
  return {
    busUp: ifAny(bus?.connected),
    busMessages: ifAny(bus?.messagesReceived),
    busRefused: ifAny(bus?.messagesRefused),
    busReconnects: ifAny(bus && Math.max(0, bus.connects - 1)),
  } satisfies Partial<MetricReaders<typeof GATEWAY_METRICS>>;
}

const nodeLabel = (node: number) => ({ node: String(node) });
