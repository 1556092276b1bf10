/** Where `StorageClient` sends calls while leaders, nodes and maps change. */
import { describe, expect, it } from "vitest";
import type { NodeId } from "#shared/ids.ts";
import { STORAGE_TIMER_GRANULARITY_MS } from "#shared/limits.ts";
import {
  BACKOFF_PASSED_MS,
  doubtful,
  errorOf,
  mapOf,
  notLeader,
  openTestClient,
  refused,
  stored,
  testNode,
} from "./testing.ts";

describe("StorageClient and leaders", () => {
  it("asks the preferred leader first, or the first voter when none is", async () => {
    const one = openTestClient(mapOf({ version: 1, preferred: 2 }));
    one.put().catch(() => {});
    expect(one.counts()).toEqual([0, 1, 0]);
    const replicas = [
      [1, "learner"],
      [2, "leaving"],
      [3, "voter"],
    ] as const;
    const other = openTestClient(mapOf({ version: 1, preferred: 0, replicas }));
    other.put().catch(() => {});
    expect(other.counts()).toEqual([0, 0, 1]);
  });

  it("follows the leader's hint at once, and remembers it", async () => {
    const { to, put, counts } = openTestClient();
    const first = put();
    to(1).answer(notLeader(3));
    to(3).answer(stored);
    expect(await first).toMatchObject({ kind: "stored" });
    put().catch(() => {});
    expect(counts()).toEqual([1, 0, 2]);
  });

  it("remembers who answered, also without a hint", async () => {
    const { clock, to, put, counts } = openTestClient();
    const first = put();
    to(1).answer(notLeader(0));
    clock.advance(BACKOFF_PASSED_MS);
    to(2).answer(stored);
    await first;
    put().catch(() => {});
    expect(counts()).toEqual([1, 2, 0]);
  });

  it("asks voters before replicas that are leaving, and those before learners", () => {
    const nodes = [1, 2, 3, 4].map((id) => testNode(id));
    const replicas = [
      [4, "learner"],
      [3, "leaving"],
      [1, "voter"],
      [2, "voter"],
    ] as const;
    const { clock, to, put, opened } = openTestClient(mapOf({ version: 1, nodes, replicas }));
    put(10_000).catch(() => {});
    const order: number[] = [];
    for (let i = 0; i < 5; i++) {
      const asked = [1, 2, 3, 4].find(
        (node) => to(node).sent.length > order.filter((n) => n === node).length,
      )!;
      order.push(asked);
      to(asked).answer(notLeader(0));
      clock.advance(BACKOFF_PASSED_MS);
    }
    expect(order).toEqual([1, 2, 3, 4, 1]);
    expect(opened.length).toBe(4);
  });

  it("backs off when two nodes point at each other", () => {
    const { clock, to, put, counts } = openTestClient();
    put().catch(() => {});
    to(1).answer(notLeader(2));
    to(2).answer(notLeader(1));
    to(1).answer(notLeader(2));
    expect(counts()).toEqual([2, 1, 0]);
    clock.advance(BACKOFF_PASSED_MS);
    expect(counts()).toEqual([2, 2, 0]);
  });

  it("does not wait longer once another call has found the leader", async () => {
    const { clock, to, put, counts } = openTestClient();
    for (const node of [1, 2, 3]) to(node).auto = () => notLeader(0);
    const waiting = [put(10_000), put(10_000)];
    // Both have waited long, and would go on with their longest back-off.
    clock.advance(2_000);
    to(2).auto = () => stored;
    const before = counts()[1]!;
    while (counts()[1] === before) clock.advance(1);
    clock.advance(STORAGE_TIMER_GRANULARITY_MS);
    for (const outcome of await Promise.all(waiting)) expect(outcome.kind).toBe("stored");
    expect(counts()[1]).toBe(before + 2);
  });

  it("waits for the leader of an election, within the deadline and without an error", async () => {
    const { clock, to, put } = openTestClient();
    const write = put(10_000);
    for (const node of [1, 2, 3]) to(node).auto = () => notLeader(0);
    to(1).answer(notLeader(0));
    clock.advance(4_000);
    to(2).auto = () => stored;
    clock.advance(2 * BACKOFF_PASSED_MS);
    expect(await write).toMatchObject({ kind: "stored" });
  });
});

