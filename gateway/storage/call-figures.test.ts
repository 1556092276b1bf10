/** What calls are counted as, and what is said of slow ones. */
import { describe, expect, it } from "vitest";
import { logSlowCalls } from "#gateway/slow-calls.ts";
import { createLogger } from "#shared/runtime/log.ts";
import type { SlowCall } from "./call-figures.ts";
import {
  absent,
  BACKOFF_PASSED_MS,
  errorOf,
  notLeader,
  openTestClient,
  refused,
  stored,
} from "./testing.ts";

/** The counts of a client, as plain objects. */
function countsOf({ client }: ReturnType<typeof openTestClient>) {
  const { cells, retries } = client.figures;
  const outcomes = Object.fromEntries(
    [...cells].map(([kind, cell]) => [kind, Object.fromEntries(cell.outcomes)]),
  );
  return { outcomes, retries };
}

describe("CallFigures", () => {
  it("count a call once, however many attempts it takes, and each attempt by its reason", async () => {
    const test = openTestClient();
    const put = test.put();
    test.to(1).answer(notLeader(2));
    test.to(2).answer(notLeader(0));
    test.clock.advance(BACKOFF_PASSED_MS);
    test.to(3).answer(refused("UNAVAILABLE"));
    test.clock.advance(BACKOFF_PASSED_MS);
    const last = [1, 2, 3]
      .map((node) => test.to(node))
      .find((channel) => channel.sent.length === 2)!;
    last.answer(stored);
    await put;
    expect(countsOf(test)).toEqual({
      outcomes: { put: { ok: 1 } },
      retries: { redirect: 1, not_leader: 1, unavailable: 1, stale_replica: 0 },
    });
    expect(test.client.figures.cells.get("put")!.durations.count).toBe(1);
  });

  it("tell failures by their code, and stale reads that another replica is asked for", async () => {
    const test = openTestClient();
    const failing = errorOf(test.put());
    test.to(1).answer(refused("STORAGE_FULL"));
    await failing;
    const get = test.get(1_000);
    const asked = [1, 2, 3]
      .map((node) => test.to(node))
      .find(({ sent }) => sent.at(-1)?.operation.body.kind === "get");
    asked!.answer(notLeader(0));
    const next = [1, 2, 3]
      .map((node) => test.to(node))
      .find((channel) => channel !== asked && channel.sent.at(-1)?.operation.body.kind === "get");
    next!.answer(absent);
    await get;
    expect(countsOf(test)).toEqual({
      outcomes: { put: { STORAGE_FULL: 1 }, get: { ok: 1 } },
      retries: { redirect: 0, not_leader: 0, unavailable: 0, stale_replica: 1 },
    });
  });
});

describe("slow calls", () => {
  it("are told with where the time went, and without key and value", async () => {
    const test = openTestClient();
    const { clock, client } = test;
    const lines: Record<string, unknown>[] = [];
    const write = (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>);
    const logger = createLogger({ level: "info", program: "test", write });
    const slow = logSlowCalls(client.figures, {
      ...{ clock, logger, edge: { slowOperationMs: 500 } },
      tenantName: () => "acme",
    });
    const put = test.put();
    test.to(1).answer(notLeader(0));
    clock.advance(BACKOFF_PASSED_MS);
    clock.advance(400);
    [1, 2, 3]
      .map((node) => test.to(node))
      .find(({ sent }) => sent.length === 1 && sent !== test.to(1).sent)!
      .answer(stored);
    await put;
    expect(lines).toMatchObject([
      {
        ...{ msg: "slow operation", operation: "put", outcome: "ok", tenant: "acme" },
        ...{ duration_ms: 700, attempts: 2, key_bytes: 3 },
      },
    ]);
    expect(lines[0]!.waited_ms).toBeGreaterThan(0);
    expect(JSON.stringify(lines)).not.toMatch(/"value"|"key"/);
    expect(slow.total).toBe(1);
  });

  it("cost nothing where nothing is slow", async () => {
    const test = openTestClient();
    const told: SlowCall[] = [];
    test.client.figures.onSlow = (call) => told.push(call);
    const put = test.put(60_000);
    test.clock.advance(30_000);
    test.to(1).answer(stored);
    await put;
    expect(told).toEqual([]);
  });
});
