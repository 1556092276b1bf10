/**
 * What gateways have asked of this node, counted in plain numbers; metrics and the node's report read them.
 *
 * An operation counts when it is answered, from its arrival on the stream on. A write of several
 * mutations is a batch, whatever is in it.
 */
import type { OperationBody, ResultBody } from "#proto/codec/messages.ts";
import { type ErrorCode, errorCodeFromWire } from "#shared/errors.ts";
import { LatencyHistogram } from "#shared/latency-histogram.ts";

export const OPERATION_KINDS = ["get", "put", "delete", "batch", "scan", "reseal"] as const;
/** Index into OPERATION_KINDS. */
export type OperationKind = 0 | 1 | 2 | 3 | 4 | 5;

export type SlowOperation = {
  readonly operation: (typeof OPERATION_KINDS)[number];
  readonly outcome: "ok" | ErrorCode;
  readonly durationMs: number;
};

export class OperationFigures {
  /** Streams of gateways that are open. */
  streams = 0;
  /** By kind: how long, whatever the outcome. */
  readonly durations: readonly LatencyHistogram[] = OPERATION_KINDS.map(
    () => new LatencyHistogram(),
  );
  /** By kind: those that were not refused and did not fail. */
  readonly succeeded = new Float64Array(OPERATION_KINDS.length);
  /** Reads, and operations that failed, are told to `onSlow` when they take longer. */
  slowMs = Number.POSITIVE_INFINITY;
  onSlow: (operation: SlowOperation) => void = () => undefined;
  readonly #failed = OPERATION_KINDS.map(() => new Map<ErrorCode, number>());

  answered(kind: OperationKind, result: ResultBody, durationMs: number): void {
    this.durations[kind]!.observe(durationMs);
    const code = result.kind === "failure" ? errorCodeFromWire(result.code) : undefined;
    if (code !== undefined) this.#fail(kind, code);
    else this.succeeded[kind]!++;
    if (durationMs <= this.slowMs) return;
    // Writes that were carried out are told by their log entry, which knows where the time went.
    if (code !== undefined || result.kind !== "write") {
      this.onSlow({ operation: OPERATION_KINDS[kind], outcome: code ?? "ok", durationMs });
    }
  }

  failedOf(kind: OperationKind): ReadonlyMap<ErrorCode, number> {
    return this.#failed[kind]!;
  }

  get gets(): number {
    return this.durations[0]!.count;
  }

  get puts(): number {
    return this.durations[1]!.count;
  }

  get deletes(): number {
    return this.durations[2]!.count;
  }

  get batches(): number {
    return this.durations[3]!.count;
  }

  get scans(): number {
    return this.durations[4]!.count;
  }

  /** Of all kinds; a redirect to the leader is one. */
  get failures(): number {
    let failures = 0;
    for (const codes of this.#failed) for (const count of codes.values()) failures += count;
    return failures;
  }

  /** Of the failures those that only said who leads. */
  get redirects(): number {
    let redirects = 0;
    for (const codes of this.#failed) redirects += codes.get("NOT_LEADER") ?? 0;
    return redirects;
  }

  /** Point reads and steps of scans. */
  get read(): LatencyHistogram {
    return sumOf([this.durations[0]!, this.durations[4]!]);
  }

  get write(): LatencyHistogram {
    return sumOf([this.durations[1]!, this.durations[2]!, this.durations[3]!]);
  }

  #fail(kind: OperationKind, code: ErrorCode): void {
    const failed = this.#failed[kind]!;
    failed.set(code, (failed.get(code) ?? 0) + 1);
  }
}

function sumOf(parts: readonly LatencyHistogram[]): LatencyHistogram {
  const sum = new LatencyHistogram();
  for (const { buckets, sumMs } of parts) {
    for (let at = 0; at < buckets.length; at++) sum.buckets[at]! += buckets[at]!;
    sum.sumMs += sumMs;
  }
  return sum;
}

export function operationKindOf(body: OperationBody): OperationKind {
  if (body.kind === "get") return 0;
  if (body.kind === "scan") return 4;
  if (body.kind === "cancel" || body.command.mutations.length !== 1) return 3;
  switch (body.command.mutations[0]!.action.kind) {
    case "put":
      return 1;
    case "reseal":
      return 5;
    default:
      return 2;
  }
}