describe("StorageClient and broken channels", () => {
  it("goes to the next replica at once, without asking the one it cannot reach", async () => {
    const { to, put, counts } = openTestClient();
    to(1).ready = false;
    const write = put();
    expect(counts()).toEqual([0, 1, 0]);
    to(2).answer(stored);
    await write;
  });

  it("sends what was in flight again, with its request id, and resolves the doubt", async () => {
    const { clock, to, put } = openTestClient();
    const write = put();
    to(1).ready = false;
    to(1).answer(doubtful("UNAVAILABLE"));
    clock.advance(20);
    expect(to(2).sent[0]!.operation.body).toBe(to(1).sent[0]!.operation.body);
    to(2).answer(stored);
    expect(await write).toMatchObject({ kind: "stored", revision: 5 });
  });

  it("does not follow a hint to a node that it cannot reach", () => {
    const { clock, to, put, counts } = openTestClient();
    to(1).ready = false;
    put().catch(() => {});
    to(2).answer(notLeader(1));
    clock.advance(20);
    expect(counts()).toEqual([0, 1, 1]);
    to(3).answer(notLeader(1));
    clock.advance(30);
    expect(counts()).toEqual([0, 2, 1]);
  });

  it("comes back to a leader whose stream is up again", async () => {
    const { to, put, counts } = openTestClient();
    to(1).ready = false;
    put().catch(() => {});
    to(1).ready = true;
    to(2).answer(notLeader(1));
    to(1).answer(stored);
    put().catch(() => {});
    expect(counts()).toEqual([2, 1, 0]);
  });

  it("keeps the doubt about a copy that a lost node may have applied", async () => {
    const { clock, to, put } = openTestClient();
    const failed = errorOf(put());
    to(1).answer(doubtful("UNAVAILABLE"));
    clock.advance(BACKOFF_PASSED_MS);
    to(2).answer(refused("STORAGE_FULL"));
    expect(await failed).toMatchObject({ code: "STORAGE_FULL", outcome: "unknown" });
  });

  it("says that storage is unavailable when nobody can be reached until the deadline", async () => {
    const { clock, to, put } = openTestClient();
    for (const node of [1, 2, 3]) {
      to(node).ready = false;
      to(node).auto = () => refused("UNAVAILABLE");
    }
    const failed = errorOf(put(1_000));
    clock.advance(1_010);
    expect(await failed).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
  });
});

