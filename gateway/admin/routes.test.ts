import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, it } from "vitest";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import { GetClusterStatusResponseSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { META_GROUP, toNodeId } from "#shared/ids.ts";
import {
  ADMIN_BODY_SIZE_BYTES_MAX,
  ADMIN_CALLS_MAX,
  ADMIN_STATUS_TIMEOUT_MS_DEFAULT,
  DEADLINE_MS_DEFAULT,
} from "#shared/limits.ts";

let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

const request = (target: string, init: RequestInit = {}) => gateway.app.request(target, init);
const send = (method: string, target: string, body?: unknown, headers = {}) =>
  request(target, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
  });

const map = fullyReplicatedMap("one", [
  {
    id: toNodeId(1),
    address: "a:1",
    zone: "z",
    host: "h",
    state: NodeState.Up,
    capacityBytes: 9,
  },
]);

describe("changes of the cluster", () => {
  it.each([
    ["POST", "/admin/nodes/3/drain", undefined, "drain", { nodeId: 3 }],
    ["DELETE", "/admin/nodes/3/drain", undefined, "cancelDrain", { nodeId: 3 }],
    ["DELETE", "/admin/nodes/12", undefined, "remove", { nodeId: 12 }],
    ["POST", "/admin/nodes", { address: "[::1]:7400" }, "invite", { address: "[::1]:7400" }],
    ["POST", "/admin/vshards/7/transfer", { node: 2 }, "transfer", { group: 7, nodeId: 2 }],
    ["POST", "/admin/vshards/meta/transfer", { node: 2 }, "transfer", { group: META_GROUP }],
    ["POST", "/admin/rebalance", undefined, "rebalance", {}],
    ["POST", "/admin/rebalance", {}, "rebalance", {}],
  ])("%s %s %j asks for %s", async (method, target, body, kind, value) => {
    const response = await send(method, target, body);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(await response.json()).toEqual({ detail: "done", map_version: 7 });
    const [change] = gateway.cluster.changes;
    expect(change!.request.change).toMatchObject({ case: kind, value });
    expect(change!.deadlineMs).toBe(gateway.clock.nowMs() + DEADLINE_MS_DEFAULT);
  });

  it("tells the id of an invited node", async () => {
    gateway.cluster.changeAnswer = { detail: "joins", nodeId: 4 };
    const response = await send("POST", "/admin/nodes", { address: "a:1" });
    expect(await response.json()).toEqual({ detail: "joins", map_version: 0, node_id: 4 });
  });

  it("keeps to Minikv-Timeout", async () => {
    await send("POST", "/admin/rebalance", undefined, { "Minikv-Timeout": "50ms" });
    expect(gateway.cluster.changes[0]!.deadlineMs).toBe(gateway.clock.nowMs() + 50);
  });

  it("passes on why one is refused, and its outcome", async () => {
    const reason = "vshard 7 would lose its quorum";
    gateway.cluster.failure = new KvError("CLUSTER_CONFLICT", reason, { outcome: "not_applied" });
    const response = await send("DELETE", "/admin/nodes/3");
    expect(response.status).toBe(409);
    expect(await problemOf(response)).toMatchObject({
      code: "CLUSTER_CONFLICT",
      detail: reason,
      outcome: "not_applied",
    });
  });

  it("says 503 and when to come back while nobody leads the meta group", async () => {
    gateway.cluster.failure = new KvError("NOT_LEADER", "no leader", { outcome: "unknown" });
    const response = await send("POST", "/admin/rebalance");
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await problemOf(response)).toMatchObject({ outcome: "unknown" });
  });

  it("hides and reports a bug", async () => {
    gateway.cluster.failure = new Error("secret");
    const response = await send("POST", "/admin/rebalance");
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("secret");
    expect(gateway.failures).toHaveLength(1);
  });

  it.each([
    ["POST", "/admin/nodes/0/drain", undefined, 400],
    ["POST", "/admin/nodes/x/drain", undefined, 400],
    ["POST", "/admin/nodes/03/drain", undefined, 400],
    ["POST", "/admin/nodes/1048576/drain", undefined, 400],
    ["POST", "/admin/nodes/3/drain?force=1", undefined, 400],
    ["POST", "/admin/nodes/3/drain", { force: true }, 400],
    ["POST", "/admin/nodes", undefined, 400],
    ["POST", "/admin/nodes", { address: "a" }, 400],
    ["POST", "/admin/nodes", { address: "a:0" }, 400],
    ["POST", "/admin/nodes", { address: "a:1/path" }, 400],
    ["POST", "/admin/nodes", { address: 7 }, 400],
    ["POST", "/admin/nodes", ["a:1"], 400],
    ["POST", "/admin/vshards/256/transfer", { node: 1 }, 400],
    ["POST", "/admin/vshards/-1/transfer", { node: 1 }, 400],
    ["POST", "/admin/vshards/1/transfer", {}, 400],
    ["POST", "/admin/vshards/1/transfer", { node: "a" }, 400],
    ["POST", "/admin/vshards/1/transfer", { node: 1.5 }, 400],
    ["POST", "/admin/nodes", { address: "a".repeat(ADMIN_BODY_SIZE_BYTES_MAX) }, 413],
    ["PUT", "/admin/rebalance", undefined, 405],
    ["GET", "/admin/nodes", undefined, 405],
    ["POST", "/admin/status", undefined, 405],
  ])("refuses %s %s %j with %d", async (method, target, body, status) => {
    const response = await send(method, target, body);
    expect(response.status).toBe(status);
    if (method !== "GET") expect((await problemOf(response)).outcome).toBe("not_applied");
    expect(gateway.cluster.changes).toEqual([]);
  });

  it("takes JSON only", async () => {
    const init = { method: "POST", body: '{"address":"a:1"}' };
    const text = await request("/admin/nodes", {
      ...init,
      headers: { "Content-Type": "text/plain" },
    });
    expect(text.status).toBe(415);
    const headers = { "Content-Type": "application/json; charset=utf-8" };
    expect((await request("/admin/nodes", { ...init, headers })).status).toBe(200);
    const broken = await request("/admin/nodes", { ...init, body: "{", headers });
    expect(broken.status).toBe(400);
  });

  it("are not taken from web pages", async () => {
    const response = await send("POST", "/admin/rebalance", undefined, { Origin: "http://a" });
    expect(response.status).toBe(400);
    expect(gateway.cluster.changes).toEqual([]);
  });

  it("are bounded in number", async () => {
    const gate = Promise.withResolvers<void>();
    gateway.cluster.gate = gate.promise;
    const running = Array.from({ length: ADMIN_CALLS_MAX }, () => send("POST", "/admin/rebalance"));
    await expect.poll(() => gateway.cluster.changes.length).toBe(ADMIN_CALLS_MAX);
    expect(await problemOf(await send("POST", "/admin/rebalance"))).toMatchObject({
      code: "OVERLOADED",
      outcome: "not_applied",
    });
    gate.resolve();
    for (const response of await Promise.all(running)) expect(response.status).toBe(200);
    expect((await send("POST", "/admin/rebalance")).status).toBe(200);
  });
});

