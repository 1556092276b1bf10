/** Which spans a node makes of an operation, with which times, and what becomes of them when it fails. */
import { beforeEach, describe, expect, it } from "vitest";
import type { Operation, ResultBody } from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { NodeId, VshardId } from "#shared/ids.ts";
import { TRACE_LINKS_MAX } from "#shared/limits.ts";
import { MemoryTracing } from "#shared/testing/memory-tracing.ts";
import { type FinishedSpan, noTracing, traceIdOf } from "#shared/tracing.ts";
import { OperationTraces, openTraces } from "./operation-traces.ts";
import { TestGroup } from "./replica/testing.ts";
import type { EntryObserver } from "./replica/timeline.ts";
import type { CarriedTrace } from "./transport/transport.ts";

const contextOf = (trace: number, flags = 1) =>
  Uint8Array.from([...Array(16).fill(trace), ...Array(8).fill(9), flags]);

let group: TestGroup;
let tracing: MemoryTracing;
let traces: OperationTraces;
let carried: CarriedTrace[];

beforeEach(async () => {
  group = await TestGroup.create(3);
  await group.elect(1);
  tracing = new MemoryTracing();
  carried = [];
  traces = tracesOf(1);
});

function tracesOf(node: number): OperationTraces {
  const transport = {
    carry: (trace: CarriedTrace) => carried.push(trace),
  };
  const nodeId = node as NodeId;
  const made = new OperationTraces({ tracing, clock: group.clock, nodeId, transport });
  group.observers.get(node)!.push(made);
  return made;
}

function operationOf(traceContext: Uint8Array, key = "k"): Operation {
  const command = group.putOf(key, 1);
  const body = { kind: "write", command } as const;
  return { callId: 1, vshard: 7 as VshardId, deadlineMs: 0, traceContext, body };
}

/** Begins a write as the node does. */
function operate(operation: Operation): ResultBody[] {
  const { replica, loop } = group.member(1);
  const answers: ResultBody[] = [];
  const reply = (body: ResultBody) => void answers.push(body);
  const trace = traces.begin(operation);
  if (operation.body.kind !== "write") throw new Error("a write was meant");
  const { command } = operation.body;
  const given = trace === undefined ? reply : traces.replyOf(trace, reply);
  if (replica.write(command, given, trace)) loop.markDirty(replica);
  return answers;
}

const spanOf = (name: string): FinishedSpan => tracing.spans.find((span) => span.name === name)!;
const timesOf = (name: string): readonly number[] => {
  const { startMs, endMs } = spanOf(name);
  return [startMs, endMs];
};

