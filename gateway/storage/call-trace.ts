/** The span of one attempt of a call: of what left for a storage node, until it was answered or given up. */
import type { OperationBody } from "#proto/codec/messages.ts";
import { operationName } from "#proto/codec/operation-name.ts";
import type { Clock } from "#shared/clock.ts";
import type { VshardId } from "#shared/ids.ts";
import type { RequestTrace, SpanAttributes, TraceContext, Tracing } from "#shared/tracing.ts";
import type { Peer } from "./router.ts";

export type AttemptTrace = {
  readonly context: TraceContext;
  readonly parent: TraceContext;
  readonly startMs: number;
};

/** Undefined when the request has had as many spans as it may. */
export function beginAttempt(
  trace: RequestTrace,
  tracing: Tracing,
  clock: Clock,
): AttemptTrace | undefined {
  if (trace.spansLeft <= 0) return undefined;
  trace.spansLeft--;
  const { context: parent } = trace;
  return { context: tracing.childOf(parent), parent, startMs: clock.monotonicMs() };
}

export type EndedAttempt = {
  readonly body: OperationBody;
  readonly vshard: VshardId;
  readonly peer: Peer;
  /** From 1. */
  readonly number: number;
  readonly error: string | undefined;
};

export function endAttempt(
  { context, parent, startMs }: AttemptTrace,
  { body, vshard, peer, number, error }: EndedAttempt,
  tracing: Tracing,
  clock: Clock,
): void {
  const operation = operationName(body);
  const attributes: Record<string, string | number> = {
    "db.system.name": "minikv",
    "db.operation.name": operation,
    "minikv.vshard": vshard,
    "minikv.node.id": peer.id,
    "minikv.attempt": number,
    ...addressAttributes(peer.address),
  };
  if (body.kind === "write" && body.command.mutations.length > 1) {
    attributes["db.operation.batch.size"] = body.command.mutations.length;
  }
  const endMs = clock.monotonicMs();
  tracing.record({
    ...{ name: `storage ${operation}`, kind: "client", context, parent, startMs, endMs },
    ...{ attributes, error },
  });
}

function addressAttributes(address: string): SpanAttributes {
  const colon = address.lastIndexOf(":");
  if (colon < 0) return {};
  return {
    "server.address": address.slice(0, colon),
    "server.port": Number(address.slice(colon + 1)),
  };
}
