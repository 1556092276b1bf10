/**
 * Traces, as the code that is traced sees them. What exports spans is `shared/runtime/otlp-tracing.ts`.
 *
 * Whether a request is traced is decided once, by the gateway that takes it (`sample`). From there on a
 * context travels with it, 25 bytes: trace id, span id, flags; whoever has none makes no span, and
 * that costs one comparison. A span is recorded when it has ended, with times that were read anyway: so
 * there are no span objects on the way.
 */

/** 16 bytes trace id, 8 bytes span id, 1 byte flags, as `traceparent` has them. */
export type TraceContext = Uint8Array;

export type SpanKind = "internal" | "server" | "client" | "producer" | "consumer";

/** Never keys, values or what could hold them: traces are kept where other people look at them. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

export type FinishedSpan = {
  /** Of few different ones. */
  readonly name: string;
  readonly kind: SpanKind;
  /** Of the span itself. */
  readonly context: TraceContext;
  /** Undefined for the root of its trace. */
  readonly parent: TraceContext | undefined;
  /** Monotonic milliseconds, as is `endMs`. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes?: SpanAttributes | undefined;
  /** Spans that it has to do with, and is no child of. */
  readonly links?: readonly TraceContext[] | undefined;
  /** What went wrong: one of few words. */
  readonly error?: string | undefined;
};

/** A request that is traced, on its way through a gateway. */
export type RequestTrace = {
  /** Of the span of the request. */
  readonly context: TraceContext;
  /** What its client says it is part of. */
  readonly parent: TraceContext | undefined;
  readonly startMs: number;
  /** So many may yet be made of what it asks of storage. */
  spansLeft: number;
  /** Once it is known who asks. */
  tenant: number | undefined;
};

export type TraceFigures = {
  readonly spansRecorded: number;
  readonly spansExported: number;
  /** Could not be delivered, or found the queue full. */
  readonly spansLost: number;
};

export interface Tracing {
  /** False: nothing is ever sampled, and nothing that is recorded arrives. */
  readonly isOn: boolean;
  /** Decides whether a request is traced; `parent` is what its client sent. */
  sample(parent: TraceContext | undefined): RequestTrace | undefined;
  /** The context of a new span in the same trace. */
  childOf(parent: TraceContext): TraceContext;
  /** Takes a span that has ended. Never throws, never waits. */
  record(span: FinishedSpan): void;
}

export const noTracing: Tracing = {
  isOn: false,
  sample: () => undefined,
  childOf: (parent) => parent,
  record: () => undefined,
};

/** Fields of a log line that belongs to a span; none without one. */
export function traceFields(
  context: TraceContext | undefined,
): { readonly trace_id: string; readonly span_id: string } | Record<string, never> {
  if (context === undefined) return {};
  return { trace_id: traceIdOf(context), span_id: spanIdOf(context) };
}

export const traceIdOf = (context: TraceContext): string => context.subarray(0, 16).toHex();

export const spanIdOf = (context: TraceContext): string => context.subarray(16, 24).toHex();

const SAMPLED_FLAG = 1;

export const isSampled = (context: TraceContext): boolean => (context[24]! & SAMPLED_FLAG) !== 0;
