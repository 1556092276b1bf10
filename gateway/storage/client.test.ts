/** What `StorageClient` says of a call, over a channel and a clock that the tests command. */
import { describe, expect, it } from "vitest";
import type { ResultBody } from "#proto/codec/messages.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap } from "#shared/cluster-map.ts";
import type { ErrorCode, WriteOutcome } from "#shared/errors.ts";
import type { Revision } from "#shared/ids.ts";
import { STORAGE_CALLS_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { Cancellation } from "./cancellation.ts";
import { StorageClient } from "./client.ts";
import {
  absent,
  BACKOFF_PASSED_MS,
  doubtful,
  errorOf,
  FakeChannel,
  input,
  key,
  refused,
  stored,
  testNode,
} from "./testing.ts";

/** One node that leads everything. */
function setUp() {
  const clock = new ManualClock();
  const channel = new FakeChannel();
  const client = new StorageClient({
    map: fullyReplicatedMap("test", [testNode(1)]),
    connect: () => channel,
    clock,
    random: new SeededRandom(1),
  });
  return { clock, client, channel };
}

type Step =
  /** The attempt in flight is answered; the next one is waited for unless it is the last step. */
  | { readonly answer: ResultBody }
  | {
      readonly end: "deadline" | "deadlineBeforeLeaving" | "abort" | "abortBeforeLeaving" | "close";
    };

const CASES: readonly (readonly [string, readonly Step[], ErrorCode, WriteOutcome])[] = [
  ["refused", [{ answer: refused("OVERLOADED") }], "OVERLOADED", "not_applied"],
  ["refused for space", [{ answer: refused("STORAGE_FULL") }], "STORAGE_FULL", "not_applied"],
  ["failed in doubt", [{ answer: doubtful("INTERNAL") }], "INTERNAL", "unknown"],
  [
    "a code of a later version",
    [{ answer: { ...doubtful("INTERNAL"), code: 9_999 } }],
    "INTERNAL",
    "unknown",
  ],
  [
    "refused after a refused copy",
    [{ answer: refused("NOT_LEADER") }, { answer: refused("OVERLOADED") }],
    "OVERLOADED",
    "not_applied",
  ],
  [
    "refused after a copy in doubt",
    [{ answer: doubtful("UNAVAILABLE") }, { answer: refused("OVERLOADED") }],
    "OVERLOADED",
    "unknown",
  ],
  [
    "refused after a copy in doubt and a refused one",
    [
      { answer: doubtful("NOT_LEADER") },
      { answer: refused("NOT_LEADER") },
      { answer: refused("STORAGE_FULL") },
    ],
    "STORAGE_FULL",
    "unknown",
  ],
  [
    "too late by log time after a copy in doubt",
    [{ answer: doubtful("UNAVAILABLE") }, { answer: refused("DEADLINE_EXCEEDED") }],
    "DEADLINE_EXCEEDED",
    "unknown",
  ],
  ["never answered", [{ end: "deadline" }], "DEADLINE_EXCEEDED", "unknown"],
  ["never sent", [{ end: "deadlineBeforeLeaving" }], "DEADLINE_EXCEEDED", "not_applied"],
  [
    "never sent after a refused copy",
    [{ answer: refused("UNAVAILABLE") }, { end: "deadlineBeforeLeaving" }],
    "DEADLINE_EXCEEDED",
    "not_applied",
  ],
  [
    "never sent after a copy in doubt",
    [{ answer: doubtful("UNAVAILABLE") }, { end: "deadlineBeforeLeaving" }],
    "DEADLINE_EXCEEDED",
    "unknown",
  ],
  ["cancelled in flight", [{ end: "abort" }], "CANCELLED", "unknown"],
  ["cancelled before it left", [{ end: "abortBeforeLeaving" }], "CANCELLED", "not_applied"],
  ["cut off by close", [{ end: "close" }], "UNAVAILABLE", "unknown"],
];

describe("StorageClient.put()", () => {
  it.each(CASES)("%s: says so with its outcome", async (_, steps, code, outcome) => {
    const { clock, client, channel } = setUp();
    const cancellation = new Cancellation();
    const deadlineMs = clock.nowMs() + 5_000;
    const failed = errorOf(client.put(key, input, { deadlineMs, cancellation }));
    for (const [i, step] of steps.entries()) {
      expect(channel.sent.length).toBe(i + 1);
      if ("answer" in step) {
        channel.answer(step.answer);
        clock.advance(BACKOFF_PASSED_MS);
        continue;
      }
      channel.neverLeft = step.end.endsWith("BeforeLeaving");
      if (step.end.startsWith("deadline")) clock.advance(5_010);
      else if (step.end.startsWith("abort")) cancellation.cancel();
      else {
        const closed = client.close(100);
        clock.advance(100);
        await closed;
      }
      expect(channel.cancelled).toEqual([channel.sent.at(-1)!.operation.callId]);
    }
    expect(await failed).toMatchObject({ code, outcome });
    // Nothing happens any more, whatever comes later.
    const attempts = channel.sent.length;
    channel.answer(stored);
    clock.advance(10_000);
    expect(channel.sent.length).toBe(attempts);
  });

  it("sends every copy with one request id and one deadline, under its own call id", async () => {
    const { clock, client, channel } = setUp();
    const deadlineMs = clock.nowMs() + 5_000;
    const put = client.put(key, input, { deadlineMs });
    channel.answer(doubtful("UNAVAILABLE"));
    clock.advance(BACKOFF_PASSED_MS);
    channel.answer(refused("NOT_LEADER"));
    clock.advance(BACKOFF_PASSED_MS);
    channel.answer(stored);
    expect(await put).toEqual({ kind: "stored", revision: 5, created: true });
    const operations = channel.sent.map(({ operation }) => operation);
    expect(operations.length).toBe(3);
    for (const { body, deadlineMs: theirs } of operations) {
      expect(body).toEqual(operations[0]!.body);
      expect(theirs).toBe(deadlineMs);
    }
    expect(new Set(operations.map(({ callId }) => callId)).size).toBe(3);
    client.put(key, input, { deadlineMs }).catch(() => {});
    const [first, other] = [operations[0]!.body, channel.sent.at(-1)!.operation.body];
    if (first.kind !== "write" || other.kind !== "write") throw new Error("writes were expected");
    expect(other.command.requestId).not.toEqual(first.command.requestId);
  });

  it("waits between attempts, and longer each time", async () => {
    const { clock, client, channel } = setUp();
    const failed = errorOf(client.put(key, input, { deadlineMs: clock.nowMs() + 2_000 }));
    let sent = 0;
    while (clock.monotonicMs() < 2_010) {
      if (channel.sent.length > sent) {
        sent = channel.sent.length;
        channel.answer(refused("NOT_LEADER"));
        expect(channel.sent.length).toBe(sent);
      }
      clock.advance(1);
    }
    // Storage did answer: the caller hears what, and not that time ran out.
    expect(await failed).toMatchObject({ code: "NOT_LEADER", outcome: "not_applied" });
    expect(sent).toBeGreaterThan(8);
    expect(sent).toBeLessThan(40);
  });

  it("does not send after its deadline, or when cancelled before", async () => {
    const { clock, client, channel } = setUp();
    const late = errorOf(client.put(key, input, { deadlineMs: clock.nowMs() }));
    expect(await late).toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "not_applied" });
    const cancellation = new Cancellation();
    cancellation.cancel();
    const options = { deadlineMs: clock.nowMs() + 100, cancellation };
    const aborted = errorOf(client.put(key, input, options));
    expect(await aborted).toMatchObject({ code: "CANCELLED", outcome: "not_applied" });
    expect(channel.sent).toEqual([]);
  });

  it("keeps its patience when the wall clock jumps", async () => {
    const { clock, client, channel } = setUp();
    const put = client.put(key, input, { deadlineMs: clock.nowMs() + 1_000 });
    clock.jumpWall(3_600_000);
    clock.advance(900);
    channel.answer(stored);
    expect(await put).toMatchObject({ kind: "stored" });
  });

  it("reports a result that does not fit as INTERNAL with unknown outcome", async () => {
    const { clock, client, channel } = setUp();
    const failed = errorOf(client.put(key, input, { deadlineMs: clock.nowMs() + 100 }));
    channel.answer(absent);
    expect(await failed).toMatchObject({ code: "INTERNAL", outcome: "unknown" });
  });

  it("reports a failed condition with the current revision", async () => {
    const { clock, client, channel } = setUp();
    const put = client.put(key, input, { deadlineMs: clock.nowMs() + 100 });
    const result = { status: 2, revision: 8 as Revision, created: false } as const;
    channel.answer({ kind: "write", applied: false, mutations: [result] });
    expect(await put).toEqual({ kind: "conditionFailed", revision: 8 });
  });
});

