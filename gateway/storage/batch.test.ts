/** What `StorageClient.batch()` makes of many operations, over nodes in memory. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryNodes } from "#gateway/testing/memory-nodes.ts";
import { failureOf } from "#proto/codec/failure.ts";
import type { Condition, Operation } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8, utf8Decode } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { type ErrorCode, KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space, type VshardId } from "#shared/ids.ts";
import {
  BATCH_READ_BYTES_MAX,
  BATCH_READS_IN_FLIGHT_MAX,
  COMMAND_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { vshardOf } from "#shared/vshard.ts";
import { Cancellation } from "./cancellation.ts";
import type { BatchOperation, BatchOptions, BatchOutcome } from "./storage.ts";

const put = (key: string, value = "v", condition?: Partial<Condition>): BatchOperation => ({
  ...{ kind: "put", key: utf8(key), value: utf8(value), contentType: "text/plain", ttlMs: 0 },
  ...(condition && { condition: { ...NO_CONDITION, ...condition } }),
});
const get = (key: string): BatchOperation => ({ kind: "get", key: utf8(key) });
const remove = (key: string): BatchOperation => ({ kind: "delete", key: utf8(key) });
const NO_CONDITION: Condition = {
  ...{ mustBeAbsent: false, mustExist: false, revisionIs: [], revisionIsNot: [] },
};

const vshardOfKey = (key: string): VshardId =>
  vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) });

function optionsOf(nodes: MemoryNodes, more: Partial<BatchOptions>): BatchOptions {
  return { deadlineMs: nodes.clock.nowMs() + 5_000, admitValue: () => undefined, ...more };
}

const run = (
  nodes: MemoryNodes,
  operations: readonly BatchOperation[],
  more: Partial<BatchOptions> = {},
): Promise<readonly BatchOutcome[]> =>
  nodes.client.batch(DEFAULT_TENANT, operations, optionsOf(nodes, more));

/** The outcome in a word, with what was read. */
function word(outcome: BatchOutcome): string {
  if (outcome.kind === "found") return utf8Decode(outcome.stored.value);
  if (outcome.kind === "failed") return `${outcome.error.code} ${outcome.error.outcome}`;
  if (outcome.kind === "stored") return outcome.created ? "created" : "replaced";
  return outcome.kind;
}

const writesOf = (nodes: MemoryNodes, vshard?: VshardId) =>
  nodes.asked.flatMap(({ operation: { body, vshard: of } }) =>
    body.kind === "write" && (vshard === undefined || vshard === of) ? [body.command] : [],
  );

/** Fails the operations of one vshard. */
const failing =
  (vshard: VshardId, code: ErrorCode, notApplied: boolean) => (operation: Operation) =>
    operation.vshard === vshard ? failureOf(code, "told so", { notApplied }) : undefined;

