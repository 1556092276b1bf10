/** The one check at the door of a storage node. */
import { describe, expect, it } from "vitest";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ERRORS } from "#shared/errors.ts";
import {
  DEFAULT_TENANT,
  META_GROUP,
  Space,
  SYSTEM_TENANT,
  type TenantId,
  type VshardId,
} from "#shared/ids.ts";
import {
  CLOCK_SKEW_MS_MAX,
  COMMAND_SIZE_BYTES_MAX,
  CONDITION_REVISIONS_MAX,
  CONTENT_TYPE_SIZE_BYTES_MAX,
  DEADLINE_MS_MAX,
  KEY_SIZE_BYTES_MAX,
  MUTATIONS_PER_COMMAND_MAX,
  SCAN_STEP_ROWS_MAX,
  SCAN_STEP_VALUE_BYTES_MAX,
  STREAM_BATCH_SIZE_BYTES_SOFT_MAX,
  STREAM_MESSAGE_SIZE_BYTES_MAX,
  TTL_MS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { ENCODED_VALUE_SIZE_BYTES_MAX } from "#shared/limits-codec.ts";
import type {
  Command,
  Condition,
  Get,
  Mutation,
  Operation,
  PutAction,
  ResealAction,
  Scan,
} from "./messages.ts";
import { decodeOperateRequest, encodeOperateRequest } from "./operate-request.ts";
import { mutationCost, operationCost, refusalOf, WRITE_COST_MIN } from "./operation-rules.ts";

const NOW_MS = 1_700_000_000_000;
const FAR_MS = NOW_MS + DEADLINE_MS_MAX + CLOCK_SKEW_MS_MAX;
const longest = "x".repeat(CONTENT_TYPE_SIZE_BYTES_MAX);
const revisions = (count: number) => new Array<number>(count).fill(1);

const resealAction: ResealAction = {
  ...{ kind: "reseal", value: utf8("v"), contentType: "", modifiedAtMs: 1 },
  ...{ encoding: 1, logicalSizeBytes: 1 },
};
const revisionIsOneOf = (...revisionIs: number[]): Condition => ({
  ...{ mustBeAbsent: false, mustExist: false, revisionIs, revisionIsNot: [] },
});
const putAction: PutAction = { kind: "put", value: utf8("v"), contentType: "", ttlMs: 0 };
const mutation: Mutation = {
  tenant: DEFAULT_TENANT,
  space: Space.Kv,
  key: utf8("key"),
  condition: undefined,
  action: putAction,
};
const command: Command = {
  requestId: new Uint8Array(16),
  deadlineMs: NOW_MS + 1,
  mutations: [mutation],
};
const get: Get = {
  kind: "get",
  tenant: DEFAULT_TENANT,
  space: Space.Kv,
  key: utf8("key"),
  maxStalenessMs: 0,
  metadataOnly: false,
};
const read: Operation = {
  callId: 1,
  vshard: 255 as VshardId,
  deadlineMs: NOW_MS + 1,
  traceContext: EMPTY_BYTES,
  body: get,
};
const scan = (change: Partial<Scan>): Operation => ({
  ...read,
  body: {
    kind: "scan",
    tenant: DEFAULT_TENANT,
    space: Space.Kv,
    start: EMPTY_BYTES,
    end: EMPTY_BYTES,
    reverse: false,
    rowsMax: 1,
    valueBytesMax: 0,
    keysOnly: false,
    countOnly: false,
    maxStalenessMs: 0,
    ...change,
  },
});
const largest: Mutation = {
  ...mutation,
  action: { ...putAction, value: new Uint8Array(VALUE_SIZE_BYTES_MAX) },
};
const write = (change: Partial<Command>): Operation => ({
  ...read,
  body: { kind: "write", command: { ...command, ...change } },
});
const mutate = (change: Partial<Mutation>): Operation =>
  write({ mutations: [{ ...mutation, ...change }] });
const put = (change: Partial<PutAction>): Operation =>
  mutate({ action: { ...putAction, ...change } });
const condition = (isCount: number, isNotCount: number): Operation =>
  mutate({
    condition: {
      mustBeAbsent: false,
      mustExist: false,
      revisionIs: revisions(isCount),
      revisionIsNot: revisions(isNotCount),
    },
  });

describe("refusalOf()", () => {
  it.each<[string, Operation]>([
    ["a read", read],
    ["a traced read", { ...read, traceContext: new Uint8Array(25) }],
    [
      "a read of the longest key",
      { ...read, body: { ...get, key: new Uint8Array(KEY_SIZE_BYTES_MAX) } },
    ],
    ["a write", write({})],
    ["the latest deadline", { ...write({ deadlineMs: FAR_MS }), deadlineMs: FAR_MS }],
    [
      "the most mutations",
      write({ mutations: new Array(MUTATIONS_PER_COMMAND_MAX).fill(mutation) }),
    ],
    ["the largest value", put({ value: new Uint8Array(VALUE_SIZE_BYTES_MAX) })],
    ["the longest content type", put({ contentType: longest })],
    ["the longest time to live", put({ ttlMs: TTL_MS_MAX })],
    ["the longest condition", condition(CONDITION_REVISIONS_MAX, CONDITION_REVISIONS_MAX)],
    ["a delete", mutate({ action: { kind: "delete" } })],
    ["a scan", scan({})],
    ["a scan for all that it may", scan({ rowsMax: SCAN_STEP_ROWS_MAX })],
    ["a scan for as much as it may", scan({ valueBytesMax: SCAN_STEP_VALUE_BYTES_MAX })],
    ["a scan behind the longest key", scan({ start: new Uint8Array(KEY_SIZE_BYTES_MAX + 1) })],
    [
      "the largest encoded value",
      put({ encoding: 1, value: new Uint8Array(ENCODED_VALUE_SIZE_BYTES_MAX) }),
    ],
    ["a reseal of one revision", mutate({ action: resealAction, condition: revisionIsOneOf(1) })],
    ["a scan that counts", scan({ rowsMax: 0, countOnly: true })],
  ])("lets %s pass", (_, operation) => {
    expect(refusalOf(operation, NOW_MS)).toBe(undefined);
  });

  it.each<[string, Operation]>([
    ["vshard 256", { ...read, vshard: 256 as VshardId }],
    ["a trace context of 24 bytes", { ...read, traceContext: new Uint8Array(24) }],
    ["a deadline too far ahead", { ...read, deadlineMs: FAR_MS + 1 }],
    ["a command's deadline too far ahead", write({ deadlineMs: FAR_MS + 1 })],
    ["tenant 0", { ...read, body: { ...get, tenant: 0 as TenantId } }],
    ["an unknown space", { ...read, body: { ...get, space: 99 as Space } }],
    ["an empty key", { ...read, body: { ...get, key: EMPTY_BYTES } }],
    ["a key that is too long", mutate({ key: new Uint8Array(KEY_SIZE_BYTES_MAX + 1) })],
    ["a request id of 15 bytes", write({ requestId: new Uint8Array(15) })],
    ["no mutations", write({ mutations: [] })],
    [
      "too many mutations",
      write({ mutations: new Array(MUTATIONS_PER_COMMAND_MAX + 1).fill(mutation) }),
    ],
    ["a command that is too large", write({ mutations: new Array(3).fill(largest) })],
    ["a value that is too large", put({ value: new Uint8Array(VALUE_SIZE_BYTES_MAX + 1) })],
    ["a content type that is too long", put({ contentType: `${longest}x` })],
    ["a content type that is too long in UTF-8", put({ contentType: "é".repeat(129) })],
    ["a time to live that is too long", put({ ttlMs: TTL_MS_MAX + 1 })],
    ["too many revisions to be", condition(CONDITION_REVISIONS_MAX + 1, 0)],
    ["too many revisions not to be", condition(0, CONDITION_REVISIONS_MAX + 1)],
    ["a scan of tenant 0", scan({ tenant: 0 as TenantId })],
    ["a scan of an unknown space", scan({ space: 99 as Space })],
    ["a scan for no rows", scan({ rowsMax: 0 })],
    ["a scan for too many rows", scan({ rowsMax: SCAN_STEP_ROWS_MAX + 1 })],
    ["a scan for too much", scan({ valueBytesMax: SCAN_STEP_VALUE_BYTES_MAX + 1 })],
    ["a scan from too long a bound", scan({ start: new Uint8Array(KEY_SIZE_BYTES_MAX + 2) })],
    ["a scan to too long a bound", scan({ end: new Uint8Array(KEY_SIZE_BYTES_MAX + 2) })],
    ["two sizes of a plain value", put({ logicalSizeBytes: 1 })],
    ["an encoded value of too large a one", put({ encoding: 1, logicalSizeBytes: 2 ** 20 + 1 })],
    [
      "an encoded value that is too large",
      put({ encoding: 1, value: new Uint8Array(ENCODED_VALUE_SIZE_BYTES_MAX + 1) }),
    ],
    ["a reseal of any revision", mutate({ action: resealAction })],
    [
      "a reseal of two revisions",
      mutate({ action: resealAction, condition: revisionIsOneOf(1, 2) }),
    ],
    ["an expiry from outside", mutate({ action: { kind: "expire" } })],
  ])("refuses %s as malformed", (_, operation) => {
    const code = ERRORS.INVALID_ARGUMENT.wire;
    expect(refusalOf(operation, NOW_MS)).toMatchObject({ code, notApplied: true });
  });

  it("lets nobody reach the rows of the meta group, or rows that look like them", () => {
    const code = ERRORS.INVALID_ARGUMENT.wire;
    const spaces = [Space.Kv, Space.Meta, Space.Directory];
    for (const space of spaces) {
      for (const tenant of [SYSTEM_TENANT, DEFAULT_TENANT]) {
        const operations = [
          { ...read, body: { ...get, tenant, space } },
          scan({ tenant, space }),
          mutate({ tenant, space }),
          mutate({ tenant, space, action: { kind: "delete" } }),
        ];
        for (const operation of operations) {
          const isData = space === Space.Kv && tenant === DEFAULT_TENANT;
          const expected = isData ? undefined : { code, notApplied: true };
          const refusal = refusalOf(operation, NOW_MS);
          if (expected === undefined) expect(refusal).toBeUndefined();
          else expect(refusal).toMatchObject(expected);
          const there = { ...operation, vshard: META_GROUP as number as VshardId };
          expect(refusalOf(there, NOW_MS)).toMatchObject({ code, notApplied: true });
        }
      }
    }
  });

  it.each<[string, Operation]>([
    ["a read", { ...read, deadlineMs: NOW_MS }],
    ["a write", { ...write({}), deadlineMs: NOW_MS }],
    ["a command", write({ deadlineMs: NOW_MS })],
  ])("refuses %s whose deadline is now", (_, operation) => {
    const code = ERRORS.DEADLINE_EXCEEDED.wire;
    expect(refusalOf(operation, NOW_MS)).toMatchObject({ code, notApplied: true });
  });
});

describe("operationCost()", () => {
  it("grows with keys and values", () => {
    const small = operationCost(put({}));
    expect(operationCost(put({ value: new Uint8Array(1001) }))).toBe(small + 1000);
    expect(operationCost({ ...read, body: { ...get, key: new Uint8Array(1003) } })).toBe(
      operationCost(read) + 1000,
    );
    expect(operationCost({ ...read, body: { kind: "cancel" } })).toBeGreaterThan(0);
  });

  it("bounds what a message holds, whatever its operations are made of", () => {
    const condition = {
      mustBeAbsent: false,
      mustExist: false,
      revisionIs: new Array(CONDITION_REVISIONS_MAX).fill(Number.MAX_SAFE_INTEGER),
      revisionIsNot: new Array(CONDITION_REVISIONS_MAX).fill(1),
    };
    const dear = { ...mutation, condition, action: { ...putAction, contentType: longest } };
    const inCommand = Math.min(
      MUTATIONS_PER_COMMAND_MAX,
      Math.floor((COMMAND_SIZE_BYTES_MAX - WRITE_COST_MIN) / mutationCost(dear)),
    );
    const operation = write({ mutations: new Array(inCommand).fill(dear) });
    expect(refusalOf(operation, NOW_MS)).toBe(undefined);
    // As stream-channel.ts fills its messages.
    const operations: Operation[] = [];
    for (let bytes = 0; bytes < STREAM_BATCH_SIZE_BYTES_SOFT_MAX; ) {
      operations.push({ ...operation, callId: operations.length + 1 });
      bytes += operationCost(operation);
    }
    const message = encodeOperateRequest({ hello: undefined, operations });
    expect(message.length).toBeLessThan(STREAM_MESSAGE_SIZE_BYTES_MAX);
    expect(decodeOperateRequest(message).operations).toHaveLength(operations.length);
  });
});
