/**
 * Traces by OpenTelemetry: spans that have ended go into its batch processor, and from there to its
 * exporters.
 *
 * Only those parts of it are used. Its tracers and contexts would have to be there before a span begins,
 * and be carried along; here ids are made by the sampler, and times were read where something happened.
 *
 * A collector that is slow or gone is no reason for anything: the queue is bounded and drops, what
 * cannot be delivered is lost, and the log hears of each change once.
 */
import { type HrTime, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  ConsoleSpanExporter,
  type ReadableSpan,
  type SpanExporter,
} from "@opentelemetry/sdk-trace";
import { TRACE_CLOCK_DRIFT_MS_MAX } from "#shared/limits.ts";
import { TraceSampler } from "#shared/trace-sampler.ts";
import {
  type FinishedSpan,
  spanIdOf,
  type TraceContext,
  type TraceFigures,
  traceIdOf,
} from "#shared/tracing.ts";
import type { OpenTracing, TracingOptions } from "./tracing.ts";
import type { TracingSettings } from "./tracing-settings.ts";

const KINDS = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;

const UNSET = { code: SpanStatusCode.UNSET };
const FAILED = { code: SpanStatusCode.ERROR };
const NOTHING: [] = [];
const SUCCESS = 0;

type ExportResult = Parameters<Parameters<SpanExporter["export"]>[1]>[0];

export class OtlpTracing implements OpenTracing {
  readonly isOn = true;
  readonly #options: TracingOptions;
  readonly #sampler: TraceSampler;
  readonly #resource: Resource;
  readonly #processor: BatchSpanProcessor;
  readonly #queueMax: number;
  readonly #scope: ReadableSpan["instrumentationScope"];
  /** Monotonic time plus this is the time of day. */
  #offsetMs: number;
  #recorded = 0;
  #exported = 0;
  #lost = 0;
  #isFailing = false;

  static async open(options: TracingOptions, settings: TracingSettings): Promise<OtlpTracing> {
    return new OtlpTracing(options, settings, await exporterOf(settings));
  }

  constructor(options: TracingOptions, settings: TracingSettings, exporter: SpanExporter) {
    const { clock, random, clientTracesPerSecondMax, service, version } = options;
    const { ratio, isParentBased } = settings;
    this.#options = options;
    this.#sampler = new TraceSampler({
      ...{ ratio, isParentBased, clientTracesPerSecondMax, clock, random },
    });
    this.#resource = resourceFromAttributes({
      "service.name": service,
      "service.version": version,
      "service.instance.id": random.fill(new Uint8Array(16)).toHex(),
      ...settings.resource,
    });
    this.#scope = { name: "minikv", version };
    this.#queueMax = settings.queue.maxQueueSize;
    this.#processor = new BatchSpanProcessor({
      ...settings.queue,
      exporter: this.#counted(exporter),
    });
    const offsetMs = clock.nowMs() - clock.monotonicMs();
    // Of the system's clock it is known to the microsecond.
    const { timeOrigin } = performance;
    const isSystemClock = Math.abs(offsetMs - timeOrigin) <= TRACE_CLOCK_DRIFT_MS_MAX;
    this.#offsetMs = isSystemClock ? timeOrigin : offsetMs;
    const { exporter: kind, url } = settings;
    options.logger.info(
      { exporter: kind, endpoint: kind === "otlp" ? new URL(url).host : undefined, ratio },
      "traces are on",
    );
  }

  sample(parent: TraceContext | undefined) {
    return this.#sampler.sample(parent);
  }

  childOf(parent: TraceContext): TraceContext {
    return this.#sampler.childOf(parent);
  }

  record(span: FinishedSpan): void {
    // Also of what is being sent, so that the processor never finds its own queue full: it tells nobody.
    const waiting = this.#recorded - this.#exported - this.#lost;
    this.#recorded++;
    if (waiting >= this.#queueMax) {
      this.#lost++;
      return;
    }
    this.#processor.onEnd(this.#readable(span));
  }

  figures(): TraceFigures {
    return {
      spansRecorded: this.#recorded,
      spansExported: this.#exported,
      spansLost: this.#lost,
    };
  }

  async close(timeoutMs: number): Promise<void> {
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(timeoutMs, resolve);
    await Promise.race([tooLate, this.#processor.shutdown().catch(() => undefined)]);
    cancel();
  }

  #readable(span: FinishedSpan): ReadableSpan {
    const { name, kind, context, parent, startMs, endMs, attributes, links, error } = span;
    const spanContext = toSpanContext(context, false);
    const isRemote = kind === "server" || kind === "consumer";
    this.#followClock();
    return {
      name,
      kind: KINDS[kind],
      spanContext: () => spanContext,
      ...(parent === undefined ? {} : { parentSpanContext: toSpanContext(parent, isRemote) }),
      startTime: toHrTime(startMs + this.#offsetMs),
      endTime: toHrTime(endMs + this.#offsetMs),
      duration: toHrTime(Math.max(0, endMs - startMs)),
      status: error === undefined ? UNSET : FAILED,
      attributes: error === undefined ? (attributes ?? {}) : { ...attributes, "error.type": error },
      links: links?.map((link) => ({ context: toSpanContext(link, false) })) ?? NOTHING,
      events: NOTHING,
      ended: true,
      resource: this.#resource,
      instrumentationScope: this.#scope,
      droppedAttributesCount: 0,
      droppedEventsCount: 0,
      droppedLinksCount: 0,
    };
  }

  /**
   * The wall clock may be set while the process runs, and its spans lie beside those of other machines. In
   * steps: a clock that is read to the millisecond would shift spans of one trace against each other.
   */
  #followClock(): void {
    const { clock } = this.#options;
    const offsetMs = clock.nowMs() - clock.monotonicMs();
    if (Math.abs(offsetMs - this.#offsetMs) > TRACE_CLOCK_DRIFT_MS_MAX) this.#offsetMs = offsetMs;
  }

  #counted(exporter: SpanExporter): SpanExporter {
    return {
      export: (spans, done) =>
        exporter.export(spans, (result) => {
          this.#noteResult(spans.length, result);
          done(result);
        }),
      shutdown: () => exporter.shutdown(),
      forceFlush: async () => exporter.forceFlush?.(),
    };
  }

  #noteResult(spans: number, { code, error }: ExportResult): void {
    const isFailing = code !== SUCCESS;
    if (isFailing) this.#lost += spans;
    else this.#exported += spans;
    if (isFailing === this.#isFailing) return;
    this.#isFailing = isFailing;
    const { logger } = this.#options;
    if (isFailing) logger.warn({ reason: error?.message }, "traces cannot be delivered");
    else logger.info({}, "traces are delivered again");
  }
}

async function exporterOf({ exporter, protocol, url }: TracingSettings): Promise<SpanExporter> {
  if (exporter === "console") return new ConsoleSpanExporter();
  const { OTLPTraceExporter } =
    protocol === "http/json"
      ? await import("@opentelemetry/exporter-trace-otlp-http")
      : await import("@opentelemetry/exporter-trace-otlp-proto");
  return new OTLPTraceExporter({ url });
}

const toSpanContext = (context: TraceContext, isRemote: boolean) => ({
  traceId: traceIdOf(context),
  spanId: spanIdOf(context),
  traceFlags: context[24]!,
  isRemote,
});

function toHrTime(timeMs: number): HrTime {
  const seconds = Math.trunc(timeMs / 1000);
  return [seconds, Math.floor((timeMs - seconds * 1000) * 1e6)];
}
