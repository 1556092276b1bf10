/** Arbitrary messages of the Changes stream and of the bus. Used by tests only. */
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import type {
  ChangeBatch,
  ChangedValue,
  ChangeHeads,
  ChangeRecord,
  ChangesRequest,
  ChangesResponse,
} from "#proto/codec/change-messages.ts";
import type { Failure } from "#proto/codec/messages.ts";
import { anyBytes, anyString, anyUint32, anyUint64 } from "#proto/codec/testing.ts";
import type {
  ChangeBatchSchema,
  ChangeHeadsSchema,
  ChangesRequestSchema,
  ChangesResponseSchema,
} from "#proto/gen/minikv/v1/changes_pb.ts";
import { ChangeKind } from "#shared/change.ts";
import {
  type Revision,
  type Space,
  type TenantId,
  VSHARD_COUNT,
  type VshardId,
} from "#shared/ids.ts";
import { TRACE_CONTEXT_SIZE_BYTES } from "#shared/limits.ts";
import { anyHello } from "./operate.ts";

const anyRevision = () => anyUint64().map((value) => value as Revision);
const anyVshard = () => fc.nat({ max: VSHARD_COUNT - 1 }).map((value) => value as VshardId);

const anyFailure = (): fc.Arbitrary<Failure> =>
  fc.record({
    kind: fc.constant("failure" as const),
    code: anyUint32(),
    detail: anyString(),
    notApplied: fc.boolean(),
    leaderNodeId: anyUint32(),
  });

const anyValue = (): fc.Arbitrary<ChangedValue> =>
  fc.record({ value: anyBytes(), encoding: anyUint32(), contentType: anyString() });

const anyRecord = (): fc.Arbitrary<ChangeRecord> =>
  fc.record({
    kind: fc.constantFrom(...Object.values(ChangeKind)),
    revision: fc.constant(0 as Revision),
    previousRevision: anyRevision(),
    tenant: anyUint32().map((value) => value as TenantId),
    space: anyUint32().map((value) => value as Space),
    key: anyBytes(),
    valueSizeBytes: anyUint64(),
    expiresAtMs: anyUint64(),
    timeMs: anyUint64().map((value) => Math.min(value, 8_640_000_000_000_000)),
    transactionId: fc.uint8Array({ maxLength: 16 }),
    value: fc.option(anyValue(), { nil: undefined }),
    traceContext: fc.oneof(
      fc.constant(new Uint8Array(0)),
      fc.uint8Array({ minLength: TRACE_CONTEXT_SIZE_BYTES, maxLength: TRACE_CONTEXT_SIZE_BYTES }),
    ),
  });

export const anyChangeBatch = (): fc.Arbitrary<ChangeBatch> =>
  fc
    .record({
      vshard: anyVshard(),
      previousRevision: anyUint64().map((value) => Math.min(value, Number.MAX_SAFE_INTEGER - 5)),
      changes: fc.array(anyRecord(), { maxLength: 5 }),
    })
    .map(({ vshard, previousRevision, changes }) => ({
      vshard,
      previousRevision: previousRevision as Revision,
      changes: changes.map((change, index) => ({
        ...change,
        revision: (previousRevision + 1 + index) as Revision,
      })),
    }));

export const anyChangeHeads = (): fc.Arbitrary<ChangeHeads> =>
  fc.record({
    nodeId: anyUint32(),
    heads: fc.array(fc.record({ vshard: anyVshard(), revision: anyRevision() }), { maxLength: 9 }),
  });

export const anyChangesRequest = (): fc.Arbitrary<ChangesRequest> =>
  fc.record({
    hello: fc.option(anyHello(), { nil: undefined }),
    reads: fc.array(
      fc.record({
        callId: anyUint64(),
        vshard: anyVshard(),
        afterRevision: anyRevision(),
        headOnly: fc.boolean(),
        bytesMax: anyUint32(),
      }),
      { maxLength: 5 },
    ),
    follows: fc.array(
      fc.record({ vshard: anyVshard(), afterRevision: anyRevision(), fromHead: fc.boolean() }),
      { maxLength: 5 },
    ),
    unfollow: fc.array(anyVshard(), { maxLength: 5 }),
  });

export const anyChangesResponse = (): fc.Arbitrary<ChangesResponse> =>
  fc.record({
    hello: fc.option(anyHello(), { nil: undefined }),
    results: fc.array(
      fc.record({
        callId: anyUint64(),
        failure: fc.option(anyFailure(), { nil: undefined }),
        batch: fc.option(anyChangeBatch(), { nil: undefined }),
        headRevision: anyRevision(),
        oldestRevision: anyRevision(),
      }),
      { maxLength: 4 },
    ),
    batches: fc.array(anyChangeBatch(), { maxLength: 4 }),
    ended: fc.array(
      fc.record({ vshard: anyVshard(), failure: anyFailure(), oldestRevision: anyRevision() }),
      { maxLength: 4 },
    ),
  });

type Init<Schema extends DescMessage> = Exclude<MessageInitShape<Schema>, { $typeName: string }>;
type GeneratedBatch = Init<typeof ChangeBatchSchema>;

export function batchForGenerated(batch: ChangeBatch): GeneratedBatch {
  return {
    vshard: batch.vshard,
    previousRevision: BigInt(batch.previousRevision),
    changes: batch.changes.map(({ value, ...change }) => ({
      kind: change.kind,
      tenantId: change.tenant,
      space: change.space,
      key: change.key,
      previousRevision: BigInt(change.previousRevision),
      valueSizeBytes: BigInt(change.valueSizeBytes),
      expiresAtMs: BigInt(change.expiresAtMs),
      timeMs: BigInt(change.timeMs),
      transactionId: change.transactionId,
      traceContext: change.traceContext,
      ...(value && { value }),
    })),
  };
}

export function headsForGenerated({ nodeId, heads }: ChangeHeads): Init<typeof ChangeHeadsSchema> {
  return {
    nodeId,
    vshards: heads.map(({ vshard }) => vshard),
    revisions: heads.map(({ revision }) => BigInt(revision)),
  };
}

export function requestForGenerated(request: ChangesRequest): Init<typeof ChangesRequestSchema> {
  const { hello, reads, follows, unfollow } = request;
  return {
    ...(hello && { hello }),
    reads: reads.map(({ callId, afterRevision, ...rest }) => ({
      ...rest,
      callId: BigInt(callId),
      afterRevision: BigInt(afterRevision),
    })),
    follows: follows.map(({ afterRevision, ...rest }) => ({
      ...rest,
      afterRevision: BigInt(afterRevision),
    })),
    unfollow: [...unfollow],
  };
}

function failureForGenerated({ code, detail, notApplied, leaderNodeId }: Failure) {
  return { code, detail, notApplied, leaderNodeId };
}

export function responseForGenerated(
  response: ChangesResponse,
): Init<typeof ChangesResponseSchema> {
  const { hello, results, batches, ended } = response;
  return {
    ...(hello && { hello }),
    results: results.map(({ callId, failure, batch, headRevision, oldestRevision }) => ({
      callId: BigInt(callId),
      ...(failure && { failure: failureForGenerated(failure) }),
      ...(batch && { batch: batchForGenerated(batch) }),
      headRevision: BigInt(headRevision),
      oldestRevision: BigInt(oldestRevision),
    })),
    batches: batches.map(batchForGenerated),
    ended: ended.map(({ vshard, failure, oldestRevision }) => ({
      vshard,
      failure: failureForGenerated(failure),
      oldestRevision: BigInt(oldestRevision),
    })),
  };
}
