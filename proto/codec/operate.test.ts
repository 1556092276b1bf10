/** The codec of stream messages against the generated code, and against hostile bytes. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { OperateRequestSchema, OperateResponseSchema } from "#proto/gen/minikv/v1/storage_pb.ts";
import { KvError } from "#shared/errors.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import type { OperateRequest, OperateResponse, OperationBody, ResultBody } from "./messages.ts";
import { decodeOperateRequest, encodeOperateRequest } from "./operate-request.ts";
import { decodeOperateResponse, encodeOperateResponse } from "./operate-response.ts";
import { anyRequest, anyResponse } from "./testing/operate.ts";
import { commandForGenerated, withUnknownFields } from "./testing.ts";

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
});
