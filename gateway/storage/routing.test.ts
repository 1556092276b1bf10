/** Where `StorageClient` sends calls while leaders, nodes and maps change. */
import { describe, expect, it } from "vitest";
import type { Operation, ResultBody } from "#proto/codec/messages.ts";
import { ManualClock } from "#shared/clock.ts";
import {
  type ClusterMap,
  type ClusterNode,
  fullyReplicatedMap,
  type Placement,
  type ReplicaRole,
} from "#shared/cluster-map.ts";
import { type NodeId, replicaIdOf, toNodeId } from "#shared/ids.ts";
import {
  STORAGE_BYTES_BETWEEN_ATTEMPTS_MAX,
  STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { StorageClient } from "./client.ts";
import {
  absent,
  BACKOFF_PASSED_MS,
  doubtful,
  errorOf,
  FakeChannel,
  input,
  key,
  notLeader,
  refused,
  stored,
  testNode,
} from "./testing.ts";

type MapOptions = {
  readonly version: number;
  readonly nodes?: readonly ClusterNode[];
  /** Of every vshard. */
  readonly replicas?: readonly (readonly [number, ReplicaRole])[];
  readonly preferred?: number;
};

/** By default three nodes, each with a voter of every vshard; node 1 is preferred as leader. */
function mapOf(options: MapOptions): ClusterMap {
  const nodes = options.nodes ?? [testNode(1), testNode(2), testNode(3)];
  const replicas =
    options.replicas ?? nodes.map(({ id }): readonly [number, ReplicaRole] => [id, "voter"]);
  const placed = (placement: Placement): Placement => ({
    ...placement,
    replicas: replicas.map(([id, role]) => ({ replica: replicaIdOf(toNodeId(id), 0), role })),
    preferredLeader: toNodeId(options.preferred ?? 1),
  });
  const map = fullyReplicatedMap("test", nodes);
  return { ...map, version: options.version, placements: map.placements.map(placed) };
}

function setUp(map: ClusterMap | "none" = mapOf({ version: 1 })) {
  const clock = new ManualClock();
  /** Every channel there has been, oldest first. */
  const opened: { readonly address: string; readonly channel: FakeChannel }[] = [];
  let unknownNodes = 0;
  const client = new StorageClient({
    connect: ({ address }) => {
      const channel = new FakeChannel();
      opened.push({ address, channel });
      return channel;
    },
    clock,
    random: new SeededRandom(1),
    onUnknownNode: () => unknownNodes++,
    whyNoMap: () => "nobody gave a map",
  });
  if (map !== "none") client.setMap(map);
  const to = (node: number, address = `node-${node}:1`): FakeChannel =>
    opened.findLast((one) => one.address === address)!.channel;
  return {
    clock,
    client,
    to,
    opened,
    unknownNodes: () => unknownNodes,
    put: (deadlineMs = 5_000) => client.put(key, input, { deadlineMs: clock.nowMs() + deadlineMs }),
    get: (maxStalenessMs = 0, deadlineMs = 5_000) =>
      client.get(key, { deadlineMs: clock.nowMs() + deadlineMs, maxStalenessMs }),
    counts: () => [1, 2, 3].map((node) => to(node).sent.length),
  };
}

describe("StorageClient and leaders", () => {
  it("asks the preferred leader first, or the first voter when none is", async () => {
    const one = setUp(mapOf({ version: 1, preferred: 2 }));
    one.put().catch(() => {});
    expect(one.counts()).toEqual([0, 1, 0]);
    const replicas = [
      [1, "learner"],
      [2, "leaving"],
      [3, "voter"],
    ] as const;
    const other = setUp(mapOf({ version: 1, preferred: 0, replicas }));
    other.put().catch(() => {});
    expect(other.counts()).toEqual([0, 0, 1]);
  });

  it("follows the leader's hint at once, and remembers it", async () => {
    const { to, put, counts } = setUp();
    const first = put();
    to(1).answer(notLeader(3));
    to(3).answer(stored);
    expect(await first).toMatchObject({ kind: "stored" });
    put().catch(() => {});
    expect(counts()).toEqual([1, 0, 2]);
  });

  it("remembers who answered, also without a hint", async () => {
    const { clock, to, put, counts } = setUp();
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
    const { clock, to, put, opened } = setUp(mapOf({ version: 1, nodes, replicas }));
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
    const { clock, to, put, counts } = setUp();
    put().catch(() => {});
    to(1).answer(notLeader(2));
    to(2).answer(notLeader(1));
    to(1).answer(notLeader(2));
    expect(counts()).toEqual([2, 1, 0]);
    clock.advance(BACKOFF_PASSED_MS);
    expect(counts()).toEqual([2, 2, 0]);
  });

  it("waits for the leader of an election, within the deadline and without an error", async () => {
    const { clock, to, put } = setUp();
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
    const { to, put, counts } = setUp();
    to(1).ready = false;
    const write = put();
    expect(counts()).toEqual([0, 1, 0]);
    to(2).answer(stored);
    await write;
  });

  it("sends what was in flight again, with its request id, and resolves the doubt", async () => {
    const { clock, to, put } = setUp();
    const write = put();
    to(1).ready = false;
    to(1).answer(doubtful("UNAVAILABLE"));
    clock.advance(20);
    expect(to(2).sent[0]!.operation.body).toBe(to(1).sent[0]!.operation.body);
    to(2).answer(stored);
    expect(await write).toMatchObject({ kind: "stored", revision: 5 });
  });

  it("does not follow a hint to a node that it cannot reach", () => {
    const { clock, to, put, counts } = setUp();
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
    const { to, put, counts } = setUp();
    to(1).ready = false;
    put().catch(() => {});
    to(1).ready = true;
    to(2).answer(notLeader(1));
    to(1).answer(stored);
    put().catch(() => {});
    expect(counts()).toEqual([2, 1, 0]);
  });

  it("keeps the doubt about a copy that a lost node may have applied", async () => {
    const { clock, to, put } = setUp();
    const failed = errorOf(put());
    to(1).answer(doubtful("UNAVAILABLE"));
    clock.advance(BACKOFF_PASSED_MS);
    to(2).answer(refused("STORAGE_FULL"));
    expect(await failed).toMatchObject({ code: "STORAGE_FULL", outcome: "unknown" });
  });

  it("says that storage is unavailable when nobody can be reached until the deadline", async () => {
    const { clock, to, put } = setUp();
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
    const { clock, client, to, put } = setUp("none");
    const write = put();
    clock.advance(1_000);
    client.setMap(mapOf({ version: 1 }));
    clock.advance(BACKOFF_PASSED_MS);
    to(1).answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("says why there is none when the deadline comes first", async () => {
    const { clock, put, client } = setUp("none");
    const failed = errorOf(put(100));
    clock.advance(110);
    const error = await failed;
    expect(error).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
    expect(error.message).toContain("nobody gave a map");
    expect(client.readiness()).toEqual({ ready: false, reason: "nobody gave a map" });
  });

  it("is ready with a map and one stream", () => {
    const { client, to } = setUp();
    to(1).ready = false;
    to(2).ready = false;
    expect(client.readiness()).toEqual({ ready: true, reason: "" });
    to(3).ready = false;
    expect(client.readiness()).toEqual({ ready: false, reason: "down" });
  });

  it("ignores a map that is not newer", () => {
    const { client, opened } = setUp(mapOf({ version: 4 }));
    client.setMap(mapOf({ version: 3, nodes: [testNode(9)] }));
    client.setMap(mapOf({ version: 4, nodes: [testNode(9)] }));
    expect(opened.map(({ address }) => address)).toEqual(["node-1:1", "node-2:1", "node-3:1"]);
    expect(client.map?.version).toBe(4);
  });

  it("keeps a leader that it learned, and forgets one that holds no replica any more", () => {
    const { client, to, put, counts } = setUp();
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
    const { client, put, counts } = setUp();
    client.setMap(mapOf({ version: 2, preferred: 3 }));
    put().catch(() => {});
    expect(counts()).toEqual([0, 0, 1]);
  });

  it("lets calls to a node that left finish, and closes its channel", async () => {
    const { client, to, put } = setUp();
    const write = put();
    const left = to(1);
    client.setMap(mapOf({ version: 2, nodes: [testNode(2), testNode(3)], preferred: 2 }));
    expect(left.closed).toBe(true);
    expect(client.isReachable(1 as NodeId)).toBe(false);
    left.answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("sends calls elsewhere that broke off with the channel of a node that left", async () => {
    const { clock, client, to, put } = setUp();
    const write = put();
    const left = to(1);
    client.setMap(mapOf({ version: 2, nodes: [testNode(2), testNode(3)], preferred: 3 }));
    left.answer(doubtful("UNAVAILABLE"));
    clock.advance(20);
    to(3).answer(stored);
    expect(await write).toMatchObject({ kind: "stored" });
  });

  it("can still cancel a call at a node that left", async () => {
    const { clock, client, to, put } = setUp();
    const failed = errorOf(put(1_000));
    const left = to(1);
    client.setMap(mapOf({ version: 2, nodes: [testNode(2)], preferred: 2 }));
    clock.advance(1_010);
    expect(left.cancelled).toEqual([left.sent[0]!.operation.callId]);
    expect(await failed).toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "unknown" });
  });

  it("opens another channel to a node that moved", () => {
    const { client, to, opened, put } = setUp();
    const old = to(1);
    const nodes = [testNode(1, "elsewhere:2"), testNode(2), testNode(3)];
    client.setMap(mapOf({ version: 2, nodes }));
    expect(old.closed).toBe(true);
    put().catch(() => {});
    expect([old.sent.length, to(1, "elsewhere:2").sent.length]).toEqual([0, 1]);
    expect(opened.length).toBe(4);
  });

  it("waits for the map when it is pointed to a node that it does not know", async () => {
    const { clock, client, to, put, unknownNodes } = setUp();
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
    const { client, opened } = setUp();
    client.setMap(mapOf({ version: 2, nodes: [testNode(2)], preferred: 2 }));
    await client.close(100);
    expect(opened.every(({ channel }) => channel.closed)).toBe(true);
    client.setMap(mapOf({ version: 3 }));
    expect(opened.length).toBe(3);
  });
});

describe("StorageClient and stale reads", () => {
  it("spreads them over the replicas", async () => {
    const { to, get, counts } = setUp();
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    for (let i = 0; i < 9; i++) expect(await get(5_000)).toBe(undefined);
    expect(counts()).toEqual([3, 3, 3]);
  });

  it("does not take a replica that answered for the leader", async () => {
    const { to, get, put, counts } = setUp();
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    for (let i = 0; i < 3; i++) await get(5_000);
    to(1).auto = undefined;
    put().catch(() => {});
    expect(counts()).toEqual([2, 1, 1]);
  });

  it("tries the others at once when one lags too far or cannot answer, then the leader", async () => {
    const { clock, to, get, counts } = setUp();
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
    const { to, get, counts } = setUp(mapOf({ version: 1, preferred: 2, replicas }));
    to(2).ready = false;
    for (const node of [1, 2, 3]) to(node).auto = () => absent;
    for (let i = 0; i < 4; i++) await get(5_000);
    expect(counts()).toEqual([0, 0, 4]);
    to(3).ready = false;
    await get(5_000);
    expect(counts()).toEqual([1, 0, 4]);
  });

  it("keeps to the deadline when every replica refuses", async () => {
    const { clock, to, get } = setUp();
    for (const node of [1, 2, 3]) to(node).auto = () => notLeader(0);
    const failed = errorOf(get(5_000, 1_000));
    clock.advance(1_010);
    expect(await failed).toMatchObject({ code: "NOT_LEADER", outcome: undefined });
  });
});

describe("StorageClient's waiting room", () => {
  const leaderless = (body: ResultBody) => {
    const test = setUp();
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
      const { clock, client, to, put } = setUp();
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
