/** The codec of change logs against the generated code, and against hostile bytes. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ChangeBatchSchema,
  ChangeHeadsSchema,
  ChangesRequestSchema,
  ChangesResponseSchema,
} from "#proto/gen/minikv/v1/changes_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { KvError } from "#shared/errors.ts";
import { type Revision, Space, type TenantId, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import { CHANGE_VALUE_SIZE_BYTES_MAX, KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import {
  decodeChangeBatch,
  decodeChangeHeads,
  encodeChangeBatch,
  encodeChangeHeads,
} from "./change-batch.ts";
import type { ChangeBatch, ChangeRecord } from "./change-messages.ts";
import {
  decodeChangesRequest,
  decodeChangesResponse,
  encodeChangesRequest,
  encodeChangesResponse,
} from "./changes.ts";
import {
  anyChangeBatch,
  anyChangeHeads,
  anyChangesRequest,
  anyChangesResponse,
  batchForGenerated,
  headsForGenerated,
  requestForGenerated,
  responseForGenerated,
} from "./testing/changes.ts";
import { withUnknownFields } from "./testing.ts";

const NO_BYTES = new Uint8Array(0);

const record: ChangeRecord = {
  kind: ChangeKind.Put,
  revision: 8 as Revision,
  previousRevision: 0 as Revision,
  tenant: 1 as TenantId,
  space: Space.Kv,
  key: utf8("key"),
  valueSizeBytes: 5,
  expiresAtMs: 0,
  timeMs: 1_700_000_000_000,
  transactionId: NO_BYTES,
  value: { value: utf8("value"), encoding: 0, contentType: "" },
  traceContext: NO_BYTES,
};
const batchOf = (change: Partial<ChangeRecord>): ChangeBatch => ({
  vshard: 3 as VshardId,
  previousRevision: 7 as Revision,
  changes: [{ ...record, ...change }],
});

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return "none";
}

describe("the codec of changes", () => {
  it("is read by the generated code", () => {
    fc.assert(
      fc.property(anyChangesRequest(), anyChangesResponse(), (request, response) => {
        const asked = new Uint8Array(encodeChangesRequest(request));
        const expected = create(ChangesRequestSchema, requestForGenerated(request));
        expect(fromBinary(ChangesRequestSchema, asked)).toEqual(expected);
        const answered = new Uint8Array(encodeChangesResponse(response));
        const expectedAnswer = create(ChangesResponseSchema, responseForGenerated(response));
        expect(fromBinary(ChangesResponseSchema, answered)).toEqual(expectedAnswer);
      }),
    );
  });

  it("reads what the generated code writes", () => {
    fc.assert(
      fc.property(anyChangesRequest(), anyChangesResponse(), (request, response) => {
        const message = create(ChangesRequestSchema, requestForGenerated(request));
        const asked = toBinary(ChangesRequestSchema, message);
        expect(decodeChangesRequest(asked)).toEqual(request);
        expect(decodeChangesRequest(withUnknownFields(asked))).toEqual(request);
        const answer = create(ChangesResponseSchema, responseForGenerated(response));
        const answered = toBinary(ChangesResponseSchema, answer);
        expect(decodeChangesResponse(answered)).toEqual(response);
        expect(decodeChangesResponse(withUnknownFields(answered))).toEqual(response);
      }),
    );
  });

  it("does the same for what goes over the bus", () => {
    fc.assert(
      fc.property(anyChangeBatch(), anyChangeHeads(), (batch, heads) => {
        const generated = create(ChangeBatchSchema, batchForGenerated(batch));
        const bytes = new Uint8Array(encodeChangeBatch(batch));
        expect(fromBinary(ChangeBatchSchema, bytes)).toEqual(generated);
        expect(
          decodeChangeBatch(withUnknownFields(toBinary(ChangeBatchSchema, generated))),
        ).toEqual(batch);
        const message = create(ChangeHeadsSchema, headsForGenerated(heads));
        const headBytes = new Uint8Array(encodeChangeHeads(heads));
        expect(fromBinary(ChangeHeadsSchema, headBytes)).toEqual(message);
        expect(decodeChangeHeads(withUnknownFields(toBinary(ChangeHeadsSchema, message)))).toEqual(
          heads,
        );
      }),
    );
  });

  it("takes batches that were encoded before", () => {
    fc.assert(
      fc.property(anyChangesResponse(), fc.array(anyChangeBatch()), (response, more) => {
        const bytes = encodeChangesResponse(response, more.map(encodeChangeBatch));
        const batches = [...response.batches, ...more];
        expect(decodeChangesResponse(bytes)).toEqual({ ...response, batches });
      }),
    );
  });

  it.each<[string, ChangeBatch]>([
    ["a vshard that there is not", { ...batchOf({}), vshard: VSHARD_COUNT as VshardId }],
    ["a kind that is not known", batchOf({ kind: 4 as ChangeKind })],
    ["no kind", batchOf({ kind: 0 as ChangeKind })],
    ["a key that is too long", batchOf({ key: new Uint8Array(KEY_SIZE_BYTES_MAX + 1) })],
    ["a time that is no date", batchOf({ timeMs: 8_640_000_000_000_001 })],
    ["a transaction id that is too long", batchOf({ transactionId: new Uint8Array(65) })],
    ["a trace context of 24 bytes", batchOf({ traceContext: new Uint8Array(24) })],
    [
      "a value that is too large",
      batchOf({
        value: { ...record.value!, value: new Uint8Array(CHANGE_VALUE_SIZE_BYTES_MAX + 1) },
      }),
    ],
    [
      "revisions beyond 2^53 - 1",
      { ...batchOf({}), previousRevision: Number.MAX_SAFE_INTEGER as Revision },
    ],
  ])("refuses %s", (_, batch) => {
    expect(codeOf(() => decodeChangeBatch(encodeChangeBatch(batchOf({}))))).toBe("none");
    expect(codeOf(() => decodeChangeBatch(encodeChangeBatch(batch)))).toBe("INVALID_ARGUMENT");
  });

  it.each<[string, number[]]>([
    ["a vshard without a revision", [0x12, 2, 1, 2, 0x1a, 1, 5]],
    ["more heads than vshards", [0x12, 0xa0, 4, ...new Array(544).fill(1)]],
    ["a head of no vshard", [0x12, 2, 0x80, 2, 0x1a, 1, 5]],
  ])("refuses %s", (_, bytes) => {
    expect(codeOf(() => decodeChangeHeads(Uint8Array.from(bytes)))).toBe("INVALID_ARGUMENT");
  });

  it("refuses the end of a follow without its reason", () => {
    const bytes = Uint8Array.from([0x22, 2, 0x08, 1]);
    expect(codeOf(() => decodeChangesResponse(bytes))).toBe("INVALID_ARGUMENT");
  });
});
