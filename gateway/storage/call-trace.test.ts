/** The spans of what a request asks of storage: one for each attempt, and no more than it may have. */
import { describe, expect, it } from "vitest";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { TRACE_SPANS_PER_REQUEST_MAX } from "#shared/limits.ts";
import { MemoryTracing } from "#shared/testing/memory-tracing.ts";
import {
  absent,
  BACKOFF_PASSED_MS,
  input,
  key,
  mapOf,
  notLeader,
  openTestClient,
  refused,
  stored,
} from "./testing.ts";

function openTraced() {
  const tracing = new MemoryTracing();
  const made = openTestClient(mapOf({ version: 1 }), tracing);
  const trace = tracing.sample(undefined)!;
  const options = () => ({ deadlineMs: made.clock.nowMs() + 5_000, trace });
  return { ...made, tracing, trace, options, put: () => made.client.put(key, input, options()) };
}

describe("traced calls", () => {
  it("have a client span for each attempt, whose context the operation carries", async () => {
    const { put, to, tracing, trace, clock } = openTraced();
    const write = put();
    clock.advance(7);
    to(1).answer(notLeader(3));
    to(3).answer(stored);
    await write;
    expect(tracing.spans).toMatchObject([
      { name: "storage put", kind: "client", error: "NOT_LEADER", startMs: 0, endMs: 7 },
      { name: "storage put", kind: "client", error: undefined, startMs: 7, endMs: 7 },
    ]);
    const [first, second] = tracing.spans;
    expect([first!.parent, second!.parent]).toEqual([trace.context, trace.context]);
    expect(to(1).sent[0]!.operation.traceContext).toEqual(first!.context);
    expect(to(3).sent[0]!.operation.traceContext).toEqual(second!.context);
    expect(second!.attributes).toMatchObject({
      "db.operation.name": "put",
      "minikv.node.id": 3,
      "minikv.attempt": 2,
      "server.address": "node-3",
      "server.port": 1,
    });
    expect(JSON.stringify(tracing.spans)).not.toMatch(/"key"|"value"/);
  });

  it("end when nobody waits any more", async () => {
    const { put, clock, tracing } = openTraced();
    const write = put();
    clock.advance(6_000);
    await expect(write).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    expect(tracing.spans).toMatchObject([{ name: "storage put", error: "DEADLINE_EXCEEDED" }]);
  });

  it("end when a stale read asks the next replica", async () => {
    const { client, options, to, clock, tracing } = openTraced();
    for (const node of [1, 2, 3]) to(node).auto = undefined;
    const read = client.get(key, { ...options(), maxStalenessMs: 1_000 });
    const asked = [1, 2, 3].find((node) => to(node).sent.length === 1)!;
    clock.advance(4_000);
    for (const node of [1, 2, 3].filter((other) => other !== asked)) {
      if (to(node).sent.length > 0) to(node).answer(absent);
    }
    await read;
    expect(tracing.spans[0]).toMatchObject({ name: "storage get", error: "TIMEOUT" });
    expect(tracing.spans.at(-1)!.error).toBeUndefined();
  });

  it("are none while no node can be asked", async () => {
    const { put, to, clock, tracing } = openTraced();
    for (const node of [1, 2, 3]) to(node).auto = () => refused("UNAVAILABLE");
    const write = put();
    clock.advance(BACKOFF_PASSED_MS);
    clock.advance(6_000);
    await expect(write).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(tracing.spans.length).toBeLessThanOrEqual(TRACE_SPANS_PER_REQUEST_MAX);
    for (const { error } of tracing.spans) expect(error).toBe("UNAVAILABLE");
  });

  it("have no more spans than their request may", async () => {
    const { client, options, to, tracing } = openTraced();
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    const operations = Array.from({ length: 100 }, (_, i) => {
      return { kind: "get", key: utf8(`key-${i}`) } as const;
    });
    const batch = { ...options(), admitValue: () => undefined };
    await client.batch(DEFAULT_TENANT, operations, batch);
    expect(tracing.spans).toHaveLength(TRACE_SPANS_PER_REQUEST_MAX);
    const sent = [1, 2, 3].flatMap((node) => to(node).sent.map(({ operation }) => operation));
    expect(sent).toHaveLength(100);
    const carrying = sent.filter(({ traceContext }) => traceContext.length > 0);
    expect(carrying).toHaveLength(TRACE_SPANS_PER_REQUEST_MAX);
  });

  it("carry nothing when their request is not traced", async () => {
    const { client, to, clock, tracing } = openTraced();
    to(1).auto = () => stored;
    await client.put(key, input, { deadlineMs: clock.nowMs() + 5_000 });
    expect(to(1).sent[0]!.operation.traceContext).toBe(EMPTY_BYTES);
    expect(tracing.spans).toEqual([]);
  });
});
