/** The codec of stream messages against the generated code, and against hostile bytes. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { OperateRequestSchema, OperateResponseSchema } from "#proto/gen/minikv/v1/storage_pb.ts";
import { KvError } from "#shared/errors.ts";
import type { Revision, Space, TenantId, VshardId } from "#shared/ids.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import type {
  Hello,
  MutationStatus,
  OperateRequest,
  OperateResponse,
  OperationBody,
  ResultBody,
  ScanRow,
} from "./messages.ts";
import { decodeOperateRequest, encodeOperateRequest } from "./operate-request.ts";
import { decodeOperateResponse, encodeOperateResponse } from "./operate-response.ts";
import {
  anyBytes,
  anyCommand,
  anyString,
  anyUint32,
  anyUint64,
  commandForGenerated,
  mutated,
  withUnknownFields,
} from "./testing.ts";

const anyRevision = () => anyUint64().map((value) => value as Revision);

const anyHello = (): fc.Arbitrary<Hello> =>
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

const anyRequest = (): fc.Arbitrary<OperateRequest> =>
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

const anyResponse = (): fc.Arbitrary<OperateResponse> =>
  fc.record({
    hello: fc.option(anyHello(), { nil: undefined }),
    results: fc.array(fc.record({ callId: anyUint64(), body: anyResultBody() }), { maxLength: 5 }),
  });

type GeneratedRequest = MessageInitShape<typeof OperateRequestSchema>;
type GeneratedResponse = MessageInitShape<typeof OperateResponseSchema>;

function requestForGenerated({ hello, operations }: OperateRequest): GeneratedRequest {
  return {
    ...(hello && { hello }),
    operations: operations.map(({ callId, vshard, deadlineMs, traceContext, body }) => ({
      callId: BigInt(callId),
      vshard,
      deadlineMs: BigInt(deadlineMs),
      traceContext,
      body: operationBodyForGenerated(body),
    })),
  };
}

function operationBodyForGenerated(body: OperationBody) {
  switch (body.kind) {
    case "get": {
      const { tenant, space, key, maxStalenessMs, metadataOnly } = body;
      const value = { tenantId: tenant, space, key, metadataOnly };
      return {
        case: "get" as const,
        value: { ...value, maxStalenessMs: BigInt(maxStalenessMs) },
      };
    }
    case "write":
      return { case: "write" as const, value: commandForGenerated(body.command) };
    case "scan": {
      const { kind: _, tenant: tenantId, maxStalenessMs, ...rest } = body;
      const value = { ...rest, tenantId, maxStalenessMs: BigInt(maxStalenessMs) };
      return { case: "scan" as const, value };
    }
    case "cancel":
      return { case: "cancel" as const, value: {} };
  }
}

function responseForGenerated({ hello, results }: OperateResponse): GeneratedResponse {
  return {
    ...(hello && { hello }),
    results: results.map(({ callId, body }) => ({
      callId: BigInt(callId),
      body: resultBodyForGenerated(body),
    })),
  };
}

function resultBodyForGenerated(body: ResultBody) {
  switch (body.kind) {
    case "get": {
      const { kind: _, revision, expiresAtMs, modifiedAtMs, valueSizeBytes, ...rest } = body;
      return {
        case: "get" as const,
        value: {
          ...rest,
          revision: BigInt(revision),
          expiresAtMs: BigInt(expiresAtMs),
          modifiedAtMs: BigInt(modifiedAtMs),
          valueSizeBytes: BigInt(valueSizeBytes),
        },
      };
    }
    case "write": {
      const mutations = body.mutations.map(({ status, revision, created }) => ({
        status,
        revision: BigInt(revision),
        created,
      }));
      return { case: "write" as const, value: { applied: body.applied, mutations } };
    }
    case "scan": {
      const rows = body.rows.map((row) => ({
        ...row,
        revision: BigInt(row.revision),
        expiresAtMs: BigInt(row.expiresAtMs),
        modifiedAtMs: BigInt(row.modifiedAtMs),
        valueSizeBytes: BigInt(row.valueSizeBytes),
      }));
      const { count, next } = body;
      return { case: "scan" as const, value: { rows, count: BigInt(count), next } };
    }
    case "failure": {
      const { kind: _, ...value } = body;
      return { case: "failure" as const, value };
    }
  }
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return "none";
}

describe("encodeOperateRequest()", () => {
  it("is read by the generated code", () => {
    fc.assert(
      fc.property(anyRequest(), (request) => {
        const bytes = new Uint8Array(encodeOperateRequest(request));
        const expected = create(OperateRequestSchema, requestForGenerated(request));
        expect(fromBinary(OperateRequestSchema, bytes)).toEqual(expected);
      }),
    );
  });
});

describe("decodeOperateRequest()", () => {
  it("reads what the generated code writes", () => {
    fc.assert(
      fc.property(anyRequest(), (request) => {
        const message = create(OperateRequestSchema, requestForGenerated(request));
        const bytes = toBinary(OperateRequestSchema, message);
        expect(decodeOperateRequest(bytes)).toEqual(request);
        expect(decodeOperateRequest(withUnknownFields(bytes))).toEqual(request);
      }),
    );
  });

  it("refuses an operation without a body", () => {
    const bytes = Uint8Array.from([0x12, 2, 0x08, 1]);
    expect(codeOf(() => decodeOperateRequest(bytes))).toBe("INVALID_ARGUMENT");
  });

  it("refuses more elements than DECODED_ELEMENTS_MAX", () => {
    const cancel = [0x12, 2, 0x3a, 0];
    const bytes = new Uint8Array(4 * (DECODED_ELEMENTS_MAX + 1));
    for (let i = 0; i < bytes.length; i++) bytes[i] = cancel[i % 4]!;
    expect(codeOf(() => decodeOperateRequest(bytes))).toBe("INVALID_ARGUMENT");
    expect(codeOf(() => decodeOperateRequest(bytes.subarray(4)))).toBe("none");
  });

  it("throws nothing but KvError on any bytes", () => {
    const encoded = anyRequest().map(encodeOperateRequest);
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(encoded));
    fc.assert(
      fc.property(bytes, (input) => {
        expect(codeOf(() => decodeOperateRequest(input))).toMatch(/^(none|INVALID_ARGUMENT)$/);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("encodeOperateResponse()", () => {
  it("is read by the generated code", () => {
    fc.assert(
      fc.property(anyResponse(), (response) => {
        const bytes = new Uint8Array(encodeOperateResponse(response));
        const expected = create(OperateResponseSchema, responseForGenerated(response));
        expect(fromBinary(OperateResponseSchema, bytes)).toEqual(expected);
      }),
    );
  });
});

describe("decodeOperateResponse()", () => {
  it("reads what the generated code writes", () => {
    fc.assert(
      fc.property(anyResponse(), (response) => {
        const message = create(OperateResponseSchema, responseForGenerated(response));
        const bytes = toBinary(OperateResponseSchema, message);
        expect(decodeOperateResponse(bytes)).toEqual(response);
        expect(decodeOperateResponse(withUnknownFields(bytes))).toEqual(response);
      }),
    );
  });

  it.each([0, 5])("refuses status %d of a mutation", (status) => {
    const bytes = Uint8Array.from([0x12, 6, 0x1a, 4, 0x0a, 2, 0x08, status]);
    expect(codeOf(() => decodeOperateResponse(bytes))).toBe("INVALID_ARGUMENT");
  });

  it("throws nothing but KvError on any bytes", () => {
    const encoded = anyResponse().map(encodeOperateResponse);
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated(encoded));
    fc.assert(
      fc.property(bytes, (input) => {
        expect(codeOf(() => decodeOperateResponse(input))).toMatch(/^(none|INVALID_ARGUMENT)$/);
      }),
      { numRuns: 2_000 },
    );
  });
});
