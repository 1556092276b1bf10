/** What a node tells of itself in its report. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { NodeFiguresSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { LatencyHistogram } from "#shared/latency-histogram.ts";
import type { NodeFigures } from "./meta/member.ts";
import type { NodeSources } from "./metrics/node-metrics.ts";

/** `syncMicros`: smoothed time of a log sync. */
export function nodeFigures(sources: NodeSources, syncMicros: number): NodeFigures {
  const { engine, wal, diskGuard } = sources;
  const usedBytes = engine.stats().sizeBytes + wal.sizeBytes;
  return {
    usedBytes,
    // Unknown until the guard has looked once.
    capacityBytes: Number.isFinite(diskGuard.freeBytes) ? usedBytes + diskGuard.freeBytes : 0,
    syncMicros,
    writable: diskGuard.writable && !wal.spaceLow,
    done: doneSinceStart(sources),
  };
}

/** Whoever sees two of them has rates and latencies of the time in between. */
function doneSinceStart({
  clock,
  operations,
  wal,
  replicas,
}: NodeSources): MessageInitShape<typeof NodeFiguresSchema> {
  let lag = 0;
  for (const { raft, applied } of replicas) lag = Math.max(lag, raft.commit - applied.index);
  return {
    uptimeMs: BigInt(Math.round(clock.monotonicMs())),
    gets: BigInt(operations.gets),
    puts: BigInt(operations.puts),
    deletes: BigInt(operations.deletes),
    batches: BigInt(operations.batches),
    scans: BigInt(operations.scans),
    failures: BigInt(operations.failures - operations.redirects),
    readCounts: countsOf(operations.read),
    writeCounts: countsOf(operations.write),
    syncCounts: countsOf(wal.figures.syncs),
    applyLagEntries: BigInt(lag),
  };
}

const countsOf = ({ buckets }: LatencyHistogram): bigint[] => Array.from(buckets, BigInt);
