import { describe, expect, it } from "vitest";
import { LatencyHistogram } from "#shared/latency-histogram.ts";
import { joinMetrics, type MetricDescription, readMetrics, renderMetrics } from "./metrics.ts";

const TABLE = {
  done: { name: "x_done_total", type: "counter", labels: ["kind"], help: "Done." },
  time: { name: "x_time_seconds", type: "histogram", labels: [], help: "Time." },
  never: { name: "x_never", type: "gauge", labels: [], help: "Never known." },
} as const satisfies Record<string, MetricDescription>;

const durations = new LatencyHistogram();
durations.observe(0.3);
durations.observe(70_000);

const read = (kind: string) =>
  readMetrics(TABLE, {
    done: (sink) => sink.value(3, { kind }),
    time: (sink) => sink.seconds(durations),
    never: (sink) => sink.value(Number.POSITIVE_INFINITY),
  });

describe("renderMetrics()", () => {
  it("writes Prometheus' text, with cumulative buckets in seconds", async () => {
    const { contentType, text } = await renderMetrics(read('a "b"\n'), undefined);
    expect(contentType).toMatch(/^text\/plain; version=0\.0\.4/);
    const lines = text.split("\n");
    expect(lines).toContain("# TYPE x_done_total counter");
    expect(lines).toContain('x_done_total{kind="a \\"b\\"\\n"} 3');
    expect(lines).toContain('x_time_seconds_bucket{le="0.00025"} 0');
    expect(lines).toContain('x_time_seconds_bucket{le="0.0005"} 1');
    expect(lines).toContain('x_time_seconds_bucket{le="10"} 1');
    expect(lines).toContain('x_time_seconds_bucket{le="+Inf"} 2');
    expect(lines).toContain("x_time_seconds_count 2");
    expect(text).not.toContain("x_never");
  });

  it("writes OpenMetrics for who asks for it", async () => {
    const accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    const { contentType, text } = await renderMetrics(read("a"), accept);
    expect(contentType).toMatch(/^application\/openmetrics-text/);
    expect(text).toContain("# TYPE x_done counter\n");
    expect(text).toContain('x_done_total{kind="a"} 3\n');
    expect(text.endsWith("# EOF\n")).toBe(true);
  });
});

it("joinMetrics() has each name once, with the samples of all", async () => {
  const joined = joinMetrics([read("a"), read("b")]);
  expect(joined.map(({ name }) => name)).toEqual(["x_done_total", "x_time_seconds"]);
  expect(joined[0]!.samples.map(({ labels }) => labels.kind)).toEqual(["a", "b"]);
});