describe("GET /admin/status", () => {
  it("shows what the leader of the meta group knows", async () => {
    gateway.cluster.statusAnswer = { map: toMapMessage(map), metaLeaderNodeId: 1 };
    const response = await request("/admin/status");
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      cluster_id: "one",
      source: "meta_leader",
      reason: null,
      meta: { leader: 1 },
      nodes: [{ id: 1, address: "a:1", zone: "z", host: "h", state: "up", answering: false }],
    });
  });

  it("lists the groups when asked to", async () => {
    gateway.cluster.statusAnswer = create(GetClusterStatusResponseSchema, {
      map: toMapMessage(map),
    });
    const groupsOf = async (target: string) =>
      ((await (await request(target)).json()) as { groups?: unknown[] }).groups?.length;
    expect(await groupsOf("/admin/status?groups=1")).toBe(257);
    expect(await groupsOf("/admin/status?groups=0")).toBe(undefined);
    expect((await request("/admin/status?groups=yes")).status).toBe(400);
    expect((await request("/admin/status?group=1")).status).toBe(400);
  });

  it.each(["NOT_LEADER", "UNAVAILABLE", "DEADLINE_EXCEEDED"] as const)(
    "shows what the gateway sees itself when it gets %s",
    async (code) => {
      gateway.cluster.failure = new KvError(code, "nobody leads");
      gateway.cluster.knownMap = map;
      gateway.cluster.reachable.add(1);
      expect(await (await request("/admin/status")).json()).toMatchObject({
        source: "gateway",
        reason: "nobody leads",
        nodes: [{ id: 1, answering: true, leaders: null, used_bytes: null }],
        vshards: { without_leader: null, without_quorum: [] },
      });
      gateway.cluster.reachable.clear();
      const { vshards } = (await (await request("/admin/status")).json()) as {
        vshards: { without_quorum: number[] };
      };
      expect(vshards.without_quorum.length).toBe(256);
    },
  );

  it("fails when not even a map is known", async () => {
    gateway.cluster.failure = new KvError("UNAVAILABLE", "no map");
    const response = await request("/admin/status");
    expect(await problemOf(response)).toMatchObject({ code: "UNAVAILABLE", detail: "no map" });
  });

  it("waits less long than other requests, unless told", async () => {
    expect(ADMIN_STATUS_TIMEOUT_MS_DEFAULT).toBeLessThan(DEADLINE_MS_DEFAULT);
    const headers = { "Minikv-Timeout": "nonsense" };
    expect((await request("/admin/status", { headers })).status).toBe(400);
  });
});
