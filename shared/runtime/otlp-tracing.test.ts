/** What leaves for a collector, and that a collector which fails disturbs nobody. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { createLogger } from "./log.ts";
import { openTracing } from "./tracing.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** A collector that answers with the statuses in turn, the last one for ever. */
async function collector(...statuses: readonly number[]) {
  const bodies: Buffer[] = [];
  let answered = 0;
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      bodies.push(Buffer.concat(chunks));
      response.statusCode = statuses[Math.min(answered++, statuses.length - 1)] ?? 200;
      response.setHeader("Content-Type", request.headers["content-type"] ?? "");
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { bodies, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function open(env: Record<string, string>) {
  const lines: { readonly msg: string }[] = [];
  const logger = createLogger({
    level: "info",
    program: "test",
    write: (line) => lines.push(JSON.parse(line) as { msg: string }),
  });
  const tracing = await openTracing({
    env: { OTEL_BSP_SCHEDULE_DELAY: "0", ...env },
    ...{ service: "minikv-gateway", version: "1.2.3", clientTracesPerSecondMax: 0 },
    ...{ clock: systemClock(), random: new SeededRandom(1), logger },
  });
  cleanups.push(() => tracing.close(0));
  return { tracing, messages: () => lines.map(({ msg }) => msg) };
}

const JSON_ENV = { OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" };

function recordOne(tracing: Awaited<ReturnType<typeof open>>["tracing"], name = "one"): void {
  const { context } = tracing.sample(undefined)!;
  const parent = tracing.childOf(context);
  tracing.record({
    ...{ name, kind: "client", context, parent, startMs: 1_000, endMs: 1_002.5 },
    ...{ attributes: { number: 4, text: "x" }, links: [parent], error: "UNAVAILABLE" },
  });
}

describe("OtlpTracing", () => {
  it("delivers spans with their times, links and resource", async () => {
    const { url, bodies } = await collector(200);
    const env = { OTEL_RESOURCE_ATTRIBUTES: "team=a", OTEL_EXPORTER_OTLP_ENDPOINT: url };
    const { tracing } = await open({ ...JSON_ENV, ...env });
    recordOne(tracing);
    await tracing.close(5_000);
    const sent = JSON.parse(bodies[0]!.toString());
    const [{ resource, scopeSpans }] = sent.resourceSpans;
    expect(JSON.stringify(resource)).toMatch(/minikv-gateway.*1\.2\.3.*team/);
    const [span] = scopeSpans[0].spans;
    expect(span).toMatchObject({ name: "one", kind: 3, status: { code: 2 } });
    expect(span.parentSpanId).toBe(span.links[0].spanId);
    expect(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)).toBe(2_500_000n);
    const startedMs = Number(BigInt(span.startTimeUnixNano) / 1_000_000n);
    expect(Math.abs(startedMs - (performance.timeOrigin + 1_000))).toBeLessThan(2);
    expect(tracing.figures()).toEqual({ spansRecorded: 1, spansExported: 1, spansLost: 0 });
  });

  it("speaks protobuf by default", async () => {
    const { url, bodies } = await collector(200);
    const { tracing } = await open({ OTEL_EXPORTER_OTLP_ENDPOINT: url });
    recordOne(tracing);
    await tracing.close(5_000);
    expect(bodies[0]!.includes("minikv-gateway")).toBe(true);
    expect(bodies[0]![0]).not.toBe("{".charCodeAt(0));
  });

  it("says once that a collector refuses, and once that it takes again", async () => {
    const { url } = await collector(400, 400, 200);
    const { tracing, messages } = await open({ OTEL_EXPORTER_OTLP_ENDPOINT: url });
    for (const lost of [1, 2, 2]) {
      recordOne(tracing);
      const recorded = tracing.figures().spansRecorded;
      await expect
        .poll(() => tracing.figures(), { timeout: 10_000 })
        .toMatchObject({ spansLost: lost, spansExported: recorded - lost });
    }
    expect(messages()).toEqual([
      "traces are on",
      "traces cannot be delivered",
      "traces are delivered again",
    ]);
  });

  it("drops what is too much, and ends in time, when nobody takes anything", async () => {
    const server = createServer(() => undefined);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const { tracing } = await open({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_BSP_MAX_QUEUE_SIZE: "10",
    });
    for (let i = 0; i < 100; i++) recordOne(tracing);
    expect(tracing.figures()).toEqual({ spansRecorded: 100, spansExported: 0, spansLost: 90 });
    await tracing.close(20);
  });

  it("is nothing at all when it is not asked for", async () => {
    const { tracing } = await open({});
    expect(tracing.isOn).toBe(false);
    expect(tracing.sample(new Uint8Array(25).fill(1))).toBeUndefined();
    expect(tracing.figures().spansRecorded).toBe(0);
  });
});
