/** `StorageClient`: stale reads, what may wait, and a cluster that changes at random. */
import { describe, expect, it } from "vitest";
import type { Operation, ResultBody } from "#proto/codec/messages.ts";
import {
  STORAGE_BYTES_BETWEEN_ATTEMPTS_MAX,
  STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX,
  STORAGE_RETRIES_PER_SECOND_MAX,
  STORAGE_STALE_ATTEMPT_MS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  absent,
  BACKOFF_PASSED_MS,
  doubtful,
  errorOf,
  input,
  key,
  mapOf,
  notLeader,
  openTestClient,
  refused,
  stored,
} from "./testing.ts";

describe("StorageClient and stale reads", () => {
  it("spreads them over the replicas", async () => {
    const { to, get, counts } = openTestClient();
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    for (let i = 0; i < 9; i++) expect(await get(5_000)).toBe(undefined);
    expect(counts()).toEqual([3, 3, 3]);
  });

  it("does not take a replica that answered for the leader", async () => {
    const { to, get, put, counts } = openTestClient();
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    for (let i = 0; i < 3; i++) await get(5_000);
    to(1).auto = undefined;
    put().catch(() => {});
    expect(counts()).toEqual([2, 1, 1]);
  });

  it("tries the others at once when one lags too far or cannot answer, then the leader", async () => {
    const { clock, to, get, counts } = openTestClient();
    const read = get(5_000);
    to(1).answer(notLeader(0));
    to(2).answer(refused("UNAVAILABLE"));
    to(3).answer(notLeader(1));
    expect(counts()).toEqual([2, 1, 1]);
    to(1).answer(notLeader(3));
    to(3).answer(absent);
    expect(await read).toBe(undefined);
    clock.advance(BACKOFF_PASSED_MS);
    expect(counts()).toEqual([2, 1, 2]);
  });

  it("leaves out replicas that cannot be reached, and asks learners last", async () => {
    const replicas = [
      [1, "learner"],
      [2, "voter"],
      [3, "voter"],
    ] as const;
    const { to, get, counts } = openTestClient(mapOf({ version: 1, preferred: 2, replicas }));
    to(2).ready = false;
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    for (let i = 0; i < 4; i++) await get(5_000);
    expect(counts()).toEqual([0, 0, 4]);
    to(3).ready = false;
    await get(5_000);
    expect(counts()).toEqual([1, 0, 4]);
  });

  it("gives up a replica that does not answer for the next one, and waits for the leader", async () => {
    const { clock, to, get, counts } = openTestClient();
    const read = get(5_000, 20_000);
    const first = to(1).sent[0]!;
    clock.advance(STORAGE_STALE_ATTEMPT_MS_MAX + 10);
    expect(to(1).cancelled).toEqual([first.operation.callId]);
    expect(counts()).toEqual([1, 1, 0]);
    clock.advance(2 * (STORAGE_STALE_ATTEMPT_MS_MAX + 10));
    expect(counts()).toEqual([2, 1, 1]);
    clock.advance(10 * STORAGE_STALE_ATTEMPT_MS_MAX);
    expect(counts()).toEqual([2, 1, 1]);
    to(1).answer(absent);
    expect(await read).toBe(undefined);
  });

  it("gets to the leader before a near deadline, however many replicas say nothing", async () => {
    const { clock, to, get, counts } = openTestClient();
    const read = get(5_000, STORAGE_STALE_ATTEMPT_MS_MAX / 2);
    for (let waitedMs = 0; waitedMs < STORAGE_STALE_ATTEMPT_MS_MAX / 2 - 20; waitedMs += 10) {
      clock.advance(10);
    }
    expect(counts()).toEqual([2, 1, 1]);
    to(1).answer(absent);
    expect(await read).toBe(undefined);
  });

  it("keeps to the deadline when every replica refuses", async () => {
    const { clock, to, get } = openTestClient();
    for (const node of [1, 2, 3]) to(node).auto = () => notLeader(0);
    const failed = errorOf(get(5_000, 1_000));
    clock.advance(1_010);
    expect(await failed).toMatchObject({ code: "NOT_LEADER", outcome: undefined });
  });
});

