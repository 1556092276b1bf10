/** Reads the storage node's figures when somebody asks for metrics. */
import type { Clock } from "#shared/clock.ts";
import type { LatencyHistogram } from "#shared/latency-histogram.ts";
import { type MetricReaders, type MetricSink, readMetrics } from "#shared/runtime/metrics.ts";
import type { NodeChanges } from "#storage-node/changes/node-changes.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import type { EntryFigures } from "#storage-node/entry-figures.ts";
import {
  OPERATION_KINDS,
  type OperationFigures,
  type OperationKind,
} from "#storage-node/operation-figures.ts";
import type { NodeBudget } from "#storage-node/replica/budget.ts";
import type { DiskGuard } from "#storage-node/replica/disk-guard.ts";
import type { RaftWatch } from "#storage-node/replica/raft-watch.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import type { SnapshotCounts } from "#storage-node/snapshot/snapshots.ts";
import type { Transport } from "#storage-node/transport/transport.ts";
import type { Wal } from "#storage-node/wal/types.ts";
import { NODE_METRICS } from "./catalogue.ts";
import { groupFigures } from "./group-figures.ts";

/** Where the figures are. */
export type NodeSources = {
  readonly clock: Clock;
  readonly operations: OperationFigures;
  readonly replicas: readonly Replica[];
  readonly budget: NodeBudget;
  readonly raftWatch: RaftWatch;
  readonly entries: EntryFigures;
  readonly wal: Wal;
  readonly engine: Engine;
  readonly engineWrites: LatencyHistogram;
  readonly diskGuard: DiskGuard;
  readonly transport: Transport;
  readonly snapshots: SnapshotCounts | undefined;
  readonly changes: Pick<NodeChanges, "figures">;
};

export const readNodeMetrics = (sources: NodeSources, mapVersion: number) =>
  readMetrics(NODE_METRICS, {
    ...operationReaders(sources),
    ...raftReaders(sources),
    ...diskReaders(sources),
    ...networkReaders(sources),
    ...changeReaders(sources),
    mapVersion: (sink) => sink.value(mapVersion),
  });

type Readers = Partial<MetricReaders<typeof NODE_METRICS>>;

function operationReaders({ operations }: NodeSources) {
  return {
    operations: (sink) => {
      OPERATION_KINDS.forEach((operation, at) => {
        const kind = at as OperationKind;
        const succeeded = operations.succeeded[kind]!;
        if (succeeded > 0) sink.value(succeeded, { operation, outcome: "ok" });
        for (const [code, count] of operations.failedOf(kind)) {
          sink.value(count, { operation, outcome: code.toLowerCase() });
        }
      });
    },
    operationDuration: (sink) => {
      OPERATION_KINDS.forEach((operation, at) => {
        const durations = operations.durations[at]!;
        if (durations.count > 0) sink.seconds(durations, { operation });
      });
    },
    streams: (sink) => sink.value(operations.streams),
  } satisfies Readers;
}

function raftReaders({ replicas, budget, raftWatch, entries }: NodeSources) {
  const figures = groupFigures(
    replicas.map(({ raft, applied }) => ({
      ...{ status: raft.status(), self: raft.id, appliedIndex: applied.index },
    })),
  );
  return {
    groups: (sink) => sink.value(figures.groups),
    groupsLed: (sink) => sink.value(figures.led),
    groupsWithoutLeader: (sink) => sink.value(figures.withoutLeader),
    groupsQuorumAtRisk: (sink) => sink.value(figures.quorumAtRisk),
    termChanges: (sink) => sink.value(raftWatch.termChanges),
    leaderChanges: (sink) => sink.value(raftWatch.leaderChanges),
    proposals: (sink) => sink.value(budget.proposed),
    proposalsPending: (sink) => {
      sink.value(replicas.reduce((sum, replica) => sum + replica.writesPending, 0));
    },
    proposalsPendingBytes: (sink) => sink.value(budget.pendingBytes),
    proposalsRejected: (sink) => sink.value(budget.rejected),
    commitDuration: (sink) => sink.seconds(entries.commits),
    applyLag: (sink) => sink.value(figures.applyLagEntries),
    followerLag: (sink) => sink.value(figures.followerLagEntries),
  } satisfies Readers;
}

function diskReaders({ wal, engine, engineWrites, diskGuard }: NodeSources) {
  const { sizeBytes, details } = engine.stats();
  return {
    syncDuration: (sink) => sink.seconds(wal.figures.syncs),
    walBytes: (sink) => sink.value(wal.figures.bytes),
    walBatches: (sink) => sink.value(wal.figures.syncs.count),
    walSize: (sink) => sink.value(wal.sizeBytes),
    walSegments: (sink) => sink.value(wal.figures.segments),
    engineWriteDuration: (sink) => sink.seconds(engineWrites),
    engineSize: (sink) => sink.value(sizeBytes),
    engineWriteStalled: (sink) => sink.value(details.writeStopped ?? Number.NaN),
    diskFree: (sink) => sink.value(diskGuard.freeBytes),
    diskReserve: (sink) => sink.value(diskGuard.reserveBytes),
    writable: (sink) => sink.value(diskGuard.writable && !wal.spaceLow ? 1 : 0),
  } satisfies Readers;
}

function changeReaders({ changes }: NodeSources) {
  const figures = changes.figures();
  return {
    changeStreams: (sink) => sink.value(figures.streams),
    changeFollows: (sink) => sink.value(figures.follows),
    changeReads: (sink) => sink.value(figures.reads),
    changeReadsPending: (sink) => sink.value(figures.readsPending),
    changeBatches: (sink) => sink.value(figures.batches),
    changeBytes: (sink) => sink.value(figures.bytes),
    changeFallsBehind: (sink) => sink.value(figures.fallsBehind),
  } satisfies Readers;
}

function networkReaders({ transport, snapshots }: NodeSources) {
  const peers = transport.figures?.() ?? [];
  const sum = (sink: MetricSink, name: "messagesDropped" | "bytesSent" | "bytesReceived"): void =>
    sink.value(peers.reduce((total, peer) => total + peer[name], 0));
  return {
    links: (sink) => sink.value(peers.filter((peer) => peer.isUp).length),
    linksWanted: (sink) => sink.value(peers.length),
    messagesDropped: (sink) => sum(sink, "messagesDropped"),
    messagesUnroutable: (sink) => sink.value(transport.messagesUnroutable ?? 0),
    bytesSent: (sink) => sum(sink, "bytesSent"),
    bytesReceived: (sink) => sum(sink, "bytesReceived"),
    snapshotsSent: (sink) => sink.value(snapshots?.sent ?? 0),
    snapshotsReceived: (sink) => sink.value(snapshots?.received ?? 0),
  } satisfies Readers;
}