describe("StorageClient.batch()", () => {
  it("answers each operation in its place", async () => {
    const nodes = new MemoryNodes({ nodes: 3 });
    await run(nodes, [put("old", "1"), put("gone", "1")]);
    const outcomes = await run(nodes, [
      ...[put("new", "2"), put("old", "2"), remove("gone"), remove("never"), get("absent")],
      put("old", "3", { mustBeAbsent: true }),
    ]);
    expect(outcomes.map(word)).toEqual([
      ...["created", "replaced", "deleted", "notFound", "absent", "conditionFailed"],
    ]);
    expect((await run(nodes, [get("new"), get("old"), get("gone")])).map(word)).toEqual([
      ...["2", "2", "absent"],
    ]);
    expect(await run(nodes, [])).toEqual([]);
  });

  it("sends the writes to one vshard as one command, each vshard to its leader", async () => {
    const nodes = new MemoryNodes({ nodes: 3 });
    const keys = Array.from({ length: 600 }, (_, i) => `key-${i}`);
    await run(
      nodes,
      keys.map((key) => put(key)),
    );
    const vshards = new Set(keys.map(vshardOfKey));
    expect(nodes.asked.length).toBe(vshards.size);
    for (const { node, operation } of nodes.asked) expect(node).toBe((operation.vshard % 3) + 1);
    const commands = writesOf(nodes);
    expect(commands.every(({ independent }) => independent)).toBe(true);
    const ids = new Set(commands.map(({ requestId }) => Buffer.from(requestId).toString("hex")));
    expect(ids.size).toBe(commands.length);
    expect(commands.flatMap(({ mutations }) => mutations).length).toBe(keys.length);
  });

  it("keeps the order of the operations on one key", async () => {
    const nodes = new MemoryNodes();
    const outcomes = await run(nodes, [
      ...[get("k{t}"), put("k{t}", "1"), get("k{t}"), put("k{t}", "2"), put("k{t}", "3")],
      ...[get("k{t}"), get("k{t}"), remove("k{t}"), get("k{t}"), put("k{t}", "4")],
      put("other{t}"),
    ]);
    expect(outcomes.map(word)).toEqual([
      ...["absent", "created", "1", "replaced", "replaced", "3", "3", "deleted", "absent"],
      ...["created", "created"],
    ]);
    // Writes that nothing lies between share a command; the one on another key waits for nothing.
    const written = writesOf(nodes).map(({ mutations }) => mutations.map(({ key }) => key.length));
    expect(written).toEqual([[8], [4], [4, 4], [4], [4]]);
  });

  it("says what the operations one after the other say, key by key", async () => {
    const anyOperation = fc.record({
      kind: fc.constantFrom("put", "put", "get", "delete", "create"),
      key: fc.constantFrom("a{t}", "b{t}", "c{t}", "d", "e"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(anyOperation, { maxLength: 40 }), fc.nat(), async (steps, seed) => {
        const operations = steps.map(({ kind, key }, i) => {
          if (kind === "put") return put(key, String(i));
          if (kind === "create") return put(key, String(i), { mustBeAbsent: true });
          return kind === "get" ? get(key) : remove(key);
        });
        const together = new MemoryNodes({ seed });
        const alone = new MemoryNodes();
        const expected: BatchOutcome[] = [];
        for (const operation of operations) expected.push(...(await run(alone, [operation])));
        expect((await run(together, operations)).map(word)).toEqual(expected.map(word));
        const plain = (nodes: MemoryNodes) =>
          nodes.rows().map(({ key, value }) => [utf8Decode(key), utf8Decode(value)]);
        expect(plain(together)).toEqual(plain(alone));
      }),
      { numRuns: 60 },
    );
  });

  it("divides what is too large for one command, in its order", async () => {
    const nodes = new MemoryNodes();
    const value = "x".repeat(COMMAND_SIZE_BYTES_MAX / 3);
    const keys = ["a{t}", "b{t}", "c{t}", "a{t}", "d{t}"];
    const outcomes = await run(
      nodes,
      keys.map((key, i) => put(key, i === 3 ? "last" : value)),
    );
    expect(outcomes.map(word)).toEqual(["created", "created", "created", "replaced", "created"]);
    expect(writesOf(nodes).length).toBeGreaterThan(1);
    expect((await run(nodes, [get("a{t}")])).map(word)).toEqual(["last"]);
  });

  it("does not let the failure of one vshard touch the others", async () => {
    const nodes = new MemoryNodes({ nodes: 2 });
    const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`);
    const bad = vshardOfKey("key-7");
    nodes.intercept = failing(bad, "STORAGE_FULL", true);
    const outcomes = await run(
      nodes,
      keys.map((key) => put(key)),
    );
    expect(outcomes.map(word)).toEqual(
      keys.map((key) => (vshardOfKey(key) === bad ? "STORAGE_FULL not_applied" : "created")),
    );
    nodes.intercept = () => undefined;
    expect(nodes.rows().length).toBe(keys.filter((key) => vshardOfKey(key) !== bad).length);
  });

  it("sends a command again with its request id, and reports the result", async () => {
    const nodes = new MemoryNodes({ nodes: 2 });
    const refusals = [true, true];
    nodes.intercept = () =>
      refusals.pop() ? failureOf("UNAVAILABLE", "gone", { notApplied: false }) : undefined;
    expect((await run(nodes, [put("a{t}"), put("b{t}")])).map(word)).toEqual([
      "created",
      "created",
    ]);
    const commands = writesOf(nodes);
    expect(commands.length).toBe(3);
    expect(new Set(commands)).toHaveLength(1);
  });

  it("does not begin what comes behind an unknown outcome on its vshard", async () => {
    const nodes = new MemoryNodes();
    nodes.intercept = ({ body, vshard }) =>
      body.kind === "write" && vshard === vshardOfKey("k")
        ? failureOf("INTERNAL", "bug", { notApplied: false })
        : undefined;
    const outcomes = await run(nodes, [
      put("k"),
      get("k"),
      put("k", "2"),
      put("other"),
      get("other"),
    ]);
    expect(outcomes.map(word)).toEqual([
      ...["INTERNAL unknown", "INTERNAL not_applied", "INTERNAL not_applied", "created", "v"],
    ]);
    expect(writesOf(nodes, vshardOfKey("k"))).toHaveLength(1);
  });

  it("goes on behind what was certainly not applied", async () => {
    const nodes = new MemoryNodes();
    let refused = false;
    nodes.intercept = ({ body }) => {
      if (refused || body.kind !== "write") return undefined;
      refused = true;
      return failureOf("OVERLOADED", "later", { notApplied: true });
    };
    const outcomes = await run(nodes, [put("k", "1"), get("k"), put("k", "2"), get("k")]);
    expect(outcomes.map(word)).toEqual(["OVERLOADED not_applied", "absent", "created", "2"]);
  });

  it("bears a node that refuses everything at once, however many waves there are", async () => {
    const nodes = new MemoryNodes();
    await nodes.client.close(0);
    await expect(run(nodes, [put("a")])).rejects.toMatchObject({
      ...{ code: "UNAVAILABLE", outcome: "not_applied" },
    });
    const full = new MemoryNodes();
    full.intercept = () => failureOf("OVERLOADED", "full", { notApplied: true });
    const operations = Array.from({ length: 1_000 }, (_, i) => (i % 2 ? get("k") : put("k")));
    const outcomes = await run(full, operations);
    expect(new Set(outcomes.map(word))).toEqual(
      new Set(["OVERLOADED not_applied", "OVERLOADED undefined"]),
    );
  });

  it("has a bounded number of reads under way", async () => {
    const nodes = new MemoryNodes();
    const keys = Array.from({ length: 1_000 }, (_, i) => `key-${i}`);
    let open = 0;
    let most = 0;
    nodes.intercept = () => {
      most = Math.max(most, ++open);
      return undefined;
    };
    const admitValue = (): undefined => {
      open--;
      return undefined;
    };
    await run(
      nodes,
      keys.map((key) => put(key)),
    );
    open = 0;
    most = 0;
    const outcomes = await run(nodes, keys.map(get), { admitValue });
    expect(outcomes.every(({ kind }) => kind === "found")).toBe(true);
    expect(most).toBe(BATCH_READS_IN_FLIGHT_MAX);
  });

  it("keeps no value that is not admitted", async () => {
    const nodes = new MemoryNodes();
    await run(nodes, [put("a", "123"), put("b", "1234"), put("c", "12")]);
    const admitValue = (sizeBytes: number): KvError | undefined =>
      sizeBytes > 3 ? new KvError("ANSWER_TOO_LARGE", "too large") : undefined;
    const outcomes = await run(nodes, [get("a"), get("b"), get("c")], { admitValue });
    expect(outcomes.map(word)).toEqual(["123", "ANSWER_TOO_LARGE undefined", "12"]);
  });

  it("reads no more when much was read for nothing", async () => {
    const nodes = new MemoryNodes();
    const sizeBytes = 1024 * 1024;
    await run(nodes, [put("large", "x".repeat(sizeBytes))]);
    nodes.asked.length = 0;
    const refusal = new KvError("ANSWER_TOO_LARGE", "too large");
    const many = Array.from({ length: 1_000 }, () => get("large"));
    const outcomes = await run(nodes, many, { admitValue: () => refusal });
    expect(outcomes).toEqual(many.map(() => ({ kind: "failed", error: refusal })));
    expect(nodes.asked.length).toBeLessThanOrEqual(
      BATCH_READ_BYTES_MAX / sizeBytes + BATCH_READS_IN_FLIGHT_MAX,
    );
  });

  it("ends with the deadline; vshards that answered have answered", async () => {
    const clock = new ManualClock();
    const nodes = new MemoryNodes({ clock });
    const silent = vshardOfKey("silent");
    nodes.intercept = ({ vshard }) => (vshard === silent ? "never" : undefined);
    const batch = run(nodes, [put("silent"), get("silent"), put("a"), get("a")]);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(5_010);
    expect((await batch).map(word)).toEqual([
      ...["DEADLINE_EXCEEDED unknown", "DEADLINE_EXCEEDED not_applied", "created", "v"],
    ]);
  });

  it("ends when the caller goes away, and leaves its cancellation to the next call", async () => {
    const nodes = new MemoryNodes();
    const cancellation = new Cancellation();
    expect((await run(nodes, [put("a"), get("a")], { cancellation })).map(word)).toEqual([
      ...["created", "v"],
    ]);
    nodes.intercept = () => "never";
    const batch = run(nodes, [put("a"), get("a"), put("b"), get("c")], { cancellation });
    cancellation.cancel();
    expect((await batch).map(word)).toEqual([
      ...["CANCELLED unknown", "CANCELLED not_applied", "CANCELLED unknown", "CANCELLED undefined"],
    ]);
    expect(nodes.cancelled).toHaveLength(3);
    const later = await run(nodes, [put("a"), get("b")], { cancellation });
    expect(later.map(word)).toEqual(["CANCELLED not_applied", "CANCELLED not_applied"]);
  });

  it("fails what a result does not fit", async () => {
    const nodes = new MemoryNodes();
    nodes.intercept = ({ body }) =>
      body.kind === "write" ? { kind: "write", applied: true, mutations: [] } : undefined;
    const outcomes = await run(nodes, [put("a"), { kind: "put", ...rest("b") }]);
    expect(outcomes.map(word)).toEqual(["INTERNAL unknown", "INTERNAL unknown"]);
  });
});

const rest = (key: string) => ({
  ...{ key: utf8(key), value: EMPTY_BYTES, contentType: "", ttlMs: 0 },
});
