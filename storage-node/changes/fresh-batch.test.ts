/** What a change takes along while it is fresh: of which mutation it is, and of no other. */
import { describe, expect, it } from "vitest";
import { decodeChangeBatch } from "#proto/codec/change-batch.ts";
import type { Command, EntryBody, MutationAction } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8, utf8Decode } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import type { VshardId } from "#shared/ids.ts";
import { CHANGE_BATCH_BYTES_SOFT_MAX, CHANGE_VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import {
  Driver,
  mutation,
  put,
  requestId,
  START_MS,
  system,
} from "#storage-node/machine/testing.ts";
import type { AppliedEntry } from "#storage-node/replica/apply-pump.ts";
import type { PendingWrite } from "#storage-node/replica/waiting.ts";
import { type FreshBatch, freshBatches } from "./fresh-batch.ts";

const VSHARD = 7 as VshardId;
const KEY = "key";

/** Applies entries in one round of which the listener wants those that `isWanted` says. */
function applied(
  driver: Driver,
  bodies: readonly EntryBody[],
  { writes, isWanted = () => true }: Partial<Options> = {},
): readonly FreshBatch[] {
  const outcomes = driver.round(bodies);
  const round = bodies.map(
    (body, i): AppliedEntry => ({
      // Nothing of either is asked for.
      replica: undefined as never,
      entry: undefined as never,
      body,
      writes,
      outcomes: outcomes[i]!,
      changes: isWanted(i) ? driver.sinks[i]!.changes : undefined,
      logTimeMs: driver.sinks[i]!.logTimeMs,
    }),
  );
  return freshBatches(VSHARD, round, 0, round.length);
}
type Options = {
  readonly writes: readonly PendingWrite[];
  readonly isWanted: (entry: number) => boolean;
};

const entry = (...commands: Command[]): EntryBody => ({ logTimeMs: START_MS, commands });
const changesOf = (batches: readonly FreshBatch[]) => batches.flatMap(({ changes }) => changes);
const valuesOf = (batches: readonly FreshBatch[]) =>
  changesOf(batches).map(({ value }) => value && utf8Decode(value.value));
const named = (id: number, ...mutations: Parameters<typeof system>): Command => ({
  ...system(...mutations),
  requestId: requestId(id),
  deadlineMs: START_MS + 1_000,
});

describe("freshBatches()", () => {
  it("gives each change the value of the mutation that made it", () => {
    const driver = new Driver();
    const batches = applied(driver, [
      entry(
        system(mutation(KEY, put("one")), mutation("other", put("two"))),
        // Fails, and its outcome names the revision that the first command made.
        system(mutation(KEY, put("never"), { mustBeAbsent: true })),
        system(mutation(KEY, { kind: "delete" })),
        system(mutation("absent", { kind: "delete" })),
        system(mutation(KEY, put("three"))),
      ),
    ]);
    expect(valuesOf(batches)).toEqual(["one", "two", undefined, "three"]);
    expect(batches).toHaveLength(1);
    expect(batches[0]).toMatchObject({ vshard: VSHARD, previousRevision: 0, endRevision: 4 });
    expect(decodeChangeBatch(batches[0]!.encoded)).toEqual({
      vshard: VSHARD,
      previousRevision: 0,
      changes: batches[0]!.changes,
    });
    expect(batches[0]!.encoded).toBe(batches[0]!.encoded);
  });

  it("leaves large values out, and says how those are encoded that it has", () => {
    const action: MutationAction = {
      ...{ kind: "put", value: utf8("sealed"), contentType: "text/plain", ttlMs: 0 },
      ...{ encoding: 3, logicalSizeBytes: 9 },
    };
    const [batch] = applied(new Driver(), [
      entry(
        system(mutation("fits", put("v".repeat(CHANGE_VALUE_SIZE_BYTES_MAX)))),
        system(mutation("large", put("v".repeat(CHANGE_VALUE_SIZE_BYTES_MAX + 1)))),
        system(mutation("sealed", action)),
      ),
    ]);
    expect(batch!.changes[0]!.value!.value).toHaveLength(CHANGE_VALUE_SIZE_BYTES_MAX);
    expect(batch!.changes[1]!.value).toBe(undefined);
    expect(batch!.changes[2]).toMatchObject({
      valueSizeBytes: 9,
      value: { value: utf8("sealed"), encoding: 3, contentType: "text/plain" },
    });
  });

  it("does not take a repeated request for what was applied", () => {
    const driver = new Driver();
    const first = named(1, mutation(KEY, put("first")));
    // Under the same request id, but with other contents.
    const copy = named(1, mutation(KEY, put("copy")));
    expect(valuesOf(applied(driver, [entry(first, copy)]))).toEqual(["first"]);
    expect(valuesOf(applied(driver, [entry(copy, system(mutation("b", put("b"))))]))).toEqual([
      "b",
    ]);
  });

  it("takes no reseal for a put, and sees an expired value end before a new one begins", () => {
    const driver = new Driver();
    applied(driver, [entry(system(mutation(KEY, put("old", 10))))]);
    const later = { ...entry(system(mutation(KEY, put("new")))), logTimeMs: START_MS + 10 };
    const batches = applied(driver, [later]);
    expect(changesOf(batches).map(({ kind }) => kind)).toEqual([ChangeKind.Expire, ChangeKind.Put]);
    expect(valuesOf(batches)).toEqual([undefined, "new"]);
    const reseal: MutationAction = {
      ...{ kind: "reseal", value: utf8("sealed"), contentType: "", modifiedAtMs: START_MS },
      ...{ encoding: 1, logicalSizeBytes: 3 },
    };
    const both = system(mutation(KEY, put("newer")));
    const sealed = system(mutation(KEY, reseal, { revisionIs: [4] }));
    expect(valuesOf(applied(driver, [{ ...later, commands: [both, sealed] }]))).toEqual(["newer"]);
  });

  it("tells the trace of each write that has one, and the log time of its entry", () => {
    const driver = new Driver();
    const trace = { context: new Uint8Array(25).fill(1) };
    const write = (one: PendingWrite["trace"]): PendingWrite => ({
      ...{ command: system(mutation(KEY, put("v"))), sizeBytes: 1, trace: one, reply: () => {} },
    });
    const writes = [write(undefined), write(trace)];
    const commands = [system(mutation("a", put("a"))), system(mutation("b", put("b")))];
    const bodies = [
      { logTimeMs: START_MS, commands },
      { logTimeMs: START_MS + 5, commands },
    ];
    const changes = changesOf(applied(driver, bodies, { writes }));
    const { context } = trace;
    expect(changes.map(({ traceContext }) => traceContext)).toEqual([
      ...[EMPTY_BYTES, context, EMPTY_BYTES, context],
    ]);
    expect(changes.map(({ timeMs }) => timeMs - START_MS)).toEqual([0, 0, 5, 5]);
    expect(
      changesOf(applied(driver, bodies)).map(({ traceContext }) => traceContext.length),
    ).toEqual([0, 0, 0, 0]);
  });

  it("leaves a gap where entries were applied before anybody wanted them, never a batch across", () => {
    const one = (key: string) => entry(system(mutation(key, put("v"))));
    const bodies = [one("a"), one("b"), one("c"), one("d")];
    const batches = applied(new Driver(), bodies, { isWanted: (i) => i !== 1 });
    expect(
      batches.map(({ previousRevision, endRevision }) => [previousRevision, endRevision]),
    ).toEqual([
      [0, 1],
      [2, 4],
    ]);
  });

  it("cuts batches that become large", () => {
    const value = "v".repeat(CHANGE_VALUE_SIZE_BYTES_MAX);
    const keys = Array.from({ length: 200 }, (_, i) => system(mutation(`key ${i}`, put(value))));
    const batches = applied(new Driver(), [entry(...keys)]);
    expect(batches.length).toBeGreaterThan(2);
    let revision = 0;
    for (const { previousRevision, endRevision, encoded } of batches) {
      expect(previousRevision).toBe(revision);
      expect(encoded.length).toBeLessThan(2 * CHANGE_BATCH_BYTES_SOFT_MAX);
      revision = endRevision;
    }
    expect(revision).toBe(200);
  });
});
