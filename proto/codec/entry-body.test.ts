/** The codec of log entries against the generated code, and against hostile bytes. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EntryBodySchema } from "#proto/gen/minikv/v1/command_pb.ts";
import { AssertionError } from "#shared/assert.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space } from "#shared/ids.ts";
import { decodeEntryBody, encodeEntryBody } from "./entry-body.ts";
import type { EntryBody } from "./messages.ts";
import { anyEntryBody, entryBodyForGenerated, withUnknownFields } from "./testing.ts";

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return "none";
}

const example: EntryBody = {
  logTimeMs: 1_700_000_000_000,
  commands: [
    {
      requestId: new Uint8Array(16).fill(7),
      deadlineMs: 1_700_000_010_000,
      mutations: [
        {
          tenant: DEFAULT_TENANT,
          space: Space.Kv,
          key: utf8("key"),
          condition: {
            mustBeAbsent: false,
            mustExist: true,
            revisionIs: [3, 300],
            revisionIsNot: [],
          },
          action: {
            ...{ kind: "put", value: utf8("value"), contentType: "text/plain", ttlMs: 5 },
            ...{ logicalSizeBytes: 0, encoding: 0 },
          },
        },
        {
          tenant: DEFAULT_TENANT,
          space: Space.Kv,
          key: utf8("gone"),
          condition: undefined,
          action: { kind: "delete" },
        },
      ],
      independent: false,
    },
  ],
};

/** The bytes of `example`. They are on disk: this test must never be changed to pass. */
const EXAMPLE_HEX =
  "0880d095ffbc3112520a100707070707070707070707070707070710909e96ffbc311a2908011001" +
  "1a036b6579220710011a0303ac022a150a0576616c7565120a746578742f706c61696e18051a0c08" +
  "0110011a04676f6e653200";

describe("encodeEntryBody()", () => {
  it("gives the bytes that are on disk since version 0.1", () => {
    expect(encodeEntryBody(example).toHex()).toBe(EXAMPLE_HEX);
  });

  it("is read by the generated code", () => {
    fc.assert(
      fc.property(anyEntryBody(), (body) => {
        const read = fromBinary(EntryBodySchema, new Uint8Array(encodeEntryBody(body)));
        expect(read).toEqual(create(EntryBodySchema, entryBodyForGenerated(body)));
      }),
    );
  });

  it("comes back from decodeEntryBody() unchanged", () => {
    fc.assert(
      fc.property(anyEntryBody(), (body) => {
        expect(decodeEntryBody(encodeEntryBody(body))).toEqual(body);
      }),
    );
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])("refuses %d as a number", (logTimeMs) => {
    expect(() => encodeEntryBody({ logTimeMs, commands: [] })).toThrow(AssertionError);
  });
});

describe("decodeEntryBody()", () => {
  it("reads what the generated code writes", () => {
    fc.assert(
      fc.property(anyEntryBody(), (body) => {
        const message = create(EntryBodySchema, entryBodyForGenerated(body));
        expect(decodeEntryBody(toBinary(EntryBodySchema, message))).toEqual(body);
      }),
    );
  });

  it("gives views of its input", () => {
    const bytes = encodeEntryBody(example);
    const key = decodeEntryBody(bytes).commands[0]!.mutations[0]!.key;
    expect(key.buffer).toBe(bytes.buffer);
  });

  it("steps over fields it does not know", () => {
    const bytes = withUnknownFields(encodeEntryBody(example));
    expect(decodeEntryBody(bytes)).toEqual(example);
  });

  it("takes fields in any order, and lists unpacked", () => {
    // commands first: { mutations: { delete, condition { revision_is: 5, 6 unpacked }, key } }
    const mutation = [0x32, 0, 0x22, 4, 0x18, 5, 0x18, 6, 0x1a, 1, 0x6b, 0x08, 1];
    const command = [0x1a, mutation.length, ...mutation, 0x10, 9];
    const bytes = Uint8Array.from([0x12, command.length, ...command, 0x08, 3]);
    const { logTimeMs, commands } = decodeEntryBody(bytes);
    expect(logTimeMs).toBe(3);
    expect(commands[0]!.deadlineMs).toBe(9);
    expect(commands[0]!.mutations[0]).toEqual({
      tenant: 1,
      space: 0,
      key: utf8("k"),
      condition: { mustBeAbsent: false, mustExist: false, revisionIs: [5, 6], revisionIsNot: [] },
      action: { kind: "delete" },
    });
  });

  it.each([
    ["a cut varint", [0x08, 0x80]],
    ["a number beyond 2^53 - 1", [0x08, ...new Array(7).fill(0xff), 0x1f]],
    ["a number of eleven bytes", [0x08, ...new Array(10).fill(0x80), 0]],
    ["a skipped number of eleven bytes", [0x78, ...new Array(10).fill(0x80), 0]],
    ["a length beyond the end", [0x12, 5, 0]],
    ["an embedded field that leaves its message", [0x12, 2, 0x0a, 4, 1, 2, 3, 4]],
    ["field number 0", [0x00, 0]],
    ["a group", [0x7b, 0x7c]],
    ["wire type 7", [0x7f]],
    ["a tenant beyond 32 bits", [0x12, 10, 0x1a, 8, 0x08, 0x80, 0x80, 0x80, 0x80, 0x10, 0x32, 0]],
    ["a mutation without an action", [0x12, 4, 0x1a, 2, 0x08, 1]],
    ["a content type that is not UTF-8", [0x12, 7, 0x1a, 5, 0x2a, 3, 0x12, 1, 0xff]],
  ])("refuses %s", (_, bytes) => {
    expect(codeOf(() => decodeEntryBody(Uint8Array.from(bytes)))).toBe("DATA_CORRUPT");
    expect(codeOf(() => decodeEntryBody(Uint8Array.from(bytes), "INVALID_ARGUMENT"))).toBe(
      "INVALID_ARGUMENT",
    );
  });

  it("takes a number of ten bytes that are mostly padding", () => {
    const bytes = Uint8Array.from([0x08, 0x83, ...new Array(8).fill(0x80), 0]);
    expect(decodeEntryBody(bytes).logTimeMs).toBe(3);
  });

  it("takes no bytes for an empty body", () => {
    expect(decodeEntryBody(EMPTY_BYTES)).toEqual({ logTimeMs: 0, commands: [] });
  });
});
