/**
 * What calls to storage nodes came to, counted in plain numbers; metrics read them.
 *
 * A call is what one vshard is asked: with all its attempts, from its start until the caller is
 * answered. A batch makes one for each of its vshards, or more where keys repeat; a scan one for each step.
 */
import type { OperationBody } from "#proto/codec/messages.ts";
import { LatencyHistogram } from "#shared/latency-histogram.ts";
import type { TraceContext } from "#shared/tracing.ts";

export const CALL_KINDS = ["get", "put", "delete", "batch", "scan", "count", "reseal"] as const;
export type CallKind = (typeof CALL_KINDS)[number];

/** Why a call was sent once more. `redirect`: to the leader that the node has named. */
export const RETRY_REASONS = ["redirect", "not_leader", "unavailable", "stale_replica"] as const;
export type RetryReason = (typeof RETRY_REASONS)[number];

export type CallCell = {
  readonly outcomes: Map<string, number>;
  readonly durations: LatencyHistogram;
};

/** One that took long; nothing of key or value. */
export type SlowCall = {
  readonly kind: CallKind;
  readonly durationMs: number;
  readonly attempts: number;
  /** Between attempts, waiting for a leader or a node. */
  readonly waitedMs: number;
  /** Asked last; 0 for none. */
  readonly node: number;
  readonly vshard: number;
  readonly tenant: number;
  readonly keyBytes: number;
  /** "ok", or the code of the error. */
  readonly outcome: string;
  /** Of the request, when it is traced. */
  readonly traceContext: TraceContext | undefined;
};

export class CallFigures {
  readonly retries: Record<RetryReason, number> = {
    ...{ redirect: 0, not_leader: 0, unavailable: 0, stale_replica: 0 },
  };
  /** Calls that take longer are told to `onSlow`. */
  slowMs = Number.POSITIVE_INFINITY;
  onSlow: (call: SlowCall) => void = () => undefined;
  readonly #cells = new Map<CallKind, CallCell>();

  ended(kind: CallKind, outcome: string, durationMs: number): void {
    let cell = this.#cells.get(kind);
    if (cell === undefined) {
      cell = { outcomes: new Map(), durations: new LatencyHistogram() };
      this.#cells.set(kind, cell);
    }
    cell.durations.observe(durationMs);
    cell.outcomes.set(outcome, (cell.outcomes.get(outcome) ?? 0) + 1);
  }

  get cells(): ReadonlyMap<CallKind, CallCell> {
    return this.#cells;
  }
}

export function kindOf(body: OperationBody): CallKind {
  if (body.kind === "get") return "get";
  if (body.kind === "scan") return body.countOnly ? "count" : "scan";
  if (body.kind === "cancel" || body.command.mutations.length !== 1) return "batch";
  const { kind } = body.command.mutations[0]!.action;
  return kind === "expire" ? "batch" : kind;
}
