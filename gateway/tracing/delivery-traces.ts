/**
 * Traces of changes on their way through the hub: from where an event is given to the groups that want it
 * until all of them have been written. One span for each event, however many watch.
 */
import type { Clock } from "#shared/clock.ts";
import { TRACE_SPANS_PER_FLUSH_MAX } from "#shared/limits.ts";
import { recordDelivery } from "#shared/trace-changes.ts";
import type { TraceContext, Tracing } from "#shared/tracing.ts";

type Waiting = {
  readonly traceContext: TraceContext;
  readonly watchers: number;
  readonly startMs: number;
};

export class DeliveryTraces {
  readonly #tracing: Tracing;
  readonly #clock: Clock;
  #waiting: Waiting[] = [];

  constructor(tracing: Tracing, clock: Clock) {
    this.#tracing = tracing;
    this.#clock = clock;
  }

  /** An event with a trace was given to so many watches, and is written with the next flush. */
  given(traceContext: TraceContext, watchers: number): void {
    if (!this.#tracing.isOn || this.#waiting.length >= TRACE_SPANS_PER_FLUSH_MAX) return;
    // A view would keep the message that the change came with.
    const context = traceContext.slice();
    this.#waiting.push({ traceContext: context, watchers, startMs: this.#clock.monotonicMs() });
  }

  /** What was given has been written. */
  flushed(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    const endMs = this.#clock.monotonicMs();
    for (const { traceContext, watchers, startMs } of waiting) {
      recordDelivery(this.#tracing, [{ traceContext }], { watchers, startMs, endMs });
    }
  }
}
