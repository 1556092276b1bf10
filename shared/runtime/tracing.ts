/** Opens traces as the environment asks for, and loads nothing of OpenTelemetry when it does not. */
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import { noTracing, type TraceFigures, type Tracing } from "#shared/tracing.ts";
import type { Logger } from "./log.ts";
import { type Environment, readTracingSettings } from "./tracing-settings.ts";

export type TracingOptions = {
  /** Of the process. */
  readonly env: Environment;
  /** `service.name`, unless the environment has another. */
  readonly service: "minikv-gateway" | "minikv-storage-node";
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** See `shared/trace-sampler.ts`. */
  readonly clientTracesPerSecondMax: number;
};

export type OpenTracing = Tracing & {
  figures(): TraceFigures;
  /** Delivers what waits, for at most `timeoutMs`. Never rejects. */
  close(timeoutMs: number): Promise<void>;
};

const NO_FIGURES: TraceFigures = { spansRecorded: 0, spansExported: 0, spansLost: 0 };

const off: OpenTracing = {
  ...noTracing,
  figures: () => NO_FIGURES,
  close: async () => undefined,
};

/** @throws ConfigError when a variable has a value that cannot be used */
export async function openTracing(options: TracingOptions): Promise<OpenTracing> {
  const settings = readTracingSettings(options.env);
  if (settings === undefined) return off;
  const { OtlpTracing } = await import("./otlp-tracing.ts");
  return OtlpTracing.open(options, settings);
}
