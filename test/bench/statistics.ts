/** From the slices of both servers to one row of the table. */

import { errorCount, isValid, type LoadResult, requestsPerSecond } from "./load.ts";
import type { Work } from "./options.ts";
import type { ServerName } from "./protocol.ts";

/** One measured slice of load on one server. Slices of a pair follow each other directly. */
export type Slice = {
  readonly server: ServerName;
  readonly pair: number;
  readonly seed: number;
  readonly result: LoadResult;
};

/** All slices under the same load. */
export type Cell = {
  readonly work: Work;
  readonly connections: number;
  readonly valueSizeBytes: number;
  readonly slices: readonly Slice[];
};

/** Medians over the slices of one server. */
export type Figures =
  | {
      readonly kind: "valid";
      readonly perSecond: number;
      readonly p50Ms: number;
      readonly p99Ms: number;
    }
  /** Some request failed, or none was answered: there is no figure to report. */
  | { readonly kind: "invalid"; readonly errors: number };

/** minikv divided by the other server, per pair, so that slow drift of the machine cancels out. */
export type Ratio = { readonly median: number; readonly min: number; readonly max: number };

export type Summary = {
  readonly minikv: Figures;
  /** Of etcd or of the bare minikv. Undefined when no other server was loaded. */
  readonly peer: Figures | undefined;
  /** Undefined without valid figures of both. */
  readonly throughputRatio: Ratio | undefined;
  readonly p99Ratio: Ratio | undefined;
};

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new RangeError("no median of nothing");
  return sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2;
}

const PEERS = ["etcd", "bare", "calm"] as const;

export function summarize(cell: Cell): Summary {
  const minikv = figuresOf(cell.slices, "minikv") ?? { kind: "invalid", errors: 0 };
  const peer = PEERS.map((name) => figuresOf(cell.slices, name)).find(
    (found) => found !== undefined,
  );
  const comparable = minikv.kind === "valid" && peer?.kind === "valid";
  return {
    minikv,
    peer,
    throughputRatio: comparable ? ratioOf(cell.slices, requestsPerSecond) : undefined,
    p99Ratio: comparable ? ratioOf(cell.slices, (result) => result.p99Ms) : undefined,
  };
}

function figuresOf(slices: readonly Slice[], server: ServerName): Figures | undefined {
  const results = slices.filter((slice) => slice.server === server).map(({ result }) => result);
  if (results.length === 0) return undefined;
  if (!results.every(isValid)) {
    return {
      kind: "invalid",
      errors: results.reduce((sum, { errors }) => sum + errorCount(errors), 0),
    };
  }
  return {
    kind: "valid",
    perSecond: median(results.map(requestsPerSecond)),
    p50Ms: median(results.map((result) => result.p50Ms)),
    p99Ms: median(results.map((result) => result.p99Ms)),
  };
}

function ratioOf(
  slices: readonly Slice[],
  measure: (result: LoadResult) => number,
): Ratio | undefined {
  const ratios: number[] = [];
  for (const slice of slices) {
    if (slice.server !== "minikv") continue;
    const other = slices.find(({ server, pair }) => server !== "minikv" && pair === slice.pair);
    // autocannon rounds latencies below a millisecond to 0, which is no divisor.
    if (other !== undefined && measure(other.result) > 0) {
      ratios.push(measure(slice.result) / measure(other.result));
    }
  }
  if (ratios.length === 0) return undefined;
  return { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) };
}