describe("StorageClient.delete()", () => {
  it.each([
    [1, { kind: "deleted", revision: 8 }],
    [2, { kind: "conditionFailed", revision: 8 }],
    [3, { kind: "notFound" }],
  ] as const)("turns status %d into its outcome", async (status, outcome) => {
    const { clock, client, channel } = setUp();
    const deleted = client.delete(key, undefined, { deadlineMs: clock.nowMs() + 100 });
    const result = { status, revision: 8 as Revision, created: false };
    channel.answer({ kind: "write", applied: true, mutations: [result] });
    expect(await deleted).toEqual(outcome);
  });
});

describe("StorageClient.get()", () => {
  it("gives undefined for an absent key, and retries without outcome", async () => {
    const { clock, client, channel } = setUp();
    const deadlineMs = clock.nowMs() + 1_000;
    const get = client.get(key, { deadlineMs, maxStalenessMs: 7, metadataOnly: true });
    channel.answer(doubtful("UNAVAILABLE"));
    clock.advance(BACKOFF_PASSED_MS);
    channel.answer(absent);
    expect(await get).toBe(undefined);
    expect(channel.sent[1]!.operation.body).toMatchObject({
      kind: "get",
      maxStalenessMs: 7,
      metadataOnly: true,
    });
    const failed = errorOf(client.get(key, { deadlineMs }));
    channel.answer(doubtful("DATA_CORRUPT"));
    expect(await failed).toMatchObject({ code: "DATA_CORRUPT", outcome: undefined });
  });
});