describe("StorageClient and maps", () => {
  it("waits for the first map", async () => {
    const { clock, client, to, put } = openTestClient("none");
    const write = put();
    clock.advance(1_000);
    client.setMap(mapOf({ version: 1 }));
    clock.advance(BACKOFF_PASSED_MS);
    to(1).answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("says why there is none when the deadline comes first", async () => {
    const { clock, put, client } = openTestClient("none");
    const failed = errorOf(put(100));
    clock.advance(110);
    const error = await failed;
    expect(error).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
    expect(error.message).toContain("nobody gave a map");
    expect(client.readiness()).toEqual({ ready: false, reason: "nobody gave a map" });
  });

  it("is ready with a map and one stream", () => {
    const { client, to } = openTestClient();
    to(1).ready = false;
    to(2).ready = false;
    expect(client.readiness()).toEqual({ ready: true, reason: "" });
    to(3).ready = false;
    expect(client.readiness()).toEqual({ ready: false, reason: "down" });
  });

  it("ignores a map that is not newer", () => {
    const { client, opened } = openTestClient(mapOf({ version: 4 }));
    client.setMap(mapOf({ version: 3, nodes: [testNode(9)] }));
    client.setMap(mapOf({ version: 4, nodes: [testNode(9)] }));
    expect(opened.map(({ address }) => address)).toEqual(["node-1:1", "node-2:1", "node-3:1"]);
    expect(client.map?.version).toBe(4);
  });

  it("keeps a leader that it learned, and forgets one that holds no replica any more", () => {
    const { client, to, put, counts } = openTestClient();
    put().catch(() => {});
    to(1).answer(notLeader(3));
    to(3).answer(stored);
    client.setMap(mapOf({ version: 2, preferred: 2 }));
    put().catch(() => {});
    expect(counts()).toEqual([1, 0, 2]);
    const replicas = [
      [1, "voter"],
      [2, "voter"],
    ] as const;
    client.setMap(mapOf({ version: 3, preferred: 2, replicas }));
    put().catch(() => {});
    expect(counts()).toEqual([1, 1, 2]);
  });

  it("follows the preferred leader of a newer map while it has learned nothing better", () => {
    const { client, put, counts } = openTestClient();
    client.setMap(mapOf({ version: 2, preferred: 3 }));
    put().catch(() => {});
    expect(counts()).toEqual([0, 0, 1]);
  });

  it("lets calls to a node that left finish, and closes its channel", async () => {
    const { client, to, put } = openTestClient();
    const write = put();
    const left = to(1);
    client.setMap(mapOf({ version: 2, nodes: [testNode(2), testNode(3)], preferred: 2 }));
    expect(left.closed).toBe(true);
    expect(client.isReachable(1 as NodeId)).toBe(false);
    left.answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("sends calls elsewhere that broke off with the channel of a node that left", async () => {
    const { clock, client, to, put } = openTestClient();
    const write = put();
    const left = to(1);
    client.setMap(mapOf({ version: 2, nodes: [testNode(2), testNode(3)], preferred: 3 }));
    left.answer(doubtful("UNAVAILABLE"));
    clock.advance(20);
    to(3).answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("can still cancel a call at a node that left", async () => {
    const { clock, client, to, put } = openTestClient();
    const failed = errorOf(put(1_000));
    const left = to(1);
    client.setMap(mapOf({ version: 2, nodes: [testNode(2)], preferred: 2 }));
    clock.advance(1_010);
    expect(left.cancelled).toEqual([left.sent[0]!.operation.callId]);
    expect(await failed).toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "unknown" });
  });

  it("opens another channel to a node that moved", () => {
    const { client, to, opened, put } = openTestClient();
    const old = to(1);
    const nodes = [testNode(1, "elsewhere:2"), testNode(2), testNode(3)];
    client.setMap(mapOf({ version: 2, nodes }));
    expect(old.closed).toBe(true);
    put().catch(() => {});
    expect([old.sent.length, to(1, "elsewhere:2").sent.length]).toEqual([0, 1]);
    expect(opened.length).toBe(4);
  });

  it("waits for the map when it is pointed to a node that it does not know", async () => {
    const { clock, client, to, put, unknownNodes } = openTestClient();
    for (const node of [1, 2, 3]) to(node).auto = () => notLeader(4);
    const write = put();
    clock.advance(1_000);
    expect(unknownNodes()).toBeGreaterThan(0);
    const nodes = [1, 2, 3, 4].map((id) => testNode(id));
    client.setMap(mapOf({ version: 2, nodes }));
    clock.advance(BACKOFF_PASSED_MS);
    to(4).answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("closes all channels, those of nodes that left included", async () => {
    const { client, opened } = openTestClient();
    client.setMap(mapOf({ version: 2, nodes: [testNode(2)], preferred: 2 }));
    await client.close(100);
    expect(opened.every(({ channel }) => channel.closed)).toBe(true);
    client.setMap(mapOf({ version: 3 }));
    expect(opened.length).toBe(3);
  });
});
