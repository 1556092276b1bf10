/**
 * For the tests of the codec: arbitrary messages, their form for the generated code, and mutations
 * of encoded bytes. Used by tests only.
 */
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import type {
  CommandSchema,
  EntryBodySchema,
  MutationSchema,
} from "#proto/gen/minikv/v1/command_pb.ts";
import type { Space, TenantId } from "#shared/ids.ts";
import type { Command, Condition, EntryBody, Mutation, MutationAction } from "./messages.ts";

/** Safe integers from 0, with small ones and the limits of each encoded length well covered. */
export const anyUint64 = (): fc.Arbitrary<number> =>
  fc.oneof(
    fc.maxSafeNat(),
    fc.nat({ max: 300 }),
    fc
      .tuple(fc.nat({ max: 53 }), fc.integer({ min: -1, max: 1 }))
      .map(([bits, step]) => Math.min(Math.max(2 ** bits + step, 0), Number.MAX_SAFE_INTEGER)),
  );

export const anyUint32 = (): fc.Arbitrary<number> =>
  anyUint64().map((value) => Math.min(value, 0xffff_ffff));

export const anyBytes = (): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength: 200 });

/** Whole code points: a lone surrogate has no UTF-8 form and cannot come back. */
export const anyString = (): fc.Arbitrary<string> =>
  fc.oneof(
    fc.string({ unit: "grapheme", maxLength: 40 }),
    fc.constantFrom("", "text/plain", "application/octet-stream", "a".repeat(200)),
  );

const anyCondition = (): fc.Arbitrary<Condition> =>
  fc.record({
    mustBeAbsent: fc.boolean(),
    mustExist: fc.boolean(),
    revisionIs: fc.array(anyUint64(), { maxLength: 5 }),
    revisionIsNot: fc.array(anyUint64(), { maxLength: 5 }),
  });

const anyAction = (): fc.Arbitrary<MutationAction> =>
  fc.oneof(
    fc.record({
      kind: fc.constant("put" as const),
      value: anyBytes(),
      contentType: anyString(),
      ttlMs: anyUint64(),
      logicalSizeBytes: anyUint64(),
      encoding: anyUint32(),
    }),
    fc.record({
      kind: fc.constant("reseal" as const),
      value: anyBytes(),
      logicalSizeBytes: anyUint64(),
      encoding: anyUint32(),
      contentType: anyString(),
      modifiedAtMs: anyUint64(),
    }),
    fc.constant({ kind: "delete" as const }),
    fc.constant({ kind: "expire" as const }),
  );

const anyMutation = (): fc.Arbitrary<Mutation> =>
  fc.record({
    tenant: anyUint32().map((value) => value as TenantId),
    space: anyUint32().map((value) => value as Space),
    key: anyBytes(),
    condition: fc.option(anyCondition(), { nil: undefined }),
    action: anyAction(),
  });

export const anyCommand = (): fc.Arbitrary<Command> =>
  fc.record({
    requestId: anyBytes(),
    deadlineMs: anyUint64(),
    mutations: fc.array(anyMutation(), { maxLength: 5 }),
    independent: fc.boolean(),
  });

export const anyEntryBody = (): fc.Arbitrary<EntryBody> =>
  fc.record({ logTimeMs: anyUint64(), commands: fc.array(anyCommand(), { maxLength: 5 }) });

// What `create` takes, without the alternative of a message that was created already.
type Init<Schema extends DescMessage> = Exclude<MessageInitShape<Schema>, { $typeName: string }>;
type GeneratedCommand = Init<typeof CommandSchema>;
type GeneratedMutation = Init<typeof MutationSchema>;

export function commandForGenerated(command: Command): GeneratedCommand {
  return {
    requestId: command.requestId,
    deadlineMs: BigInt(command.deadlineMs),
    mutations: command.mutations.map(mutationForGenerated),
    independent: command.independent ?? false,
  };
}

function mutationForGenerated(mutation: Mutation): GeneratedMutation {
  const { tenant, space, key, condition, action } = mutation;
  return {
    tenantId: tenant,
    space,
    key,
    ...(condition && {
      condition: {
        ...condition,
        revisionIs: condition.revisionIs.map(BigInt),
        revisionIsNot: condition.revisionIsNot.map(BigInt),
      },
    }),
    action: actionForGenerated(action),
  };
}

function actionForGenerated(action: MutationAction): NonNullable<GeneratedMutation["action"]> {
  switch (action.kind) {
    case "put": {
      const { kind: _, ttlMs, logicalSizeBytes = 0, ...rest } = action;
      const numbers = { ttlMs: BigInt(ttlMs), logicalSizeBytes: BigInt(logicalSizeBytes) };
      return { case: "put", value: { ...rest, ...numbers } };
    }
    case "reseal": {
      const { kind: _, modifiedAtMs, logicalSizeBytes, ...rest } = action;
      const numbers = {
        modifiedAtMs: BigInt(modifiedAtMs),
        logicalSizeBytes: BigInt(logicalSizeBytes),
      };
      return { case: "reseal", value: { ...rest, ...numbers } };
    }
    case "delete":
      return { case: "delete", value: {} };
    case "expire":
      return { case: "expire", value: {} };
  }
}

export function entryBodyForGenerated(body: EntryBody): MessageInitShape<typeof EntryBodySchema> {
  return {
    logTimeMs: BigInt(body.logTimeMs),
    commands: body.commands.map(commandForGenerated),
  };
}

/** Inserts an unknown field of each wire type in front of the message and behind it. */
export function withUnknownFields(bytes: Uint8Array): Uint8Array {
  const unknown = [
    ...[0xa0, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ...[0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
    ...[0xa2, 0x06, 3, 0xff, 0xff, 0xff],
    ...[0xa5, 0x06, 1, 2, 3, 4],
  ];
  return Uint8Array.from([...unknown, ...bytes, ...unknown]);
}