describe("StorageClient", () => {
  it("refuses more than STORAGE_CALLS_MAX calls at once", async () => {
    const { clock, client, channel } = setUp();
    const deadlineMs = clock.nowMs() + 5_000;
    const gets = Array.from({ length: STORAGE_CALLS_MAX }, () => client.get(key, { deadlineMs }));
    const refusal = errorOf(client.put(key, input, { deadlineMs }));
    expect(await refusal).toMatchObject({ code: "OVERLOADED", outcome: "not_applied" });
    for (const { reply } of channel.sent) reply(absent);
    await Promise.all(gets);
    const put = client.put(key, input, { deadlineMs });
    channel.answer(stored);
    expect(await put).toMatchObject({ kind: "stored" });
  });
});

describe("StorageClient.close()", () => {
  it("waits for calls in flight, and refuses new ones", async () => {
    const { clock, client, channel } = setUp();
    const deadlineMs = clock.nowMs() + 5_000;
    const put = client.put(key, input, { deadlineMs });
    const closed = client.close(1_000);
    const refusal = errorOf(client.put(key, input, { deadlineMs }));
    expect(await refusal).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
    expect(channel.closed).toBe(false);
    channel.answer(stored);
    expect(await put).toMatchObject({ kind: "stored" });
    await closed;
    expect(channel.closed).toBe(true);
    expect(client.readiness().ready).toBe(false);
  });
});
