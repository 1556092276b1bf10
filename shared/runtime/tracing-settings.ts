/**
 * Settings of traces: the variables that OpenTelemetry has defined for all programs, so that minikv is
 * set up like everything beside it.
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 *
 * Unlike there, a value that cannot be used is refused: traces that are silently missing are noticed when
 * they are needed. What only the exporter reads (headers, timeout, compression) it reads itself.
 */
import { ConfigError } from "./config.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export type TracingSettings = {
  readonly exporter: "otlp" | "console";
  readonly protocol: "http/protobuf" | "http/json";
  /** Where OTLP goes, with its path. */
  readonly url: string;
  /** Beside those that the program gives itself, and before them. */
  readonly resource: Readonly<Record<string, string>>;
  readonly ratio: number;
  readonly isParentBased: boolean;
  readonly queue: {
    readonly maxQueueSize: number;
    readonly maxExportBatchSize: number;
    readonly scheduledDelayMillis: number;
    readonly exportTimeoutMillis: number;
  };
};

const DEFAULT_ENDPOINT = "http://localhost:4318";

/**
 * Undefined when traces are off: they are on when an exporter or an endpoint is named.
 *
 * @throws ConfigError naming the variable; never its value where that may hold a secret
 */
export function readTracingSettings(env: Environment): TracingSettings | undefined {
  const exporter = exporterOf(env);
  if (exporter === undefined) return undefined;
  const { ratio, isParentBased } = samplerOf(env);
  const maxQueueSize = integerOf(env, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1, 1_000_000);
  return {
    exporter,
    protocol: protocolOf(env),
    url: urlOf(env),
    resource: resourceOf(env),
    ratio,
    isParentBased,
    queue: {
      maxQueueSize,
      maxExportBatchSize: Math.min(
        integerOf(env, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1, 1_000_000),
        maxQueueSize,
      ),
      scheduledDelayMillis: integerOf(env, "OTEL_BSP_SCHEDULE_DELAY", 5_000, 0, 3_600_000),
      exportTimeoutMillis: integerOf(env, "OTEL_BSP_EXPORT_TIMEOUT", 30_000, 1, 3_600_000),
    },
  };
}

/** An empty variable is one that is not set. */
const textOf = (env: Environment, name: string): string | undefined =>
  env[name]?.trim() || undefined;

/** The first of them that is set, and its name. */
function firstOf(env: Environment, names: readonly string[]) {
  for (const name of names) {
    const text = textOf(env, name);
    if (text !== undefined) return { name, text };
  }
  return undefined;
}

const ENDPOINT_NAMES = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

function exporterOf(env: Environment): TracingSettings["exporter"] | undefined {
  if (textOf(env, "OTEL_SDK_DISABLED")?.toLowerCase() === "true") return undefined;
  const text = textOf(env, "OTEL_TRACES_EXPORTER");
  switch (text) {
    case undefined:
      return firstOf(env, ENDPOINT_NAMES) === undefined ? undefined : "otlp";
    case "none":
      return undefined;
    case "otlp":
    case "console":
      return text;
    default:
      throw new ConfigError(`OTEL_TRACES_EXPORTER takes otlp, console or none, not "${text}"`);
  }
}

const PROTOCOL_NAMES = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

function protocolOf(env: Environment): TracingSettings["protocol"] {
  const found = firstOf(env, PROTOCOL_NAMES);
  if (found === undefined) return "http/protobuf";
  const { name, text } = found;
  if (text === "http/protobuf" || text === "http/json") return text;
  const hint = text === "grpc" ? ": collectors take HTTP on port 4318" : "";
  throw new ConfigError(`${name} takes http/protobuf or http/json, not "${text}"${hint}`);
}

function urlOf(env: Environment): string {
  const found = firstOf(env, ENDPOINT_NAMES);
  const text = found?.text ?? DEFAULT_ENDPOINT;
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    // Not repeated: a URL may have a password in it.
    throw new ConfigError(`${found?.name} is no URL such as http://collector.example:4318`);
  }
  // The variable of traces alone names the whole path, the other one what all signals begin with.
  if (found?.name === ENDPOINT_NAMES[0]) return url.href;
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/v1/traces`;
  return url.href;
}

const SAMPLERS: ReadonlyMap<string, { readonly isParentBased: boolean; readonly ratio?: 0 | 1 }> =
  new Map([
    ["always_on", { isParentBased: false, ratio: 1 }],
    ["always_off", { isParentBased: false, ratio: 0 }],
    ["traceidratio", { isParentBased: false }],
    ["parentbased_always_on", { isParentBased: true, ratio: 1 }],
    ["parentbased_always_off", { isParentBased: true, ratio: 0 }],
    ["parentbased_traceidratio", { isParentBased: true }],
  ]);

function samplerOf(env: Environment): Pick<TracingSettings, "ratio" | "isParentBased"> {
  const name = textOf(env, "OTEL_TRACES_SAMPLER") ?? "parentbased_always_on";
  const sampler = SAMPLERS.get(name);
  if (sampler === undefined) {
    const known = [...SAMPLERS.keys()].join(", ");
    throw new ConfigError(`OTEL_TRACES_SAMPLER takes one of ${known}, not "${name}"`);
  }
  const { isParentBased, ratio } = sampler;
  if (ratio !== undefined) return { isParentBased, ratio };
  const text = textOf(env, "OTEL_TRACES_SAMPLER_ARG") ?? "1";
  const value = /^\d*\.?\d+(?:e-?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value >= 0 && value <= 1)) {
    throw new ConfigError(`OTEL_TRACES_SAMPLER_ARG takes a number from 0 to 1, not "${text}"`);
  }
  return { isParentBased, ratio: value };
}

function resourceOf(env: Environment): Readonly<Record<string, string>> {
  const resource: Record<string, string> = {};
  const text = textOf(env, "OTEL_RESOURCE_ATTRIBUTES") ?? "";
  for (const part of text.split(",").filter((member) => member.trim() !== "")) {
    const equals = part.indexOf("=");
    const name = part.slice(0, Math.max(0, equals)).trim();
    if (name === "") {
      throw new ConfigError("OTEL_RESOURCE_ATTRIBUTES takes name=value, separated by commas");
    }
    try {
      resource[name] = decodeURIComponent(part.slice(equals + 1).trim());
    } catch {
      throw new ConfigError(`OTEL_RESOURCE_ATTRIBUTES: the value of ${name} has a bare "%"`);
    }
  }
  const serviceName = textOf(env, "OTEL_SERVICE_NAME");
  if (serviceName !== undefined) resource["service.name"] = serviceName;
  return resource;
}

function integerOf(
  env: Environment,
  name: string,
  fallback: number,
  min: number,
  max: number,
): number {
  const text = textOf(env, name);
  if (text === undefined) return fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new ConfigError(`${name} takes a whole number from ${min} to ${max}, not "${text}"`);
}
