/** Traces that stay in memory, of a clock and a seed that the test has chosen. */
import { ManualClock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { TraceSampler } from "#shared/trace-sampler.ts";
import type { FinishedSpan, TraceContext, Tracing } from "#shared/tracing.ts";

export class MemoryTracing implements Tracing {
  readonly isOn = true;
  readonly spans: FinishedSpan[] = [];
  readonly #sampler: TraceSampler;

  constructor(ratio = 1) {
    this.#sampler = new TraceSampler({
      ...{ ratio, isParentBased: true, clientTracesPerSecondMax: 10 },
      ...{ clock: new ManualClock(), random: new SeededRandom(7) },
    });
  }

  sample(parent: TraceContext | undefined) {
    return this.#sampler.sample(parent);
  }

  childOf(parent: TraceContext): TraceContext {
    return this.#sampler.childOf(parent);
  }

  record(span: FinishedSpan): void {
    this.spans.push(span);
  }

  /** Of all recorded spans. */
  get names(): readonly string[] {
    return this.spans.map(({ name }) => name);
  }
}
