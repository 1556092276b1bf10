/** Arbitrary messages of the streams between gateways and storage nodes. Used by tests only. */
import fc from "fast-check";
import type {
  Hello,
  MutationStatus,
  OperateRequest,
  OperateResponse,
  OperationBody,
  ResultBody,
  ScanRow,
} from "#proto/codec/messages.ts";
import { anyBytes, anyCommand, anyString, anyUint32, anyUint64 } from "#proto/codec/testing.ts";
import type { Revision, Space, TenantId, VshardId } from "#shared/ids.ts";

const anyRevision = () => anyUint64().map((value) => value as Revision);

export const anyHello = (): fc.Arbitrary<Hello> =>
  fc.record({
    protocolVersion: anyUint32(),
    clusterId: anyString(),
    nodeId: anyUint32(),
    softwareVersion: anyString(),
    windowOperations: anyUint32(),
    windowBytes: anyUint32(),
  });

const anyOperationBody = (): fc.Arbitrary<OperationBody> =>
  fc.oneof(
    fc.record({
      kind: fc.constant("get" as const),
      tenant: anyUint32().map((value) => value as TenantId),
      space: anyUint32().map((value) => value as Space),
      key: anyBytes(),
      maxStalenessMs: anyUint64(),
      metadataOnly: fc.boolean(),
    }),
    fc.record({ kind: fc.constant("write" as const), command: anyCommand() }),
    fc.record({
      kind: fc.constant("scan" as const),
      tenant: anyUint32().map((value) => value as TenantId),
      space: anyUint32().map((value) => value as Space),
      start: anyBytes(),
      end: anyBytes(),
      reverse: fc.boolean(),
      rowsMax: anyUint32(),
      valueBytesMax: anyUint32(),
      keysOnly: fc.boolean(),
      countOnly: fc.boolean(),
      maxStalenessMs: anyUint64(),
    }),
    fc.constant({ kind: "cancel" as const }),
  );

export const anyRequest = (): fc.Arbitrary<OperateRequest> =>
  fc.record({
    hello: fc.option(anyHello(), { nil: undefined }),
    operations: fc.array(
      fc.record({
        callId: anyUint64(),
        vshard: anyUint32().map((value) => value as VshardId),
        deadlineMs: anyUint64(),
        traceContext: anyBytes(),
        body: anyOperationBody(),
      }),
      { maxLength: 5 },
    ),
  });

const anyScanRow = (): fc.Arbitrary<ScanRow> =>
  fc.record({
    key: anyBytes(),
    revision: anyRevision(),
    value: anyBytes(),
    valueOmitted: fc.boolean(),
    contentType: anyString(),
    expiresAtMs: anyUint64(),
    modifiedAtMs: anyUint64(),
    valueSizeBytes: anyUint64(),
    encoding: anyUint32(),
  });

const anyResultBody = (): fc.Arbitrary<ResultBody> =>
  fc.oneof(
    fc.record({
      kind: fc.constant("get" as const),
      found: fc.boolean(),
      revision: anyRevision(),
      value: anyBytes(),
      contentType: anyString(),
      expiresAtMs: anyUint64(),
      modifiedAtMs: anyUint64(),
      valueSizeBytes: anyUint64(),
      encoding: anyUint32(),
    }),
    fc.record({
      kind: fc.constant("write" as const),
      applied: fc.boolean(),
      mutations: fc.array(
        fc.record({
          status: fc.integer({ min: 1, max: 4 }).map((value) => value as MutationStatus),
          revision: anyRevision(),
          created: fc.boolean(),
        }),
        { maxLength: 5 },
      ),
    }),
    fc.record({
      kind: fc.constant("scan" as const),
      rows: fc.array(anyScanRow(), { maxLength: 5 }),
      count: anyUint64(),
      next: anyBytes(),
    }),
    fc.record({
      kind: fc.constant("failure" as const),
      code: anyUint32(),
      detail: anyString(),
      notApplied: fc.boolean(),
      leaderNodeId: anyUint32(),
    }),
  );

export const anyResponse = (): fc.Arbitrary<OperateResponse> =>
  fc.record({
    hello: fc.option(anyHello(), { nil: undefined }),
    results: fc.array(fc.record({ callId: anyUint64(), body: anyResultBody() }), { maxLength: 5 }),
  });
