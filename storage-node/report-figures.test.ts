import { describe, expect, it } from "vitest";
import { failureOf } from "#proto/codec/failure.ts";
import { ManualClock } from "#shared/clock.ts";
import { LATENCY_BOUNDS_MS, LatencyHistogram } from "#shared/latency-histogram.ts";
import type { NodeSources } from "./metrics/node-metrics.ts";
import { OPERATION_KINDS, OperationFigures, type OperationKind } from "./operation-figures.ts";
import { nodeFigures } from "./report-figures.ts";

const kindOf = (name: (typeof OPERATION_KINDS)[number]): OperationKind =>
  OPERATION_KINDS.indexOf(name) as OperationKind;

const NOT_APPLIED = { notApplied: true };

/** What `nodeFigures()` looks at. */
function sourcesOf(operations: OperationFigures, syncs: LatencyHistogram): NodeSources {
  const clock = new ManualClock(0);
  clock.advance(1_234);
  const sources = {
    clock,
    operations,
    engine: { stats: () => ({ sizeBytes: 100, details: {} }) },
    wal: { figures: { syncs }, sizeBytes: 20, spaceLow: false },
    diskGuard: { freeBytes: Number.POSITIVE_INFINITY, writable: true },
    replicas: [
      { raft: { commit: 7 }, applied: { index: 7 } },
      { raft: { commit: 9 }, applied: { index: 4 } },
      { raft: { commit: 8 }, applied: { index: 7 } },
    ],
  };
  return sources as unknown as NodeSources;
}

describe("nodeFigures()", () => {
  it("counts operations by kind and time, failures without redirects, and the worst lag", () => {
    const operations = new OperationFigures();
    const value = { kind: "written" } as never;
    operations.answered(kindOf("get"), value, 0.05);
    operations.answered(kindOf("scan"), value, 0.05);
    operations.answered(kindOf("put"), value, 1e9);
    operations.answered(kindOf("batch"), failureOf("STORAGE_FULL", "", NOT_APPLIED), 0.05);
    operations.answered(kindOf("get"), failureOf("NOT_LEADER", "", NOT_APPLIED), 0.05);
    const syncs = new LatencyHistogram();
    syncs.observe(0.05);
    const { done, ...node } = nodeFigures(sourcesOf(operations, syncs), 700);
    expect(node).toEqual({ usedBytes: 120, capacityBytes: 0, syncMicros: 700, writable: true });
    const counts = (first: bigint, last: bigint) => [
      ...[first, ...new Array<bigint>(LATENCY_BOUNDS_MS.length - 1).fill(0n), last],
    ];
    expect(done).toEqual({
      uptimeMs: 1_234n,
      ...{ gets: 2n, puts: 1n, deletes: 0n, batches: 1n, scans: 1n, failures: 1n },
      readCounts: counts(3n, 0n),
      writeCounts: counts(1n, 1n),
      syncCounts: counts(1n, 0n),
      applyLagEntries: 5n,
    });
  });
});
