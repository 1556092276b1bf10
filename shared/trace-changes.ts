/**
 * Spans of changes on their way to watchers. Both are part of the trace of the write and linked to it: its
 * own spans have ended when they begin, and delivery may come much later.
 *
 * A change carries the context of its write while it is fresh (`ChangeRecord.traceContext`), and almost
 * none does. So callers ask `isTraced` first, which costs one comparison.
 */
import { TRACE_SPANS_PER_FLUSH_MAX } from "./limits.ts";
import { isSampled, type SpanAttributes, type TraceContext, type Tracing } from "./tracing.ts";

type TracedChange = { readonly traceContext: TraceContext };

/** Whether a change is to have spans. */
export const isTraced = ({ traceContext }: TracedChange): boolean =>
  traceContext.length > 0 && isSampled(traceContext);

type Times = {
  /** Monotonic milliseconds. */
  readonly startMs: number;
  readonly endMs: number;
};

/** A batch of changes was handed to the bus. */
export function recordPublish(
  tracing: Tracing,
  changes: readonly TracedChange[],
  times: Times & { readonly vshard: number; readonly error?: string | undefined },
): void {
  const { vshard, startMs, endMs, error } = times;
  recordEach(tracing, changes, "publish", {
    ...{ kind: "producer", startMs, endMs, error },
    attributes: {
      "messaging.operation.type": "send",
      "messaging.system": "nats",
      "messaging.batch.message_count": changes.length,
      "minikv.vshard": vshard,
    },
  });
}

/** A gateway has handed changes to watchers: once for each change of a flush, however many watch. */
export function recordDelivery(
  tracing: Tracing,
  changes: readonly TracedChange[],
  times: Times & { readonly watchers: number },
): void {
  const { watchers, startMs, endMs } = times;
  recordEach(tracing, changes, "deliver", {
    ...{ kind: "consumer", startMs, endMs },
    attributes: {
      "messaging.operation.type": "process",
      "minikv.watchers": watchers,
    },
  });
}

function recordEach(
  tracing: Tracing,
  changes: readonly TracedChange[],
  name: string,
  span: Times & {
    readonly kind: "producer" | "consumer";
    readonly attributes: SpanAttributes;
    readonly error?: string | undefined;
  },
): void {
  if (!tracing.isOn) return;
  let left = TRACE_SPANS_PER_FLUSH_MAX;
  for (const change of changes) {
    if (!isTraced(change)) continue;
    if (left-- === 0) return;
    const parent = change.traceContext;
    tracing.record({ name, ...span, parent, context: tracing.childOf(parent), links: [parent] });
  }
}
