import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { TRACE_SPANS_PER_FLUSH_MAX } from "#shared/limits.ts";
import { MemoryTracing } from "#shared/testing/memory-tracing.ts";
import { noTracing } from "#shared/tracing.ts";
import { DeliveryTraces } from "./delivery-traces.ts";

const CONTEXT = Uint8Array.fromHex(`${"ab".repeat(16)}${"cd".repeat(8)}01`);

describe("DeliveryTraces", () => {
  it("makes one span for each event, from its groups to the end of the flush", () => {
    const tracing = new MemoryTracing();
    const clock = new ManualClock();
    const deliveries = new DeliveryTraces(tracing, clock);
    clock.advance(5);
    deliveries.given(CONTEXT, 1_000);
    clock.advance(10);
    expect(tracing.spans).toEqual([]);
    deliveries.flushed();
    deliveries.flushed();
    expect(tracing.spans).toMatchObject([
      { name: "deliver", kind: "consumer", parent: CONTEXT, links: [CONTEXT] },
    ]);
    expect(tracing.spans[0]).toMatchObject({ startMs: 5, endMs: 15 });
    expect(tracing.spans[0]!.attributes).toMatchObject({ "minikv.watchers": 1_000 });
  });

  it("keeps no more than it may, and nothing with traces off", () => {
    const tracing = new MemoryTracing();
    for (const [used, spans] of [
      [tracing, TRACE_SPANS_PER_FLUSH_MAX],
      [noTracing, TRACE_SPANS_PER_FLUSH_MAX],
    ] as const) {
      const deliveries = new DeliveryTraces(used, new ManualClock());
      for (let i = 0; i < 100; i++) deliveries.given(CONTEXT, 1);
      deliveries.flushed();
      expect(tracing.spans).toHaveLength(spans);
    }
  });
});