describe("OperationTraces", () => {
  it("makes the spans of a write from the times of its entry", async () => {
    const { clock } = group;
    clock.advance(100);
    const answers = operate(operationOf(contextOf(5)));
    clock.advance(1);
    await group.settle();
    clock.advance(10);
    group.member(1).wal.sync();
    await group.settle();
    clock.advance(20);
    await group.stabilize();
    expect(answers).toMatchObject([{ applied: true }]);
    expect(tracing.names.toSorted()).toEqual(
      ["append", "apply", "commit", "operate put", "propose", "reply"].toSorted(),
    );
    const at = clock.monotonicMs() - 31;
    expect(timesOf("propose")).toEqual([at, at + 1]);
    expect(timesOf("append")).toEqual([at + 1, at + 11]);
    expect(timesOf("commit")).toEqual([at + 1, at + 31]);
    expect(timesOf("apply")).toEqual([at + 31, at + 31]);
    expect(timesOf("operate put")).toEqual([at, at + 31]);
    expect(spanOf("operate put").parent).toEqual(contextOf(5));
    for (const name of ["propose", "commit", "apply", "reply"]) {
      expect(spanOf(name).parent).toEqual(spanOf("operate put").context);
    }
    expect(spanOf("append").parent).toEqual(spanOf("commit").context);
    for (const { context } of tracing.spans) expect(traceIdOf(context)).toBe("05".repeat(16));
  });

  it("lets the entry carry its span to members", async () => {
    operate(operationOf(contextOf(5)));
    await group.settle();
    const { raft } = group.member(1).replica;
    const { context } = carried[0]!;
    expect(carried).toEqual([{ group: 7, index: raft.lastIndex, term: raft.term, context }]);
    await group.stabilize();
    expect(spanOf("commit").context).toEqual(context);
  });

  it("makes the spans of an entry once, linked to all operations in it that are traced", async () => {
    // While this one is synced, the others gather.
    operate(operationOf(contextOf(1)));
    await group.settle();
    for (let i = 2; i < 2 + TRACE_LINKS_MAX + 8; i++) operate(operationOf(contextOf(i), `k${i}`));
    operate(operationOf(EMPTY_BYTES, "not-traced"));
    await group.stabilize();
    const commits = tracing.spans.filter(({ name }) => name === "commit");
    expect(commits).toHaveLength(2);
    const [, second] = commits;
    expect(second!.attributes).toMatchObject({ "minikv.entry.operations": TRACE_LINKS_MAX + 9 });
    const operations = tracing.spans.filter(({ name }) => name === "operate put");
    expect(operations).toHaveLength(TRACE_LINKS_MAX + 9);
    const of = new Map(operations.map((span) => [traceIdOf(span.context), span]));
    expect(second!.parent).toEqual(of.get("02".repeat(16))!.context);
    expect(second!.links).toHaveLength(TRACE_LINKS_MAX);
    expect(second!.links![0]).toEqual(of.get("03".repeat(16))!.context);
    expect(of.get("03".repeat(16))!.links).toEqual([second!.context]);
    expect(of.get("02".repeat(16))!.links).toBeUndefined();
  });

  it("makes spans of what a follower does with an entry whose trace has come", async () => {
    const follower = tracesOf(2);
    operate(operationOf(contextOf(5)));
    await group.settle();
    tracing.spans.length = 0;
    group.clock.advance(5);
    follower.follow(carried, () => group.member(2).replica);
    // It comes twice when the entry is sent twice.
    follower.follow(carried, () => group.member(2).replica);
    await group.deliver();
    group.clock.advance(5);
    await group.syncAll([2]);
    group.clock.advance(5);
    await group.stabilize();
    group.member(1).replica.raft.tick();
    group.member(1).loop.markDirty(group.member(1).replica);
    await group.stabilize();
    const own = tracing.spans.filter(({ attributes }) => attributes?.["minikv.node.id"] === 2);
    expect(own.map(({ name }) => name)).toEqual(["append", "apply"]);
    const [append, apply] = own;
    const at = group.clock.monotonicMs() - 10;
    expect([append!.startMs, append!.endMs, apply!.startMs]).toEqual([at, at + 5, at + 10]);
    expect(append!.parent).toEqual(carried[0]!.context);
  });

  it("ends the span of a write that fails, with its code", async () => {
    const answers = operate(operationOf(contextOf(5)));
    await group.settle();
    // It was proposed, and nobody will say what became of it.
    group.member(1).replica.leave();
    await group.settle();
    expect(answers).toMatchObject([{ kind: "failure" }]);
    expect(tracing.spans.map(({ name, error }) => [name, error])).toEqual([
      ["reply", undefined],
      ["operate put", "NOT_LEADER"],
    ]);
  });

  it("begins nothing for operations that are not sampled", () => {
    expect(traces.begin(operationOf(EMPTY_BYTES))).toBeUndefined();
    expect(traces.begin(operationOf(contextOf(5, 0)))).toBeUndefined();
  });

  it("is not there with traces off", () => {
    const { clock } = group;
    const observers: EntryObserver[] = [];
    const parts = { tracing: noTracing, clock, nodeId: 1 as NodeId, transport: {} };
    expect(openTraces(parts, observers)).toBeUndefined();
    expect(observers).toEqual([]);
  });
});

describe("the times of an entry", () => {
  it("are all there when it is answered, in their order, traced or not", async () => {
    const seen: number[][] = [];
    group.observers.get(1)!.push({
      answered: (_, { receivedMs, proposedMs, syncedMs, committedMs, appliedMs }) =>
        seen.push([receivedMs, proposedMs, syncedMs, committedMs, appliedMs]),
    });
    group.clock.advance(1_000);
    group.put(1, "a", 1);
    await group.settle();
    // Gathers behind the sync of the first.
    group.clock.advance(3);
    group.put(1, "b", 2);
    await group.settle();
    group.clock.advance(4);
    await group.stabilize();
    const at = 1_000;
    expect(seen).toEqual([
      [at, at, at + 7, at + 7, at + 7],
      [at + 3, at + 7, at + 7, at + 7, at + 7],
    ]);
  });
});
