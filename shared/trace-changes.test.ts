import { describe, expect, it } from "vitest";
import { EMPTY_BYTES } from "./bytes.ts";
import { TRACE_SPANS_PER_FLUSH_MAX } from "./limits.ts";
import { MemoryTracing } from "./testing/memory-tracing.ts";
import { isTraced, recordDelivery, recordPublish } from "./trace-changes.ts";
import { noTracing, traceIdOf } from "./tracing.ts";

const traceContext = Uint8Array.fromHex(`${"ab".repeat(16)}${"cd".repeat(8)}01`);
const unsampled = Uint8Array.fromHex(`${"ab".repeat(16)}${"cd".repeat(8)}00`);
const times = { vshard: 7, startMs: 1, endMs: 2 };

describe("spans of changes", () => {
  it("are made for traced changes alone, in the trace of the write and linked to it", () => {
    const tracing = new MemoryTracing();
    const changes = [{ traceContext }, { traceContext: EMPTY_BYTES }, { traceContext: unsampled }];
    recordPublish(tracing, changes, times);
    recordDelivery(tracing, changes, { startMs: 1, endMs: 2, watchers: 3 });
    expect(tracing.names).toEqual(["publish", "deliver"]);
    for (const span of tracing.spans) {
      expect(span).toMatchObject({ parent: traceContext, links: [traceContext], startMs: 1 });
      expect(traceIdOf(span.context)).toBe("ab".repeat(16));
    }
    expect(tracing.spans[1]!.attributes).toMatchObject({ "minikv.watchers": 3 });
    expect(changes.map(isTraced)).toEqual([true, false, false]);
  });

  it("are bounded, and none with traces off", () => {
    const tracing = new MemoryTracing();
    const changes = Array.from({ length: 100 }, () => ({ traceContext }));
    recordDelivery(tracing, changes, { startMs: 1, endMs: 2, watchers: 1 });
    expect(tracing.spans).toHaveLength(TRACE_SPANS_PER_FLUSH_MAX);
    recordDelivery(noTracing, changes, { startMs: 1, endMs: 2, watchers: 1 });
  });
});
