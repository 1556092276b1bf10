import { describe, expect, it } from "vitest";
import { ConfigError } from "./config.ts";
import { readTracingSettings } from "./tracing-settings.ts";

const OTLP = { OTEL_TRACES_EXPORTER: "otlp" };

describe("readTracingSettings()", () => {
  it.each([
    ["nothing is set", {}],
    ["what is set is empty", { OTEL_TRACES_EXPORTER: "", OTEL_EXPORTER_OTLP_ENDPOINT: " " }],
    ["there is no exporter", { OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_ENDPOINT: "x" }],
    ["all of it is disabled", { ...OTLP, OTEL_SDK_DISABLED: "TRUE" }],
    ["only the sampler is set", { OTEL_TRACES_SAMPLER: "always_on" }],
  ])("is off when %s", (_, env: Record<string, string>) => {
    expect(readTracingSettings(env)).toBeUndefined();
  });

  it("has the defaults of OpenTelemetry", () => {
    expect(readTracingSettings(OTLP)).toEqual({
      exporter: "otlp",
      protocol: "http/protobuf",
      url: "http://localhost:4318/v1/traces",
      resource: {},
      ratio: 1,
      isParentBased: true,
      queue: {
        maxQueueSize: 2048,
        maxExportBatchSize: 512,
        scheduledDelayMillis: 5_000,
        exportTimeoutMillis: 30_000,
      },
    });
  });

  it.each([
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://c.example:4318", "http://c.example:4318/v1/traces"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp/", "https://c.example/otlp/v1/traces"],
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c.example/t", "http://c.example/t"],
  ])("%s=%s goes to %s", (name, value, url) => {
    expect(readTracingSettings({ [name]: value })?.url).toBe(url);
  });

  it.each([
    ["always_on", undefined, { ratio: 1, isParentBased: false }],
    ["always_off", "1", { ratio: 0, isParentBased: false }],
    ["traceidratio", "0.25", { ratio: 0.25, isParentBased: false }],
    ["parentbased_always_off", undefined, { ratio: 0, isParentBased: true }],
    ["parentbased_traceidratio", "1e-3", { ratio: 0.001, isParentBased: true }],
    ["parentbased_traceidratio", undefined, { ratio: 1, isParentBased: true }],
  ])("sampler %s with %s", (sampler, argument, expected) => {
    const env = { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: argument };
    expect(readTracingSettings({ ...OTLP, ...env })).toMatchObject(expected);
  });

  it("takes resource and queue", () => {
    const env = {
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test%20bed, service.name=other",
      OTEL_SERVICE_NAME: "mine",
      OTEL_BSP_SCHEDULE_DELAY: "10",
      OTEL_BSP_MAX_QUEUE_SIZE: "100",
    };
    const { resource, queue } = readTracingSettings({ ...OTLP, ...env })!;
    expect(resource).toEqual({
      "deployment.environment.name": "test bed",
      "service.name": "mine",
    });
    expect(queue).toMatchObject({ scheduledDelayMillis: 10, maxExportBatchSize: 100 });
  });

  it.each([
    ["OTEL_TRACES_EXPORTER", "jaeger", "otlp, console or none"],
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf or http/json"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "is no URL"],
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://user:hush@x", "is no URL"],
    ["OTEL_TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"],
    ["OTEL_BSP_MAX_QUEUE_SIZE", "0", "from 1 to"],
    ["OTEL_RESOURCE_ATTRIBUTES", "nothing", "name=value"],
    ["OTEL_RESOURCE_ATTRIBUTES", "a=%", 'has a bare "%"'],
  ])("refuses %s=%s", (name, value, message) => {
    const read = () => readTracingSettings({ ...OTLP, [name]: value });
    expect(read).toThrow(ConfigError);
    expect(read).toThrow(new RegExp(`${name}.*${message}`));
    expect(read).not.toThrow("hush");
  });

  it.each(["-0.1", "1.1", "many", ""])("ratio %j", (text) => {
    const env = { OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: text };
    const read = () => readTracingSettings({ ...OTLP, ...env });
    if (text === "") expect(read()?.ratio).toBe(1);
    else expect(read).toThrow("from 0 to 1");
  });
});