describe("StorageClient's waiting room", () => {
  const leaderless = (body: ResultBody) => {
    const test = openTestClient();
    for (const node of [1, 2, 3]) test.to(node).auto = () => body;
    return test;
  };

  it("bounds calls that wait for a leader, and tells the rest at once", async () => {
    const { clock, put, to } = leaderless(notLeader(0));
    const waiting = Array.from({ length: STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX }, () => put());
    expect(await errorOf(put())).toMatchObject({ code: "NOT_LEADER", outcome: "not_applied" });
    // A vshard that has a leader does not feel it: its calls do not wait between attempts.
    to(1).auto = () => stored;
    expect(await put()).toMatchObject({ kind: "stored" });
    clock.advance(2 * BACKOFF_PASSED_MS);
    for (const outcome of await Promise.all(waiting)) expect(outcome.kind).toBe("stored");
    to(1).auto = () => notLeader(0);
    put().catch(() => {});
    to(1).auto = () => stored;
    clock.advance(BACKOFF_PASSED_MS);
  });

  it("asks less often the more calls wait", () => {
    const attemptsIn = (count: number): number => {
      const { clock, put, counts } = leaderless(notLeader(0));
      for (let i = 0; i < count; i++) put(60_000).catch(() => {});
      clock.advance(2_000);
      const before = counts().reduce((sum, sent) => sum + sent, 0);
      clock.advance(2_000);
      return counts().reduce((sum, sent) => sum + sent, 0) - before;
    };
    const [few, many] = [attemptsIn(10) / 10, attemptsIn(4_000) / 4_000];
    expect(few).toBeGreaterThan(3 * many);
    expect(4_000 * many).toBeLessThan(4 * STORAGE_RETRIES_PER_SECOND_MAX);
  });

  it("bounds the bytes that wait", async () => {
    const { client, clock } = leaderless(notLeader(0));
    const deadlineMs = clock.nowMs() + 1_000;
    const large = { ...input, value: new Uint8Array(VALUE_SIZE_BYTES_MAX) };
    const fitting = Math.floor(STORAGE_BYTES_BETWEEN_ATTEMPTS_MAX / (VALUE_SIZE_BYTES_MAX + 200));
    const waiting = Array.from({ length: fitting }, () =>
      errorOf(client.put(key, large, { deadlineMs })),
    );
    const refusal = await errorOf(client.put(key, large, { deadlineMs }));
    expect(refusal.message).toContain("too many calls wait");
    clock.advance(1_010);
    for (const error of await Promise.all(waiting)) {
      expect(error.message).toContain("until the deadline");
    }
  });

  it("keeps the doubt of a call that finds no room", async () => {
    const { put, to } = leaderless(notLeader(0));
    for (let i = 0; i < STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX; i++) put().catch(() => {});
    to(1).auto = () => doubtful("NOT_LEADER");
    to(2).auto = () => doubtful("NOT_LEADER");
    to(3).auto = () => doubtful("NOT_LEADER");
    expect(await errorOf(put())).toMatchObject({ code: "NOT_LEADER", outcome: "unknown" });
  });
});

describe("StorageClient in a cluster that changes at random", () => {
  it.each(Array.from({ length: 30 }, (_, seed) => seed))(
    "answers every call while somebody leads and can be reached (seed %d)",
    async (seed) => {
      const random = new SeededRandom(seed);
      const { clock, client, to, put } = openTestClient();
      let version = 1;
      let leader = 1;
      let down = 0;
      const applied = new Set<string>();
      /** One request id counts once, whatever becomes of its answer. */
      const behave =
        (node: number) =>
        (operation: Operation): ResultBody => {
          if (node === down) return refused("UNAVAILABLE");
          if (node !== leader) return notLeader(random.below(4) === 0 ? random.below(6) : leader);
          if (operation.body.kind !== "write") return absent;
          applied.add(Buffer.from(operation.body.command.requestId).toString("hex"));
          return random.below(3) === 0 ? doubtful("UNAVAILABLE") : stored;
        };
      const writes: Promise<unknown>[] = [];
      for (let step = 0; step < 60; step++) {
        if (random.below(4) === 0) leader = 1 + random.below(3);
        if (random.below(4) === 0) down = random.below(4);
        if (down === leader) leader = (leader % 3) + 1;
        if (random.below(8) === 0)
          client.setMap(mapOf({ version: ++version, preferred: 1 + random.below(3) }));
        for (const node of [1, 2, 3]) {
          to(node).ready = node !== down;
          to(node).auto = behave(node);
        }
        writes.push(put(60_000));
        clock.advance(random.below(100));
      }
      clock.advance(5_000);
      const outcomes = await Promise.all(writes);
      expect(outcomes.length).toBe(60);
      expect(applied.size).toBe(60);
    },
  );
});
