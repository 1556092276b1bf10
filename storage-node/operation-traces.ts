/**
 * The spans of a storage node, made from times that were kept anyway when an operation has been answered.
 *
 * A write becomes `operate put` with `propose` (until its entry was made) and `reply` below it. What
 * happens to an entry happens to all operations in it, so its spans are made once: `commit`, with `append`
 * (the log, with its sync) below it here and at each follower, and `apply`. They are part of the trace
 * of the first sampled operation, and linked to the others; those are linked to `commit` in turn.
 */
import type { Operation, Reply } from "#proto/codec/messages.ts";
import { operationName } from "#proto/codec/operation-name.ts";
import type { Clock } from "#shared/clock.ts";
import { errorCodeFromWire } from "#shared/errors.ts";
import type { GroupId, NodeId } from "#shared/ids.ts";
import { TRACE_LINKS_MAX } from "#shared/limits.ts";
import {
  isSampled,
  type SpanAttributes,
  type TraceContext,
  type Tracing,
} from "#shared/tracing.ts";
import type { Replica } from "./replica/replica.ts";
import type { EntryObserver, FollowedEntry } from "./replica/timeline.ts";
import type { ProposedEntry, WriteTrace } from "./replica/waiting.ts";
import type { CarriedTrace, Transport } from "./transport/transport.ts";

export type OperationTracesOptions = {
  readonly tracing: Tracing;
  readonly clock: Clock;
  readonly nodeId: NodeId;
  readonly transport: Pick<Transport, "carry">;
};

/** An operation that is under way, with what its span will say. */
export type TracedOperation = WriteTrace & {
  readonly name: string;
  readonly receivedMs: number;
  readonly parent: TraceContext;
  readonly vshard: number;
  /** The span of the entry that it became part of, in another operation's trace. */
  entry: TraceContext | undefined;
};

/** Undefined with traces off. */
export function openTraces(
  parts: OperationTracesOptions,
  observers: EntryObserver[],
): OperationTraces | undefined {
  if (!parts.tracing.isOn) return undefined;
  const traces = new OperationTraces(parts);
  observers.push(traces);
  return traces;
}

export class OperationTraces implements EntryObserver {
  readonly #options: OperationTracesOptions;
  readonly #node: SpanAttributes;

  constructor(options: OperationTracesOptions) {
    this.#options = options;
    this.#node = { "minikv.node.id": options.nodeId };
  }

  /** Undefined for an operation that is not traced. */
  begin({ traceContext: parent, vshard, body }: Operation): TracedOperation | undefined {
    if (parent.length === 0 || !isSampled(parent)) return undefined;
    const { tracing, clock } = this.#options;
    return {
      name: operationName(body),
      context: tracing.childOf(parent),
      // A view would keep the message with all its values.
      parent: parent.slice(),
      receivedMs: clock.monotonicMs(),
      vshard,
      entry: undefined,
    };
  }

  /** The reply, behind which the span of the operation ends. */
  replyOf(operation: TracedOperation, reply: Reply): Reply {
    const { clock } = this.#options;
    const traced: Reply = (body) => {
      const answeredMs = clock.monotonicMs();
      const error = body.kind === "failure" ? errorCodeFromWire(body.code) : undefined;
      reply(body);
      // Behind the writing of the answers, which is done for all of this turn together.
      process.nextTick(() => this.#answered(operation, answeredMs, error));
    };
    return reply.isWanted === undefined
      ? traced
      : Object.assign(traced, { isWanted: reply.isWanted });
  }

  #answered(operation: TracedOperation, answeredMs: number, error: string | undefined): void {
    const { tracing, clock, nodeId } = this.#options;
    const { name, context, parent, receivedMs, vshard, entry } = operation;
    const endMs = clock.monotonicMs();
    this.#child("reply", context, answeredMs, endMs);
    tracing.record({
      ...{ name: `operate ${name}`, kind: "server", context, parent },
      ...{ startMs: receivedMs, endMs, error },
      attributes: { "minikv.vshard": vshard, "minikv.node.id": nodeId },
      links: entry === undefined ? undefined : [entry],
    });
  }

  #child(
    name: string,
    parent: TraceContext,
    startMs: number,
    endMs: number,
    attributes: SpanAttributes = this.#node,
  ): void {
    const { tracing } = this.#options;
    const context = tracing.childOf(parent);
    tracing.record({ name, kind: "internal", context, parent, startMs, endMs, attributes });
  }

  proposed(group: GroupId, entry: ProposedEntry): void {
    const { tracing, transport } = this.#options;
    const [first, ...others] = tracedOf(entry);
    if (first === undefined) return;
    const context = tracing.childOf(first.context);
    entry.trace = context;
    for (const other of others) other.entry = context;
    transport.carry?.({ group, index: entry.index, term: entry.term, context });
  }

  answered(group: GroupId, entry: ProposedEntry): void {
    const { trace: context } = entry;
    if (context === undefined) return;
    const { tracing, nodeId } = this.#options;
    const operations = tracedOf(entry);
    for (const { context: parent, receivedMs } of operations) {
      this.#child("propose", parent, receivedMs, entry.proposedMs);
    }
    const parent = operations[0]!.context;
    const { proposedMs, syncedMs, committedMs, appliedMs } = entry;
    const attributes = {
      ...{ "minikv.vshard": group, "minikv.node.id": nodeId, "minikv.raft.role": "leader" },
      ...{ "minikv.raft.index": entry.index, "minikv.raft.term": entry.term },
      "minikv.entry.operations": entry.writes.length,
    };
    tracing.record({
      ...{ name: "commit", kind: "internal", context, parent, attributes },
      ...{ startMs: proposedMs, endMs: committedMs },
      links: operations.slice(1, TRACE_LINKS_MAX + 1).map((operation) => operation.context),
    });
    this.#child("append", context, proposedMs, syncedMs, attributes);
    this.#child("apply", parent, committedMs, appliedMs, attributes);
  }

  /** Traces of entries that come with what is received next. */
  follow(
    traces: readonly CarriedTrace[],
    replicaOf: (group: GroupId) => Replica | undefined,
  ): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const trace of traces) replicaOf(trace.group)?.followTrace(trace, nowMs);
  }

  followed(entry: FollowedEntry): void {
    const { group, index, term, context } = entry;
    const attributes = {
      ...{ "minikv.vshard": group, "minikv.node.id": this.#options.nodeId },
      ...{ "minikv.raft.role": "follower", "minikv.raft.index": index, "minikv.raft.term": term },
    };
    this.#child("append", context, entry.receivedMs, entry.syncedMs, attributes);
    this.#child("apply", context, entry.committedMs, entry.appliedMs, attributes);
  }
}

function tracedOf({ writes }: ProposedEntry): TracedOperation[] {
  // With traces on replicas take them from `begin` alone, and hand them back as they were.
  return writes.flatMap(({ trace }) => (trace === undefined ? [] : [trace as TracedOperation]));
}
